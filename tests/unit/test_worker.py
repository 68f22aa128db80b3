"""The worker: takes what is due, records what happened, survives every fault, gives up in the open."""

from datetime import timedelta
from pathlib import Path

import pytest

from engines.errors import InvalidInput
from node.errors import DeliveryRefused
from node.job import JobState
from node.ports import Answer, Conclusion
from node.storage.database import open_database
from node.storage.jobs import SqliteJobs
from node.testing import FakeClock, FakeDestination
from node.worker import Worker, WorkRules

STUDY = "2.25.1001"
RULES = WorkRules(
    assessment_tries=2, delivery_tries=3, bounded_tries=2, first_retry_seconds=10, longest_retry_seconds=15
)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def jobs(tmp_path):
    connection = open_database(tmp_path / "node.sqlite")
    connection.execute(
        "INSERT INTO instance VALUES ('1', 'x', ?, '1', '1.2.840.10008.5.1.4.1.1.2', '', 'CT', '', 0, 1, 0, 0, "
        "'p', 1, '', '', '')",
        (STUDY,),
    )
    connection.close()
    with SqliteJobs(tmp_path / "node.sqlite") as store:
        yield store


@pytest.fixture
def worker(jobs, clock):
    jobs.close_study(STUDY, clock.now())
    return Worker(name="w", jobs=jobs, clock=clock, rules=RULES)


@pytest.fixture
def objects(tmp_path):
    folder = tmp_path / "objects" / "sr"
    folder.mkdir(parents=True)
    for name in ("1.1.dcm", "1.2.dcm"):
        (folder / name).touch()
    return folder.parent


def assess_to(folder: Path):
    return lambda job: Conclusion(objects=folder, outcome="assessed", model_version="7")


def assess_raising(error: Exception):
    def assess(job):
        raise error

    return assess


def test_a_study_is_assessed_and_delivered(worker, objects):
    destination = FakeDestination()
    assert worker.assess_next(assess_to(objects)).state is JobState.SENDING
    job = worker.deliver_next(destination)
    assert (job.state, job.outcome, job.model_version) == (JobState.DONE, "assessed", "7")
    assert destination.sent == [("1.1", False), ("1.2", False)]
    assert worker.assess_next(assess_to(objects)) is None
    assert worker.deliver_next(destination) is None


def test_without_destination_results_stay_and_the_job_is_done(worker, objects):
    worker.assess_next(assess_to(objects))
    assert worker.deliver_next(None).state is JobState.DONE


@pytest.mark.parametrize("error", [InvalidInput("bad series"), ZeroDivisionError("a fault of ours")])
def test_an_assessment_that_fails_is_tried_again_and_then_shelved_with_the_reason(worker, clock, error):
    job = worker.assess_next(assess_raising(error))
    assert (job.state, job.attempt) == (JobState.WAITING, 1)
    assert worker.assess_next(assess_raising(error)) is None
    clock.advance(10)
    job = worker.assess_next(assess_raising(error))
    assert job.state is JobState.SHELVED
    assert str(error) in job.error


def test_a_trace_within_the_message_of_an_error_is_for_the_log_alone(worker):
    error = OSError("No space left on device\nTraceback (most recent call last):\n  File ...")
    assert worker.assess_next(assess_raising(error)).error == "OSError: No space left on device"


def test_an_archive_that_is_down_is_tried_with_growing_pauses_then_shelved_and_retry_works(
    worker, clock, objects
):
    destination = FakeDestination(down=True)
    worker.assess_next(assess_to(objects))
    pauses = []
    while (job := worker.deliver_next(destination)).state is JobState.SENDING:
        pauses.append((job.due_at - clock.now()).total_seconds())
        clock.advance(pauses[-1])
    assert pauses == [10, 15]
    assert job.state is JobState.SHELVED
    assert "cannot be reached" in job.error
    assert "3 tries" in job.error
    destination.down = False
    worker.jobs.retry(job.job_id, clock.now())
    assert worker.deliver_next(destination).state is JobState.DONE


