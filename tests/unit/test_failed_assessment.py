"""An assessment that fails for good: the archive hears of it, the operator finds it on the shelf, a retry starts anew."""

import pytest

from node.errors import ObjectInvalid
from node.job import JobState
from node.ports import FAILED, UNCHANGED, Conclusion
from node.storage.database import open_database
from node.storage.jobs import SqliteJobs
from node.testing import FakeClock, FakeDestination
from node.worker import Worker, WorkRules

STUDY = "2.25.1001"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def jobs(tmp_path, clock):
    arrive(tmp_path, "1")
    with SqliteJobs(tmp_path / "node.sqlite") as store:
        store.close_study(STUDY, clock.now())
        yield store


@pytest.fixture
def worker(jobs, clock):
    rules = WorkRules(assessment_tries=2, delivery_tries=2, first_retry_seconds=10)
    return Worker(name="w", jobs=jobs, clock=clock, rules=rules)


@pytest.fixture
def failure(tmp_path):
    """Function that gives the report of a failure, with one object."""
    folder = tmp_path / "failure"
    folder.mkdir()
    (folder / "1.9.dcm").touch()
    return lambda job, error: Conclusion(objects=folder, outcome=FAILED, error=error)


def arrive(folder, instance):
    connection = open_database(folder / "node.sqlite")
    connection.execute(
        "INSERT INTO instance VALUES (?, 'x', ?, '1', '1.2.840.10008.5.1.4.1.1.2', '', 'CT', '', 0, 1, 0, 0, "
        "?, 1, '', '', '')",
        (instance, STUDY, f"p{instance}"),
    )
    connection.close()


def assess(job):
    raise ZeroDivisionError("a fault of ours")


def fail_for_good(worker, clock, tell):
    assert worker.assess_next(assess, tell).state is JobState.WAITING
    clock.advance(10)
    return worker.assess_next(assess, tell)


def test_nothing_is_told_before_the_last_try(worker, failure):
    told = []
    assert worker.assess_next(assess, lambda *words: told.append(words)).state is JobState.WAITING
    assert told == []


@pytest.mark.parametrize("commits", [False, True])
def test_the_archive_gets_the_report_and_the_job_is_shelved_with_the_first_reason(
    worker, clock, failure, commits
):
    assert fail_for_good(worker, clock, failure).state is JobState.SENDING
    destination = FakeDestination(commits=commits)
    job = worker.deliver_next(destination)
    assert destination.sent == [("1.9", False)]
    assert destination.transactions == []
    assert (job.state, job.outcome) == (JobState.SHELVED, FAILED)
    assert job.error.startswith("ZeroDivisionError: a fault of ours; its report: 1 objects stored")


def test_the_first_reason_survives_an_archive_that_is_away_for_a_while(worker, clock, failure):
    fail_for_good(worker, clock, failure)
    assert worker.deliver_next(FakeDestination(down=True)).state is JobState.SENDING
    clock.advance(10)
    assert "ZeroDivisionError: a fault of ours" in worker.deliver_next(FakeDestination()).error


def test_a_retry_assesses_again_and_does_not_send_the_old_report(worker, clock, failure, tmp_path):
    fail_for_good(worker, clock, failure)
    job = worker.deliver_next(FakeDestination())
    assert worker.jobs.retry(job.job_id, clock.now()).state is JobState.WAITING
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "1.2.dcm").touch()
    worker.assess_next(lambda _: Conclusion(objects=tmp_path / "good", outcome="assessed"), failure)
    destination = FakeDestination()
    assert worker.deliver_next(destination).state is JobState.DONE
    assert [name for name, _ in destination.sent] == ["1.2"]
    assert worker.jobs.conclusion(job.job_id).error == ""


def test_a_retried_job_is_done_when_the_archive_commits_to_the_new_objects_alone(
    worker, jobs, clock, failure, tmp_path
):
    fail_for_good(worker, clock, failure)
    destination = FakeDestination(commits=True)
    job = worker.deliver_next(destination)
    jobs.retry(job.job_id, clock.now())
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "1.2.dcm").touch()
    worker.assess_next(lambda _: Conclusion(objects=tmp_path / "good", outcome="assessed"), failure)
    assert worker.deliver_next(destination).state is JobState.CONFIRMING
    assert destination.sent[-1] == ("1.2", True)  # an object that is as before may be there already
    (transaction,) = destination.transactions
    confirmed = jobs.confirm(transaction, ["1.2"], "", clock.now())
    assert (confirmed.state, confirmed.error) == (JobState.DONE, "")


