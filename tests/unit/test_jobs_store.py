"""The queue: one job for one set of images, leases that fence, legal moves only, a history that tells all."""

import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from engines.errors import InvalidInput
from node.errors import JobMoveRefused, SettingsRefused
from node.job import JobState
from node.ports import Answer, Conclusion, Delivery
from node.storage import jobs as jobs_module
from node.storage.database import (
    decode_time,
    encode_time,
    open_database,
    schema_version,
    write_transaction,
)
from node.storage.jobs import SqliteJobs
from node.testing import FakeClock

STUDY = "2.25.1001"


@pytest.fixture
def database(tmp_path):
    return tmp_path / "node.sqlite"


@pytest.fixture
def jobs(database):
    with SqliteJobs(database) as store:
        yield store


def arrive(database: Path, *instances: str, study: str = STUDY, ours: bool = False) -> None:
    connection = open_database(database)
    for instance in instances:
        connection.execute(
            "INSERT INTO instance (sop_instance_uid, content_sha256, study_instance_uid, series_instance_uid, "
            "sop_class_uid, transfer_syntax_uid, modality, acquisition, frames, ours, path, size_bytes, "
            "calling_ae_title, address, received_at) VALUES (?, 'x', ?, '1', '1.2.840.10008.5.1.4.1.1.2', '', 'CT', "
            "'', 1, ?, ?, 1, '', '', '')",
            (instance, study, ours, instance),
        )
    connection.close()


CLOCK = FakeClock()


def open_job(jobs, database, *instances: str):
    arrive(database, *instances)
    job = jobs.close_study(STUDY, CLOCK.now())
    assert job is not None
    return job


def test_one_set_of_images_makes_one_job(jobs, database):
    job = open_job(jobs, database, "1", "2")
    assert job.state is JobState.WAITING
    assert jobs.close_study(STUDY, CLOCK.now()) is None


def test_our_own_results_change_nothing(jobs, database):
    job = open_job(jobs, database, "1")
    arrive(database, "9", ours=True)
    assert jobs.close_study(STUDY, CLOCK.now()) is None
    assert jobs.get(job.job_id).instances_digest == job.instances_digest


def test_late_images_join_a_waiting_job(jobs, database):
    job = open_job(jobs, database, "1")
    arrive(database, "2")
    later = jobs.close_study(STUDY, CLOCK.now())
    assert later.job_id == job.job_id
    assert later.instances_digest != job.instances_digest


def test_late_images_after_the_start_make_a_job_that_supersedes_and_waits_for_the_first(jobs, database):
    job = open_job(jobs, database, "1")
    jobs.claim(JobState.WAITING, "a", CLOCK.now(), 60)
    arrive(database, "2")
    later = jobs.close_study(STUDY, CLOCK.now())
    assert later.supersedes == job.job_id
    assert jobs.claim(JobState.WAITING, "b", CLOCK.now(), 60) is None


def test_a_study_that_grows_for_ever_has_its_share_of_results(jobs, database, monkeypatch):
    monkeypatch.setattr(jobs_module, "MAXIMUM_RESULTS_PER_STUDY", 2)
    for number in range(3):
        arrive(database, str(number))
        job = jobs.close_study(STUDY, CLOCK.now())
        if job is not None:
            jobs.cancel(job.job_id, CLOCK.now())
    assert len(jobs.find()) == 2


def test_a_claimed_job_is_not_claimed_again_while_its_lease_lasts(jobs, database):
    open_job(jobs, database, "1")
    assert jobs.claim(JobState.WAITING, "a", CLOCK.now(), 60).lease_owner == "a"
    assert jobs.claim(JobState.WAITING, "b", CLOCK.now(), 60) is None


def test_a_lost_lease_puts_the_job_back_and_the_late_worker_cannot_conclude(jobs, database):
    job = open_job(jobs, database, "1")
    jobs.claim(JobState.WAITING, "a", CLOCK.now(), 60)
    later = CLOCK.now() + timedelta(seconds=61)
    (back,) = jobs.recover(later, 3)
    assert (back.state, back.attempt) == (JobState.WAITING, 1)
    jobs.claim(JobState.WAITING, "b", later, 60)
    with pytest.raises(JobMoveRefused, match="no longer leased to a"):
        jobs.conclude(job.job_id, "a", Conclusion(objects=Path("x"), outcome="assessed"), later)
    assert not jobs.renew(job.job_id, "a", later)
    assert jobs.renew(job.job_id, "b", later + timedelta(seconds=60))


def test_a_job_that_keeps_killing_its_workers_waits_once_more_to_be_told_of_and_is_shelved(jobs, database):
    open_job(jobs, database, "1")
    states = []
    for _ in range(4):
        jobs.claim(JobState.WAITING, "a", CLOCK.now(), 60)
        (job,) = jobs.recover(CLOCK.now(), 3, owner="a")
        states.append(job.state)
    assert states == [JobState.WAITING] * 3 + [JobState.SHELVED]
    assert "is gone" in job.error


def test_a_worker_told_to_stop_is_not_blamed(jobs, database):
    open_job(jobs, database, "1")
    jobs.claim(JobState.WAITING, "a", CLOCK.now(), 60)
    (job,) = jobs.recover(CLOCK.now(), 1, owner="a", blame=False)
    assert (job.state, job.attempt, job.error) == (JobState.WAITING, 0, "")