@pytest.mark.parametrize(
    ("answer", "states"),
    [
        (Answer.STORED_WITH_WARNING, [JobState.DONE]),
        (Answer.CONFIGURATION, [JobState.SHELVED]),
        (Answer.NEVER, [JobState.SHELVED]),
        (Answer.BOUNDED, [JobState.SENDING, JobState.SHELVED]),
        (Answer.LATER, [JobState.SENDING, JobState.SENDING, JobState.SHELVED]),
    ],
)
def test_each_answer_leads_where_the_table_says(worker, clock, objects, answer, states):
    destination = FakeDestination(answers={"1.2": answer})
    worker.assess_next(assess_to(objects))
    seen = []
    for _ in states:
        seen.append(worker.deliver_next(destination).state)
        clock.advance(3600)
    assert seen == states
    assert destination.sent[2:4] in ([], [("1.1", True), ("1.2", True)])
    assert worker.jobs.stored_objects(1) >= {"1.1"}


@pytest.fixture
def committing(worker, objects):
    destination = FakeDestination(commits=True)
    worker.assess_next(assess_to(objects))
    worker.deliver_next(destination)
    return destination


def test_a_committed_report_finishes_the_job(worker, committing, clock):
    assert worker.jobs.get(1).state is JobState.CONFIRMING
    assert worker.jobs.confirm("2.25.404", {"1.1", "1.2"}, "", clock.now()) is None
    assert (
        worker.jobs.confirm(committing.transactions[0], {"1.1", "1.2"}, "", clock.now()).state
        is JobState.DONE
    )
    assert worker.jobs.confirm(committing.transactions[0], set(), "again", clock.now()).state is JobState.DONE


@pytest.mark.parametrize(
    ("committed", "failure", "words"),
    [({"1.1"}, "1.2 (0x0112)", "0x0112"), ({"1.1"}, "", "leaves out 1.2")],
)
def test_a_report_of_failure_or_with_a_gap_is_for_the_operator(
    worker, committing, clock, committed, failure, words
):
    job = worker.jobs.confirm(committing.transactions[0], committed, failure, clock.now())
    assert job.state is JobState.UNCONFIRMED
    assert words in job.error
    assert worker.jobs.retry(1, clock.now()).state is JobState.SENDING


def test_a_report_that_never_comes_leaves_the_job_unconfirmed_and_a_late_one_still_counts(
    worker, committing, clock
):
    clock.advance(RULES.confirmation_seconds - 1)
    assert worker.jobs.expire_confirmations(clock.now()) == ()
    clock.advance(2)
    (job,) = worker.jobs.expire_confirmations(clock.now())
    assert job.state is JobState.UNCONFIRMED
    assert (
        worker.jobs.confirm(committing.transactions[0], {"1.1", "1.2"}, "", clock.now()).state
        is JobState.DONE
    )


def test_a_destination_without_commitment_leaves_the_job_unconfirmed_with_the_reason(worker, objects):
    worker.assess_next(assess_to(objects))
    job = worker.deliver_next(FakeDestination(commits=True, refuses_commitment=True))
    assert job.state is JobState.UNCONFIRMED
    assert "does not offer" in job.error


def test_a_destination_that_rejects_us_shelves_the_job_at_once(worker, objects):
    class Rejecting(FakeDestination):
        def send(self, paths, *, retry):
            raise DeliveryRefused("called AE title not recognised")

    worker.assess_next(assess_to(objects))
    job = worker.deliver_next(Rejecting())
    assert job.state is JobState.SHELVED
    assert "not recognised" in job.error


def test_an_assessment_without_objects_is_not_silently_done(worker, tmp_path):
    worker.assess_next(assess_to(tmp_path / "empty"))
    job = worker.deliver_next(FakeDestination())
    assert job.state is JobState.SHELVED
    assert "no objects" in job.error


def test_a_cancelled_job_drops_the_result_of_the_worker_that_still_runs(worker, objects, clock):
    def assess(job):
        worker.jobs.cancel(job.job_id, clock.now())
        return Conclusion(objects=objects, outcome="assessed")

    assert worker.assess_next(assess) is None
    assert worker.jobs.get(1).state is JobState.CANCELLED


def test_pauses_double_up_to_the_longest():
    rules = WorkRules(first_retry_seconds=10, longest_retry_seconds=3600)
    assert [rules.retry_after(attempt) for attempt in (0, 1, 5, 500)] == [
        timedelta(seconds=seconds) for seconds in (10, 20, 320, 3600)
    ]