def test_a_report_for_nobody_leaves_the_job_on_the_shelf_at_once(worker, clock, tmp_path):
    (tmp_path / "empty").mkdir()
    job = fail_for_good(
        worker, clock, lambda _, error: Conclusion(objects=tmp_path / "empty", outcome=FAILED, error=error)
    )
    assert (job.state, job.error) == (JobState.SHELVED, "ZeroDivisionError: a fault of ours")


def test_a_report_that_cannot_be_written_is_told_beside_the_reason(worker, clock):
    def tell(job, error):
        raise ObjectInvalid("no Patient ID")

    job = fail_for_good(worker, clock, tell)
    assert job.state is JobState.SHELVED
    assert "ZeroDivisionError" in job.error
    assert "could not be written: no Patient ID" in job.error


def test_a_report_that_fails_in_any_way_keeps_the_reason_and_the_worker(worker, clock):
    def tell(job, error):
        raise ValueError("bad header")

    job = fail_for_good(worker, clock, tell)
    assert job.state is JobState.SHELVED
    assert (
        job.error
        == "ZeroDivisionError: a fault of ours; its report could not be written: ValueError: bad header"
    )


@pytest.mark.parametrize("tries_before", [0, 1], ids=["to be tried again", "last try"])
def test_a_job_that_is_cancelled_while_its_assessment_fails_stays_cancelled(
    worker, jobs, clock, failure, tries_before
):
    def cancel_and_fail(job):
        jobs.cancel(job.job_id, clock.now())
        assess(job)

    for _ in range(tries_before):
        worker.assess_next(assess, failure)
        clock.advance(10)
    assert worker.assess_next(cancel_and_fail, failure) is None
    assert jobs.find()[0].state is JobState.CANCELLED


def test_a_job_that_is_cancelled_while_its_delivery_fails_stays_cancelled(worker, jobs, clock, failure):
    class Cancelling(FakeDestination):
        def send(self, paths, *, retry):
            jobs.cancel(1, clock.now())
            raise OSError("the line is cut")

    fail_for_good(worker, clock, failure)
    assert worker.deliver_next(Cancelling()) is None
    assert jobs.find()[0].state is JobState.CANCELLED


def test_a_study_that_kills_its_worker_with_every_try_is_told_of_and_not_assessed_again(
    worker, jobs, clock, failure
):
    for _ in range(worker.rules.assessment_tries):
        jobs.claim(JobState.WAITING, "dead", clock.now(), 60)
        jobs.recover(clock.now(), worker.rules.assessment_tries, owner="dead")
    jobs.claim(JobState.WAITING, "stopped", clock.now(), 60)
    jobs.recover(clock.now(), worker.rules.assessment_tries, owner="stopped", blame=False)
    told = []

    def tell(job, error):
        told.append((job.attempt + 1, error))
        return failure(job, error)

    assert worker.assess_next(pytest.fail, tell).state is JobState.SENDING
    assert told == [(2, "the process dead that held this job is gone")]
    destination = FakeDestination()
    job = worker.deliver_next(destination)
    assert destination.sent == [("1.9", False)]
    assert (job.state, job.outcome) == (JobState.SHELVED, FAILED)
    assert "the process dead that held this job is gone; its report" in job.error


def test_a_job_that_changes_nothing_ends_without_delivery_and_takes_no_share(
    worker, jobs, clock, tmp_path, monkeypatch
):
    monkeypatch.setattr("node.storage.jobs.MAXIMUM_RESULTS_PER_STUDY", 1)
    worker.assess_next(lambda _: Conclusion(objects=tmp_path / "none", outcome=UNCHANGED))
    destination = FakeDestination()
    job = worker.deliver_next(destination)
    assert (job.state, destination.sent) == (JobState.DONE, [])
    assert "the earlier one stands" in jobs.history(job.job_id)[-1].detail
    arrive(tmp_path, "2")
    assert jobs.close_study(STUDY, clock.now()).supersedes == job.job_id
