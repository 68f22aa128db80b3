"""A Legacy Converted Enhanced CT made by highdicom is read like the single images that it was made from."""

from datetime import datetime

import numpy as np
import pydicom

from engines.volume import Grid, Volume
from node.dicom.headers import read_folder, read_frames, read_instance
from node.dicom.scanner import SeriesPlan, StudyPlan, make_uid, write_series
from node.dicom.volumes import read_volume
from node.phases.acquisitions import split_acquisitions


def test_converted_images_of_two_passes_come_apart_and_keep_their_voxels(tmp_path):
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    rng = np.random.default_rng(5)
    grid = Grid(shape=(12, 16, 16), spacing_mm=(5.0, 0.8, 0.8), origin_mm=(-6.0, -6.0, 40.0))
    study = StudyPlan(seed="legacy", study_at=datetime(2024, 5, 17, 12, 0))
    made, paths = {}, []
    for number in (2, 3):
        made[number] = Volume(array=rng.integers(-900, 900, grid.shape).astype(np.int16), grid=grid)
        plan = SeriesPlan(
            study=study,
            series_number=4,
            part=number,
            acquisition_number=number,
            first_instance_number=12 * number,
            acquired_at=datetime(2024, 5, 17, 12, number),
        )
        paths += write_series(made[number], plan, tmp_path / "single")
    converted = LegacyConvertedEnhancedCTImage(
        [pydicom.dcmread(path) for path in paths],
        series_instance_uid=make_uid("legacy", "converted"),
        series_number=5,
        sop_instance_uid=make_uid("legacy", "converted", "1"),
        instance_number=1,
    )
    path = tmp_path / "converted.dcm"
    converted.save_as(path)
    singles, _ = read_folder(tmp_path / "single")
    assert [len(a.instances) for a in split_acquisitions(singles)] == [12, 12]
    acquisitions = split_acquisitions(read_frames(read_instance(path)))
    assert [a.part for a in acquisitions] == [1, 2]
    for acquisition in acquisitions:
        truth = made[acquisition.first.acquisition_number]
        volume = read_volume(acquisition)
        assert volume.grid.matches(truth.grid)
        assert np.array_equal(volume.array, truth.array)
        assert acquisition.first.acquired_at == datetime(
            2024, 5, 17, 12, acquisition.first.acquisition_number
        )
