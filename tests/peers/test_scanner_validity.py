"""The synthetic scanner's objects are valid to dicom3tools, and what DCMTK compresses is read back to the voxel."""

import subprocess
from datetime import datetime

import numpy as np
import pytest

from engines.volume import Grid, Volume
from node.dicom.headers import read_folder
from node.dicom.scanner import SeriesPlan, StudyPlan, write_dose_report, write_scout, write_series
from node.dicom.volumes import read_volume
from node.study import Acquisition


def test_series_scout_and_dose_report_have_no_error_line(peer, tmp_path):
    dciodvfy = peer("dciodvfy")
    grid = Grid(shape=(3, 16, 20), spacing_mm=(5, 0.8, 0.8), origin_mm=(-8, -6, 0))
    volume = Volume(array=np.zeros(grid.shape, np.int16), grid=grid)
    study = StudyPlan(seed="validity", study_at=datetime(2024, 5, 17, 12, 0))
    scan = SeriesPlan(
        study=study,
        series_number=2,
        acquired_at=datetime(2024, 5, 17, 12, 1, 5),
        bolus_start_at=datetime(2024, 5, 17, 12, 0, 30),
        contrast_bolus_agent="SYNTHETIC AGENT",
    )
    bare = SeriesPlan(
        study=study, series_number=3, acquired_at=None, image_type=("DERIVED", "SECONDARY", "AXIAL")
    )
    paths = [
        *write_series(volume, scan, tmp_path),
        *write_series(volume, bare, tmp_path),
        write_scout(volume, SeriesPlan(study=study, series_number=1, acquired_at=None), tmp_path),
        write_dose_report(SeriesPlan(study=study, series_number=99, acquired_at=None), tmp_path),
    ]
    for path in paths:
        verdict = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True, check=False).stderr
        assert "Error" not in verdict, f"{path.name}: {verdict}"


@pytest.mark.parametrize(
    ("option", "syntax"), [("+e1", "1.2.840.10008.1.2.4.70"), ("+el", "1.2.840.10008.1.2.4.57")]
)
def test_jpeg_lossless_written_by_dcmtk_gives_the_same_voxels(peer, tmp_path, option, syntax):
    dcmcjpeg = peer("dcmcjpeg")
    rng = np.random.default_rng(3)
    grid = Grid(shape=(3, 32, 40), spacing_mm=(5, 0.8, 0.8), origin_mm=(-8, -6, 0))
    volume = Volume(array=rng.integers(-1024, 2000, grid.shape).astype(np.int16), grid=grid)
    plan = SeriesPlan(
        study=StudyPlan(seed="jpeg", study_at=datetime(2024, 5, 17, 12, 0)), series_number=2, acquired_at=None
    )
    packed = tmp_path / "packed"
    packed.mkdir()
    for path in write_series(volume, plan, tmp_path / "plain"):
        subprocess.run(
            [dcmcjpeg, option, str(path), str(packed / path.name)], check=True, capture_output=True
        )
    instances, _ = read_folder(packed)
    assert {instance.transfer_syntax_uid for instance in instances} == {syntax}
    read = read_volume(Acquisition(series_instance_uid="S", part=0, instances=instances))
    assert np.array_equal(read.array, volume.array)
