"""dciodvfy, which knows the IODs of the Standard, finds no error in any object."""

import subprocess

import pytest

from node.report.bundle import write_objects
from node.report.sources import ReportSources
from node.report.sr.document import restate_as_comprehensive
from tests.report_study import ct_header, make_failure, make_report, make_sources


def errors_of(program, path):
    """Error lines of dciodvfy."""
    run = subprocess.run([program, str(path)], capture_output=True, text=True, check=False, timeout=60)
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("patient", [True, False], ids=["patient", "empty patient module"])
def test_dciodvfy_finds_no_error_in_an_assessed_study(peer, tmp_path, patient):
    program = peer("dciodvfy")
    report = write_objects(
        make_report(), make_sources(tmp_path, ct_header(patient=patient)), tmp_path / "out"
    )
    assert {entry.kind for entry in report.objects} == {"SEG", "SR", "PDF"}
    for entry in report.objects:
        assert errors_of(program, tmp_path / "out" / entry.path) == [], entry.path


def test_dciodvfy_finds_no_error_in_a_study_without_ct(peer, tmp_path):
    program = peer("dciodvfy")
    sources = make_sources(tmp_path)
    report = write_objects(make_failure(), ReportSources(instance=sources.instance), tmp_path / "out")
    for entry in report.objects:
        assert errors_of(program, tmp_path / "out" / entry.path) == [], entry.path


def test_dciodvfy_finds_no_error_in_the_comprehensive_sr(peer, tmp_path):
    import pydicom

    program = peer("dciodvfy")
    write_objects(make_report(), make_sources(tmp_path), tmp_path / "out")
    path = tmp_path / "restated.dcm"
    restate_as_comprehensive(pydicom.dcmread(tmp_path / "out" / "dicom" / "SR.dcm")).save_as(path)
    assert errors_of(program, path) == []
