"""The synthetic scanner's objects are valid to dicom3tools' dciodvfy."""

import subprocess
from datetime import datetime

import numpy as np

from engines.volume import Grid, Volume
from node.dicom.scanner import SeriesPlan, StudyPlan, write_dose_report, write_scout, write_series


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
