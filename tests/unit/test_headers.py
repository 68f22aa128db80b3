"""Headers: odd values are read, damage is refused, nothing of a peer's file becomes a surprise."""

import contextlib
import struct
from datetime import date, datetime

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from engines.volume import Grid, Volume
from node.dicom.headers import read_folder, read_frames, read_instance
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
from node.dicom.values import parse_date, parse_datetime, parse_time
from node.errors import InstanceRefused
from node.phases.acquisitions import split_acquisitions
from node.study import ENHANCED_CT_IMAGE_STORAGE


@pytest.fixture
def image(tmp_path):
    """A written CT image whose data set a test may change: (path, data set)."""
    grid = Grid(shape=(1, 4, 4), spacing_mm=(5, 1, 1), origin_mm=(0, 0, 0))
    study = StudyPlan(seed="headers", study_at=datetime(2024, 1, 1, 8, 0))
    plan = SeriesPlan(study=study, series_number=1, acquired_at=datetime(2024, 1, 1, 8, 1))
    (path,) = write_series(Volume(array=np.zeros(grid.shape, np.int16), grid=grid), plan, tmp_path)
    return path, pydicom.dcmread(path)


def test_odd_decimal_and_integer_strings_are_numbers(image):
    path, dataset = image
    dataset.SliceThickness, dataset.SeriesNumber = "008.000000E+00", "000005"
    dataset.save_as(path)
    instance = read_instance(path)
    assert (instance.slice_thickness_mm, instance.series_number) == (8.0, 5)


@pytest.mark.parametrize("text", [b"abc ", b"nan ", b"inf ", b"1\\x "])
def test_what_is_no_finite_number_is_not_known(image, text):
    path, _ = image
    content = path.read_bytes()
    assert b"DS\x04\x00120 " in content
    path.write_bytes(content.replace(b"DS\x04\x00120 ", b"DS\x04\x00" + text))
    assert read_instance(path).kvp is None


@pytest.mark.parametrize("text", ["0", "-7"])
def test_a_slice_thickness_that_is_none_is_not_known(image, text):
    path, dataset = image
    dataset.SliceThickness = text
    dataset.save_as(path)
    assert read_instance(path).slice_thickness_mm is None


def test_a_loss_by_compression_is_known(image):
    path, dataset = image
    assert not read_instance(path).lossy
    dataset.LossyImageCompression = "01"
    dataset.save_as(path)
    assert read_instance(path).lossy


def test_multi_valued_attributes_keep_every_value(image):
    path, dataset = image
    dataset.ConvolutionKernel, dataset.ImageType = ["Br38f", "3"], ["DERIVED", "SECONDARY", "PROCESSED"]
    dataset.save_as(path)
    instance = read_instance(path)
    assert instance.convolution_kernel == ("Br38f", "3")
    assert instance.image_type == ("DERIVED", "SECONDARY", "PROCESSED")


def test_implicit_vr_reads_like_explicit_vr(image):
    path, dataset = image
    explicit = read_instance(path)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.save_as(path, implicit_vr=True, little_endian=True)
    implicit = read_instance(path)
    assert (implicit.position_mm, implicit.rows, implicit.patient) == (
        explicit.position_mm,
        4,
        explicit.patient,
    )


def test_text_labelled_wrongly_keeps_its_bytes(image):
    path, dataset = image
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SeriesDescription = "动脉期".encode("gbk").decode("latin-1")
    dataset.save_as(path)
    assert read_instance(path).series_description.encode("latin-1").decode("gbk") == "动脉期"


def test_a_chinese_name_in_iso_2022_is_read_without_its_escape_sequences(image):
    path, dataset = image
    encoded = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"
    dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 6", "X" * len(encoded)
    dataset.save_as(path)
    character_set = b"CS\x10\x00\\ISO 2022 IR 58 "
    content = path.read_bytes().replace(b"CS\x08\x00ISO_IR 6", character_set)
    path.write_bytes(content.replace(b"X" * len(encoded), encoded))
    assert read_instance(path).patient.patient_name == "Zhang^XiaoDong=张^小东"


