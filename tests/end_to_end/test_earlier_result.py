"""The result that a job which is assessed again replaces: its own first one, for as long as the archive has it."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from pydicom import dcmread

from node.app import clear_results
from node.job import Job, JobState
from node.report.bundle import write_objects
from node.report.json_form import read_json
from node.report.record import Status
from node.results import Failure, find_earlier_result, write_failure
from node.study import Study
from node.succession import list_replaced, tell_replacement
from tests.report_study import ct_header, make_failure, make_sources

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


def queue_of(*jobs, stored=()):
    """A queue of these jobs; the archive has the documents named."""
    return SimpleNamespace(
        get={job.job_id: job for job in jobs}.__getitem__, stored_objects=lambda _: frozenset(stored)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The objects of one job and the scanner's instance, written once; nobody changes them."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "scanner").mkdir()
    sources = make_sources(folder / "scanner", ct_header("Latin^Letters"))  # others cost a font a report
    report = write_objects(make_failure(), sources, folder / "1")
    document = next(entry for entry in report.objects if entry.kind == "SR")
    return SimpleNamespace(folder=folder / "1", instance=sources.instance, good=document.sop_instance_uid)


@pytest.fixture
def job_with_result(tmp_path, written):
    """A results folder of its own with the good result of job 1, which the archive has, and the scanner's instance."""
    shutil.copytree(written.folder, tmp_path / "results" / "1")
    return SimpleNamespace(
        results=tmp_path / "results", instance=written.instance, good=written.good, archive={written.good}
    )


def test_a_job_that_is_taken_up_again_replaces_its_own_result_after_a_try_that_was_broken_off_too(
    job_with_result,
):
    made = job_with_result.results
    report = read_json((made / "1" / "report.json").read_text())
    document = next(entry for entry in report.objects if entry.kind == "SR")
    queue = queue_of(stored=[document.sop_instance_uid])
    first = find_earlier_result(queue, made, JOB)
    assert first.document[0] == document.sop_instance_uid
    assert (first.report, first.repeated) == (report, True)
    assert first.images
    clear_results(made / "1")  # what every try does first
    assert find_earlier_result(queue, made, JOB) == first
    assert find_earlier_result(queue, made, replace(JOB, shown_at=None)) is None
    (made / "1" / "replaced.json").write_text("{")
    assert find_earlier_result(queue, made, JOB) is None


def fail(given, job, hours, *others, delivered=True):
    """One more assessment that fails for good, as the worker tells it; returns its Structured Report."""
    jobs = queue_of(*others, stored=given.archive)
    out = given.results / str(job.job_id)
    find_earlier_result(jobs, given.results, job)  # every try looks, then clears
    clear_results(out)
    earlier = find_earlier_result(jobs, given.results, job)
    study = Study(study_instance_uid=given.instance.study_instance_uid, instances=(given.instance,))
    failure = Failure(
        study_instance_uid=study.study_instance_uid,
        study=study,
        reason=f"a fault of ours, number {hours}",
        told=True,
        earlier=earlier,
    )
    report = write_failure(failure, out, lambda: NOW + timedelta(hours=hours))
    assert report.status is Status.FAILED
    document = dcmread(out / "dicom" / "SR.dcm")
    if delivered:
        given.archive.add(document.SOPInstanceUID)
    return document, report


def predecessors(document):
    return [
        series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for study in document.get("PredecessorDocumentsSequence", ())
        for series in study.ReferencedSeriesSequence
    ]


def other_evidence(document):
    return {
        series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for study in document.get("PertinentOtherEvidenceSequence", ())
        for series in study.ReferencedSeriesSequence
    }


def test_a_failure_names_the_good_result_and_does_not_replace_it_and_the_next_result_replaces_both(
    job_with_result,
):
    given = job_with_result
    first, report = fail(given, JOB, 1)
    assert predecessors(first) == []
    assert given.good in other_evidence(first)
    (sentence,) = report.flags
    assert sentence.startswith("the result of 2026-03-05 14:07 UTC stands: this attempt failed and does not")
    assert given.good in sentence
    second, report = fail(given, JOB, 2)
    assert predecessors(second) == [first.SOPInstanceUID], "a failure replaces the failure before it"
    assert given.good in other_evidence(second)
    assert given.good in report.flags[0]
    last = find_earlier_result(queue_of(stored=given.archive), given.results, JOB)
    assert [uid for uid, _ in list_replaced(last)] == [second.SOPInstanceUID, given.good]
    assert tell_replacement(last) == (
        "this result replaces the one of 2026-03-02 14:00 UTC: that attempt failed, and the one of 2026-03-05 14:07 UTC,"
        " which stood until now"
    )


def test_a_failure_of_a_study_that_grew_names_the_result_of_the_job_before(job_with_result):
    given = job_with_result
    grown = replace(JOB, job_id=2, supersedes=1, outcome="", shown_at=None)
    done = replace(JOB, state=JobState.DONE)
    failed, _ = fail(given, grown, 1, done)
    assert predecessors(failed) == []
    assert given.good in other_evidence(failed)
    told = replace(grown, outcome="failed", shown_at=NOW, state=JobState.RUNNING)
    found = find_earlier_result(queue_of(done, stored=given.archive), given.results, told)
    assert [uid for uid, _ in list_replaced(found)] == [failed.SOPInstanceUID, given.good]


def test_a_study_that_grew_after_a_repeat_that_failed_replaces_the_failure_and_what_stood(job_with_result):
    given = job_with_result
    failed, _ = fail(given, JOB, 1)
    grown = replace(JOB, job_id=2, supersedes=1, outcome="", shown_at=None)
    queue = queue_of(replace(JOB, state=JobState.SHELVED), stored=given.archive)
    found = find_earlier_result(queue, given.results, grown)
    assert [uid for uid, _ in list_replaced(found)] == [failed.SOPInstanceUID, given.good]
    find_earlier_result(queue, given.results, JOB)
    clear_results(given.results / "1")  # a further try of the first job looks, clears, and is broken off
    assert find_earlier_result(queue, given.results, grown) == found


def test_a_failure_that_never_reached_the_archive_is_named_by_nothing(job_with_result):
    given = job_with_result
    lost, _ = fail(given, JOB, 1, delivered=False)  # the archive was away, the job went to the shelf
    shelved = replace(JOB, outcome="failed", state=JobState.SHELVED)
    grown = replace(JOB, job_id=2, supersedes=1, outcome="", shown_at=None)
    found = find_earlier_result(queue_of(shelved, stored=given.archive), given.results, grown)
    assert [uid for uid, _ in list_replaced(found)] == [given.good]
    again, report = fail(given, replace(shelved, state=JobState.RUNNING), 2)
    assert lost.SOPInstanceUID not in {*predecessors(again), *other_evidence(again)}
    assert given.good in other_evidence(again)
    assert given.good in report.flags[0]


def test_a_failure_that_still_goes_to_the_archive_is_named(job_with_result):
    given = job_with_result
    failed, _ = fail(given, JOB, 1, delivered=False)
    sending = replace(JOB, outcome="failed", state=JobState.SENDING)
    grown = replace(JOB, job_id=2, supersedes=1, outcome="", shown_at=None)
    found = find_earlier_result(queue_of(sending, stored=given.archive), given.results, grown)
    assert [uid for uid, _ in list_replaced(found)] == [failed.SOPInstanceUID, given.good]


def test_a_first_failure_names_nothing(job_with_result):
    given = job_with_result
    failed, report = fail(given, replace(JOB, job_id=3, outcome="", shown_at=None), 1)
    assert predecessors(failed) == []
    assert given.good not in other_evidence(failed)
    assert report.flags == ()
