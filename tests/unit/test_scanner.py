"""The synthetic scanner writes what the headers and volumes read back."""

from datetime import date, datetime

import numpy as np
import pydicom
import pytest

from engines.volume import Grid, Volume
from node.dicom.headers import read_folder, read_instance
from node.dicom.scanner import SeriesPlan, StudyPlan, make_uid, write_dose_report, write_scout, write_series
from node.dicom.volumes import read_volume
from node.study import Acquisition, Patient

STUDY_AT = datetime(2024, 5, 17, 12, 0, 0)


def small_volume() -> Volume:
    rng = np.random.default_rng(88)
    grid = Grid(shape=(6, 8, 10), spacing_mm=(2.5, 1.2345678901, 0.9), origin_mm=(-100.123456, -20.0, 300.5))
    return Volume(array=rng.integers(-1024, 1500, grid.shape).astype(np.int16), grid=grid)


def plan(character_set: str = "ISO_IR 192", **changes) -> SeriesPlan:
    patient = Patient(
        patient_id="P1",
        patient_name="Wang^XiaoDong=王^小东",
        patient_birth_date=date(1961, 2, 3),
        patient_sex="F",
    )
    study = StudyPlan(seed="test", study_at=STUDY_AT, patient=patient, specific_character_set=character_set)
    fields = {"series_number": 3, "acquired_at": datetime(2024, 5, 17, 12, 1, 5)}
    return SeriesPlan(study=study, **(fields | changes))


@pytest.mark.parametrize("character_set", ["ISO_IR 192", "GB18030", "GBK"])
def test_name_of_ps35_annex_k_comes_back_unharmed(tmp_path, character_set):
    paths = write_series(small_volume(), plan(character_set), tmp_path)
    assert read_instance(paths[0]).patient.patient_name == "Wang^XiaoDong=王^小东"


@pytest.mark.parametrize(
    "axes",
    [
        ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
        ((0.0, 0.0, 1.0), (0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)),
        ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)),
    ],
)
def test_volume_comes_back_bit_for_bit_on_its_grid(tmp_path, axes):
    made = small_volume()
    made = Volume(
        array=made.array,
        grid=Grid(shape=made.grid.shape, spacing_mm=(2.5, 1.25, 0.9), origin_mm=(1, 2, 3), axes=axes),
    )
    write_series(made, plan(), tmp_path)
    instances, refused = read_folder(tmp_path)
    read = read_volume(Acquisition(series_instance_uid="s", part=0, instances=instances))
    assert not refused
    assert read.grid.matches(made.grid)
    assert np.array_equal(read.array, made.array)


def test_times_and_bolus_stand_as_planned_or_are_absent(tmp_path):
    bolus = datetime(2024, 5, 17, 12, 0, 30)
    with_times = write_series(
        small_volume(), plan(bolus_start_at=bolus, contrast_bolus_agent="X"), tmp_path / "a"
    )
    without = write_series(small_volume(), plan(acquired_at=None), tmp_path / "b")
    first, bare = read_instance(with_times[0]), read_instance(without[0])
    assert (first.acquired_at, first.bolus_start_at) == (datetime(2024, 5, 17, 12, 1, 5), bolus)
    assert (bare.acquired_at, bare.bolus_start_at) == (None, None)


def test_every_object_says_that_it_is_synthetic(tmp_path):
    made = small_volume()
    paths = [
        write_scout(made, plan(), tmp_path),
        write_dose_report(plan(), tmp_path),
        *write_series(made, plan(), tmp_path),
    ]
    for path in paths:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        assert "ynthetic" in dataset.Manufacturer
        assert "SYNTHETIC" in dataset.SeriesDescription
        assert dataset.SOPInstanceUID.startswith("2.25.")
        assert not read_instance(path).ours


def test_parts_of_one_series_share_its_uid_and_differ_in_their_instances(tmp_path):
    one = write_series(small_volume(), plan(part=1, acquisition_number=1), tmp_path)
    two = write_series(small_volume(), plan(part=2, acquisition_number=2, first_instance_number=7), tmp_path)
    instances, _ = read_folder(tmp_path)
    assert len(one) + len(two) == len({instance.sop_instance_uid for instance in instances}) == 12
    assert len({instance.series_instance_uid for instance in instances}) == 1


def test_uids_are_valid_and_repeatable():
    uid = make_uid("a", "b")
    assert uid == make_uid("a", "b") != make_uid("ab")
    assert pydicom.uid.UID(uid).is_valid