def test_acquisition_time_takes_the_nearest_date_that_is_there(image):
    path, dataset = image
    del dataset.AcquisitionDate
    dataset.ContentDate = "20240102"
    dataset.save_as(path)
    assert read_instance(path).acquired_at == datetime(2024, 1, 2, 8, 1)


def test_our_own_results_are_known_by_their_equipment(image):
    path, dataset = image
    equipment = Dataset()
    equipment.Manufacturer, equipment.ManufacturerModelName = "x", "mmf-node"
    dataset.ContributingEquipmentSequence = [equipment]
    dataset.save_as(path)
    assert read_instance(path).ours


def test_empty_uids_stay_empty_and_the_file_meta_names_the_instance(image):
    path, dataset = image
    named = dataset.SOPInstanceUID
    dataset.SOPInstanceUID = dataset.SeriesInstanceUID = ""
    dataset.save_as(path)
    instance = read_instance(path)
    assert (instance.sop_instance_uid, instance.series_instance_uid) == (named, "")


def test_deflated_files_are_refused_before_they_are_inflated(image):
    path, _ = image
    content = bytearray(path.read_bytes())
    length = struct.unpack("<I", content[140:144])[0]
    meta = bytes(content[144 : 144 + length]).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    path.write_bytes(bytes(content[:140]) + struct.pack("<I", len(meta)) + meta + b"\0" * 64)
    with pytest.raises(InstanceRefused, match="deflated"):
        read_instance(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    cut=st.integers(0, 1400),
    flips=st.lists(st.tuples(st.integers(132, 1400), st.integers(0, 255)), max_size=4),
)
def test_damage_is_refused_or_read_and_never_anything_else(tmp_path_factory, cut, flips):
    folder = tmp_path_factory.mktemp("damage")
    grid = Grid(shape=(1, 4, 4), spacing_mm=(5, 1, 1), origin_mm=(0, 0, 0))
    study = StudyPlan(seed="headers", study_at=datetime(2024, 1, 1, 8, 0))
    plan = SeriesPlan(study=study, series_number=1, acquired_at=datetime(2024, 1, 1, 8, 1))
    (path,) = write_series(Volume(array=np.zeros(grid.shape, np.int16), grid=grid), plan, folder)
    content = bytearray(path.read_bytes())
    for place, value in flips:
        content[min(place, len(content) - 1)] = value
    path.write_bytes(bytes(content[: max(cut, 0)]) if cut < 1300 else bytes(content))
    with contextlib.suppress(InstanceRefused):
        assert read_frames(read_instance(path))


def test_a_multi_frame_ct_without_a_description_of_its_frames_is_refused_and_still_names_its_study(image):
    path, dataset = image
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = ENHANCED_CT_IMAGE_STORAGE
    dataset.NumberOfFrames = 30
    dataset.save_as(path)
    (whole,), ((_, reason),) = read_folder(path.parent)
    assert (whole.study_instance_uid, whole.frame_number) == (dataset.StudyInstanceUID, 0)
    assert "frames of" in reason
    (acquisition,) = split_acquisitions([whole])
    assert acquisition.refused == "30 frames in one object that cannot be read apart"


def test_folder_lists_what_it_refused_with_reasons(image, tmp_path):
    path, _ = image
    (path.parent / "notes.txt").write_text("not DICOM")
    instances, refused = read_folder(path.parent)
    assert len(instances) == 1
    ((name, reason),) = refused
    assert name.name == "notes.txt"
    assert "DICM" in reason


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12", 43200.0), ("1230", 45000.0), ("123045.5", 45045.5), ("12:30:45", 45045.0), ("235960", 86400.0)],
)
def test_times_of_every_length_are_read(text, seconds):
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "1", "2460", "250000", "12a0", "120000.x"])
def test_what_is_no_time_is_none(text):
    assert parse_time(text) is None


def test_dates_and_moments_of_older_and_newer_forms_are_read():
    assert parse_date("20240229") == parse_date("2024.02.29") == date(2024, 2, 29)
    assert parse_date("20230229") is None
    assert parse_datetime("20240229113000.25+0100") == datetime(2024, 2, 29, 11, 30, 0, 250000)
    assert parse_datetime("20240229") is None
