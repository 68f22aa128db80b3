import shutil

import pytest
from typer.testing import CliRunner

from engines.errors import InvalidInput
from node.app import FolderRequest, assess_folder
from node.cli import app
from node.errors import InstanceRefused
from node.report.record import ReasonCode, Status
from node.settings import read_settings


@pytest.fixture
def scout_alone(walked, tmp_path):
    """A study of one scout: quick to judge, never assessable."""
    folder = tmp_path / "study"
    folder.mkdir()
    shutil.copy(walked.study.folder / "0001-scout.dcm", folder)
    return folder


def assess(folder, out):
    return assess_folder(
        read_settings(), FolderRequest(folder=folder, requested=True), case_folder=out / "case", out=out
    )


def test_files_that_cannot_be_read_are_told_in_the_report(scout_alone, tmp_path):
    (scout_alone / "torn.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 64)
    (scout_alone / "cut.dcm").write_bytes((scout_alone / "0001-scout.dcm").read_bytes()[:700])
    report = assess(scout_alone, tmp_path / "out")
    assert (report.status, report.reason_code) == (Status.NOT_ASSESSABLE, ReasonCode.MISSING_PHASE)
    assert any("2 files could not be read, slices may be missing" in flag for flag in report.flags)


def test_a_run_that_fails_leaves_no_report_of_another_study(scout_alone, tmp_path):
    out = tmp_path / "out"
    assess(scout_alone, out)
    assert (out / "report.json").is_file()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InstanceRefused, match="no DICOM instance"):
        assess(tmp_path / "empty", out)
    assert not (out / "report.json").exists()
    assert not (out / "dicom").exists()


def test_two_studies_in_one_folder_are_refused(scout_alone, test_data, tmp_path):
    shutil.copy(next((test_data / "ct-hcc-tcga").glob("*.dcm")), scout_alone)
    with pytest.raises(InstanceRefused, match="holds 2 studies"):
        assess(scout_alone, tmp_path / "out")


def test_an_output_that_is_a_file_is_refused(scout_alone, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(InvalidInput, match="is not a folder"):
        assess(scout_alone, tmp_path / "out")


def test_a_phase_that_names_no_series_is_refused_with_the_choices(scout_alone, tmp_path):
    result = CliRunner().invoke(
        app, ["run", str(scout_alone), "--out", str(tmp_path / "out"), "--phase", "arterial=1.2.3"]
    )
    assert isinstance(result.exception, InvalidInput)
    assert "no such acquisition in the study" in str(result.exception)
