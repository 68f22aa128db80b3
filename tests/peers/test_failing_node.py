"""What the node does when it is not the study that is bad: the archive away, the clinical table broken, a fault of ours."""

from datetime import timedelta

import pydicom
import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from node.cli import app
from node.dicom.archive import EmbeddedArchive
from node.job import JobState
from node.report.json_form import read_json
from node.report.record import ReasonCode, Status
from node.report.verify import verify_result
from node.worker import WorkRules
from tests.bad_studies import Recipe, drop_a_slice, write_study
from tests.whole_node import WholeNode

RECIPE = Recipe(number=1, spoil=drop_a_slice)
HEADER = "patient_id,bclc\n"


@pytest.fixture
def open_node(tmp_path):
    """Function that opens a node with a clinical table of the given content, and lets it receive one study."""
    opened = []

    def open_one(content=HEADER, requested_by="any", **rules):
        table = tmp_path / "clinical.csv"
        table.write_text(HEADER)
        changes = {"clinical": {"table": str(table)}, "assessment": {"requested_by": requested_by}}
        node = WholeNode(tmp_path, changes, WorkRules(**{"assessment_tries": 2, **rules}))
        opened.append(node)
        table.write_text(content)
        node.receive(write_study(tmp_path / "scanner", RECIPE).iterdir())
        return node

    yield open_one
    for node in opened:
        node.close()


def the_job(node):
    (job,) = node.jobs.find()
    return job


def report_of(node):
    return read_json((node.results_of(the_job(node)) / "report.json").read_text())


def operate(node, *arguments):
    """Calls the operator's command on the data folder of the node."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--data", str(node.data)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_an_archive_that_is_down_is_retried_with_backoff_then_shelved_and_jobs_retry_delivers(
    open_node, tmp_path
):
    node = open_node(delivery_tries=4, first_retry_seconds=10, longest_retry_seconds=30)
    port = node.archive.port
    node.archive.stop()
    node.work()
    pauses = []
    while (job := the_job(node)).state is JobState.SENDING:
        pauses.append(round((job.due_at - job.updated_at).total_seconds()))
        node.clock.ahead += timedelta(seconds=pauses[-1] + 1)
        node.worker.deliver_next(node.destination)
    assert pauses == [10, 20, 30]
    assert job.state is JobState.SHELVED
    assert f"127.0.0.1:{port}:ARCHIVE cannot be reached" in job.error
    assert "given up after 4 tries" in job.error
    shown = operate(node, "jobs", "show", job.job_id)
    assert RECIPE.study.study_instance_uid in shown
    assert "cannot be reached" in shown
    before = {path: path.read_bytes() for path in node.results_of(job).rglob("*.dcm")}
    with EmbeddedArchive(tmp_path / "archive", port=port) as archive:
        operate(node, "jobs", "retry", job.job_id)
        assert node.worker.deliver_next(node.destination).state is JobState.DONE
        assert archive.count() == len(before) == 3
    assert {path: path.read_bytes() for path in before} == before


def test_a_broken_table_fails_in_the_open_and_a_retry_names_the_failed_report_as_predecessor(open_node):
    node = open_node("patient_id,colour\nBAD-001,red\n")
    with capture_logs() as log:
        node.work()
        assert the_job(node).state is JobState.WAITING
        node.clock.ahead += timedelta(hours=1)
        node.work()
    job, report = the_job(node), report_of(node)
    assert (job.state, job.outcome) == (JobState.SHELVED, "failed")
    assert "column 'colour' is not known" in job.error
    assert (report.status, report.reason_code) == (Status.FAILED, ReasonCode.PROCESSING_FAILED)
    assert "after 2 tries: InvalidInput: clinical.csv: column 'colour' is not known" in report.reason
    assert verify_result(node.results_of(job)) == ()
    (line,) = [line for line in log if line["event"] == "assessment failed"]
    assert (line["study"], line["reason"]) == (report.study_instance_uid, report.reason)
    assert node.archive.count() == len(report.objects) == 3
    failed = pydicom.dcmread(node.results_of(job) / "dicom" / "SR.dcm")

    node.settings.clinical.table.write_text(HEADER)
    operate(node, "jobs", "retry", job.job_id)
    node.work()
    assert the_job(node).state is JobState.DONE
    assert report_of(node).reason_code == ReasonCode.VOLUME_REFUSED
    document = pydicom.dcmread(node.results_of(job) / "dicom" / "SR.dcm")
    (series,) = document.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == failed.SOPInstanceUID
    assert node.archive.count() == 6


def test_a_failure_that_nobody_waits_for_is_not_told_to_the_archive(open_node):
    node = open_node("patient_id,colour\nBAD-001,red\n", requested_by="clinical_row", assessment_tries=1)
    node.work()
    assert the_job(node).state is JobState.SHELVED
    assert "column 'colour' is not known" in the_job(node).error
    assert report_of(node).status is Status.FAILED
    assert node.archive.count() == 0


def test_a_fault_of_ours_fails_one_study_in_the_open_and_the_worker_lives(open_node, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a fault of ours")

    node = open_node(assessment_tries=1)
    with monkeypatch.context() as fault:
        fault.setattr("node.admission.split_acquisitions", broken)
        node.work()
    job, report = the_job(node), report_of(node)
    assert job.state is JobState.SHELVED
    assert job.error.startswith("ZeroDivisionError: a fault of ours; its report: 3 objects stored")
    assert report.status is Status.FAILED
    document = pydicom.dcmread(node.results_of(job) / "dicom" / "SR.dcm")
    assert document.CompletionFlag == "PARTIAL"
    operate(node, "jobs", "retry", job.job_id)
    node.work()
    assert (the_job(node).state, report_of(node).status) == (JobState.DONE, Status.NOT_ASSESSABLE)
