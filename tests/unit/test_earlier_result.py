"""The result that a job which is assessed again replaces: its own first one, for as long as the archive has it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from node.app import clear_results
from node.job import Job, JobState
from node.report.bundle import write_objects
from node.report.json_form import read_json
from node.results import find_earlier_result
from tests.report_study import make_failure, make_sources

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
JOB = Job(
    job_id=1,
    study_instance_uid="1.2",
    state=JobState.RUNNING,
    attempt=0,
    due_at=NOW,
    created_at=NOW,
    updated_at=NOW,
    outcome="assessed",
    shown_at=NOW,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A results folder with the objects of one job."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "scanner").mkdir()
    write_objects(make_failure(), make_sources(folder / "scanner"), folder / "results" / "1")
    return folder / "results"


def test_a_job_that_is_taken_up_again_replaces_its_own_result_after_a_try_that_was_broken_off_too(made):
    report = read_json((made / "1" / "report.json").read_text())
    document = next(entry for entry in report.objects if entry.kind == "SR")
    first = find_earlier_result(None, made, JOB)
    assert first.document[0] == document.sop_instance_uid
    assert (first.report, first.repeated) == (report, True)
    assert first.images
    clear_results(made / "1")  # what every try does first
    assert find_earlier_result(None, made, JOB) == first
    assert find_earlier_result(None, made, replace(JOB, shown_at=None)) is None
    (made / "1" / "replaced.json").write_text("{")
    assert find_earlier_result(None, made, JOB) is None
