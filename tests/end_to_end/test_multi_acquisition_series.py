"""The real series that hold several phases under one UID, rebuilt from synthetic pixels, fall apart into their passes."""

import csv
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from engines.volume import Grid, Volume
from node.dicom.headers import read_folder
from node.dicom.scanner import SeriesPlan, StudyPlan, write_series
from node.dicom.volumes import read_volume
from node.phases.acquisitions import split_acquisitions

GRIDS = {
    "HCC_010": ((77, -228.0), (95, -273.0)),
    "HCC_001": ((30, -375.0), (36, -415.0)),
    "HCC_008": ((80, -246.97), (114, -331.97)),
}
"""Slices and lowest position of the passes that lie on different grids, from the notes of the table."""


def read_cases(folder: Path) -> list[dict[str, str]]:
    with (folder / "phase/multi-acquisition-series.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def rebuild(case: dict[str, str], folder: Path) -> dict[int, Volume]:
    """Writes the case as the archive keeps it: no times, one series, passes told apart by AcquisitionNumber alone."""
    excluded = "different z-grids" in case["note"]
    grids = (
        GRIDS[case["example_patient"]]
        if excluded
        else ((14, -230.0),) * (2 if "2" in case["series_description"][-22:] else 3)
    )
    if "PRE" in case["series_description"]:
        grids = ((14, -230.0),)
    last = int(case["acquisition_number_that_was_portal_venous_or_later"] or len(grids) + 1)
    study = StudyPlan(seed=f"{case}", study_at=datetime(2004, 2, 20, 0, 0))
    rng = np.random.default_rng(len(str(case)))
    made, first = {}, 1
    for index, (slices, lowest) in enumerate(grids):
        number = last - len(grids) + 1 + index
        grid = Grid(shape=(slices, 8, 8), spacing_mm=(2.5, 0.8, 0.8), origin_mm=(-200.0, -180.0, lowest))
        made[number] = Volume(array=rng.integers(-100, 300, grid.shape).astype(np.int16), grid=grid)
        plan = SeriesPlan(
            study=study,
            series_number=4,
            part=index,
            acquired_at=None,
            series_description=case["series_description"],
            acquisition_number=number,
            first_instance_number=first,
        )
        write_series(made[number], plan, folder)
        first += slices
    return made


@pytest.mark.parametrize("place", range(23))
def test_passes_of_one_series_come_apart_voxel_for_voxel(test_data, tmp_path, place):
    case = read_cases(test_data)[place]
    passes = rebuild(case, tmp_path)
    instances, _ = read_folder(tmp_path)
    assert len({instance.series_instance_uid for instance in instances}) == 1
    acquisitions = split_acquisitions(instances)
    assert [a.part for a in acquisitions] == (list(range(1, len(passes) + 1)) if len(passes) > 1 else [0])
    for acquisition in acquisitions:
        truth = passes[acquisition.first.acquisition_number]
        volume = read_volume(acquisition)
        assert volume.grid.matches(truth.grid)
        assert np.array_equal(volume.array, truth.array)


def test_every_row_of_the_table_is_rebuilt(test_data):
    assert len(read_cases(test_data)) == 23
