"""dciodvfy, which knows the IODs of the Standard, finds no error in any object."""

import subprocess
from dataclasses import replace

import pydicom
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
def test_dciodvfy_finds_no_error_in_any_object(peer, tmp_path, patient):
    program = peer("dciodvfy")
    report = make_report() if patient else replace(make_failure(), structures=make_report().structures)
    report = write_objects(report, make_sources(tmp_path, ct_header(patient=patient)), tmp_path / "out")
    assert [entry.kind for entry in report.objects] == ["SEG", "SEG", "SEG", "SR", "PDF", "SC", "SC"][
        : 7 if patient else 6
    ]
    restated = tmp_path / "out" / "dicom" / "comprehensive.dcm"
    restate_as_comprehensive(pydicom.dcmread(tmp_path / "out" / "dicom" / "SR.dcm")).save_as(restated)
    for path in [tmp_path / "out" / entry.path for entry in report.objects] + [restated]:
        assert errors_of(program, path) == [], path.name


def test_dciodvfy_finds_no_error_in_a_study_without_ct(peer, tmp_path):
    program = peer("dciodvfy")
    sources = make_sources(tmp_path)
    report = write_objects(make_failure(), ReportSources(instance=sources.instance), tmp_path / "out")
    for entry in report.objects:
        assert errors_of(program, tmp_path / "out" / entry.path) == [], entry.path