def test_postponed_work_is_due_later_and_counts_a_try(jobs, database):
    job = open_job(jobs, database, "1")
    jobs.claim(JobState.WAITING, "a", CLOCK.now(), 60)
    due = CLOCK.now() + timedelta(seconds=10)
    job = jobs.postpone(job.job_id, "a", due, "no luck", CLOCK.now())
    assert (job.state, job.attempt, job.error) == (JobState.WAITING, 1, "no luck")
    assert jobs.claim(JobState.WAITING, "a", CLOCK.now(), 60) is None
    assert jobs.claim(JobState.WAITING, "a", due, 60) is not None


def test_an_illegal_move_is_refused_and_changes_nothing(jobs, database):
    job = open_job(jobs, database, "1")
    with pytest.raises(JobMoveRefused, match="WAITING cannot become DONE"):
        jobs.move(job.job_id, JobState.DONE, CLOCK.now())
    assert jobs.get(job.job_id).state is JobState.WAITING


def conclude(jobs, database):
    job = open_job(jobs, database, "1")
    jobs.claim(JobState.WAITING, "a", CLOCK.now(), 60)
    return jobs.conclude(
        job.job_id, "a", Conclusion(objects=Path("/x"), outcome="assessed", model_version="3"), CLOCK.now()
    )


def test_retry_sends_again_when_the_objects_are_built_and_assesses_again_when_not(jobs, database):
    job = conclude(jobs, database)
    assert jobs.conclusion(job.job_id) == Conclusion(
        objects=Path("/x"), outcome="assessed", model_version="3"
    )
    jobs.move(job.job_id, JobState.SHELVED, CLOCK.now(), error="gone")
    assert jobs.retry(job.job_id, CLOCK.now()).state is JobState.SENDING
    jobs.cancel(job.job_id, CLOCK.now())
    assert jobs.retry(job.job_id, CLOCK.now()).state is JobState.WAITING


def test_retry_of_a_postponed_job_makes_it_due_now(jobs, database):
    job = conclude(jobs, database)
    jobs.claim(JobState.SENDING, "c", CLOCK.now(), 60)
    jobs.postpone(job.job_id, "c", CLOCK.now() + timedelta(hours=1), "away", CLOCK.now())
    assert jobs.claim(JobState.SENDING, "c", CLOCK.now(), 60) is None
    jobs.retry(job.job_id, CLOCK.now())
    assert jobs.claim(JobState.SENDING, "c", CLOCK.now(), 60) is not None


def test_deliveries_are_remembered_by_object(jobs, database):
    job = conclude(jobs, database)
    for answer in (Answer.LATER, Answer.STORED):
        jobs.record_deliveries(
            job.job_id,
            [Delivery(sop_class_uid="1", sop_instance_uid="7", answer=answer, status=0, detail="")],
            "pacs:104:PACS",
            CLOCK.now(),
        )
    assert jobs.stored_objects(job.job_id) == {"7"}
    assert len(jobs.deliveries(job.job_id)) == 1


def test_history_tells_every_move(jobs, database):
    job = conclude(jobs, database)
    assert [move.state for move in jobs.history(job.job_id)] == [
        JobState.WAITING,
        JobState.RUNNING,
        JobState.SENDING,
    ]
    assert jobs.counts()[JobState.SENDING] == 1


def test_an_unknown_job_is_named(jobs):
    with pytest.raises(InvalidInput, match="no job 7"):
        jobs.get(7)


def test_the_database_is_durable_and_of_the_newest_schema(database):
    connection = open_database(database)
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    assert connection.execute("PRAGMA user_version").fetchone()[0] == schema_version()
    modes = {path.name: path.stat().st_mode & 0o777 for path in database.parent.iterdir()}
    assert set(modes) == {"node.sqlite", "node.sqlite-wal", "node.sqlite-shm"}
    assert set(modes.values()) == {0o640}
    connection.close()


def test_a_commit_that_fails_leaves_the_connection_fit_for_the_next_transaction(database):
    connection = open_database(database)

    def fail_at_the_commit():  # as on a full disk
        with write_transaction(connection):
            connection.execute("PRAGMA defer_foreign_keys = ON")
            connection.execute("INSERT INTO job_move VALUES (7, '', 'DONE', '')")

    with pytest.raises(sqlite3.IntegrityError):
        fail_at_the_commit()
    with write_transaction(connection):
        connection.execute("INSERT INTO study VALUES ('2.25.1', 1, 0, '')")
    assert connection.execute("SELECT count(*) FROM job_move").fetchone()[0] == 0
    connection.close()


def test_another_process_that_looks_and_leaves_does_not_take_the_journal_away(database):
    def look():
        program = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM study').fetchone()[0])"
        return subprocess.check_output(
            [sys.executable, "-S", "-c", program, str(database)], text=True
        ).strip()

    first, second = open_database(database), open_database(database)  # as receiver and inbox of one process
    assert look() == "0"
    first.execute("INSERT INTO study VALUES ('2.25.1', 1, 0, '')")
    assert look() == "1"
    first.close()
    second.close()


def test_a_database_of_a_newer_version_is_refused(database):
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(SettingsRefused, match="schema version 999"):
        open_database(database)


def test_times_keep_their_order_and_value_as_text():
    moment = CLOCK.now()
    later = moment + timedelta(microseconds=1)
    assert encode_time(moment) < encode_time(later)
    assert decode_time(encode_time(later)) == later
