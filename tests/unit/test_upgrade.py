"""A database of schema version 1 with queued jobs is opened by this version: nothing is lost and the jobs run on."""

import shutil
import sqlite3
from contextlib import closing
from importlib import resources

import pytest
from typer.testing import CliRunner

from engines.errors import InvalidInput
from node.cli import app
from node.errors import SettingsRefused
from node.job import JobState
from node.ports import Conclusion
from node.storage.database import encode_time, open_database, schema_version
from node.storage.jobs import SqliteJobs
from node.testing import FakeClock, FakeDestination, SyntheticSlice, save_slices
from node.worker import Worker, WorkRules

CLOCK = FakeClock()
NOW = encode_time(CLOCK.now())
CT = "1.2.840.10008.5.1.4.1.1.2"
FIRST = resources.files("node.storage").joinpath("schema/001_first.sql").read_text(encoding="utf-8")
"""The schema of the first release, statement for statement: a released file of schema/ never changes."""


@pytest.fixture
def database(tmp_path):
    """A version 1 database as its node left it: a job in every state, the busy ones with their leases."""
    path = tmp_path / "node.sqlite"
    objects = tmp_path / "objects"
    save_slices([SyntheticSlice(study="2.25.1", series="2.25.1.9", instance="2.25.1.9.1")], objects)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(FIRST)
        connection.execute("PRAGMA user_version = 1")
        for number, state in enumerate(JobState, start=1):
            built = state not in {JobState.WAITING, JobState.RUNNING, JobState.CANCELLED}
            busy = state in {JobState.RUNNING, JobState.SENDING}
            connection.execute(
                "INSERT INTO job (job_id, study_instance_uid, state, due_at, created_at, updated_at, lease_owner, "
                "lease_until, instances_digest, outcome, objects, transaction_uid) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                (
                    number,
                    f"2.25.{number}",
                    state,
                    *(NOW,) * 3,
                    f"worker-{number}" if busy else "",
                    NOW if busy else None,
                    f"digest {number}",
                    "assessed" if built else "",
                    str(objects) if built else "",
                    f"2.25.77.{number}" if state is JobState.CONFIRMING else "",
                ),
            )
            connection.execute("INSERT INTO job_move VALUES (?, ?, 'WAITING', '75 images')", (number, NOW))
            connection.execute(
                "INSERT INTO instance VALUES (?, 'x', ?, '1', ?, '', 'CT', '', 1.0, 1, 0, 0, ?, 1, '', '', ?)",
                (f"2.25.{number}.1", f"2.25.{number}", CT, f"studies/{number}", NOW),
            )
            connection.execute("INSERT INTO study VALUES (?, 1, 1, ?)", (f"2.25.{number}", NOW))
            if state in {JobState.CONFIRMING, JobState.DONE}:
                connection.execute(
                    "INSERT INTO delivery VALUES (?, '2.25.1.9.1', ?, 'STORED', 0, '', ?)", (number, CT, NOW)
                )
    return path


def of(jobs, state):
    """The job that stood in a state when it was written."""
    return jobs.get(list(JobState).index(state) + 1)


def test_every_row_of_version_1_is_there_after_the_upgrade(database):
    queries = (
        "SELECT sop_instance_uid, study_instance_uid, path, received_at FROM instance",
        "SELECT study_instance_uid, images, taken_up, last_received_at FROM study",
        "SELECT job_id, study_instance_uid, state, lease_owner, instances_digest, objects, transaction_uid FROM job",
        "SELECT job_id, at, state, detail FROM job_move",
        "SELECT job_id, sop_instance_uid, answer, at FROM delivery",
    )

    def read(connection):
        return [{tuple(row) for row in connection.execute(query)} for query in queries]

    with closing(sqlite3.connect(database)) as old:
        before = read(old)
    assert all(before)
    with closing(open_database(database)) as new:
        assert new.execute("PRAGMA user_version").fetchone()[0] == schema_version() > 1
        assert read(new) == before


def test_queued_jobs_of_version_1_run_on_to_the_archive(database, tmp_path):
    with SqliteJobs(database) as jobs:
        jobs.recover(CLOCK.now(), 3, owner="")  # as the node does when it starts
        destination = FakeDestination()
        worker = Worker(name="worker", jobs=jobs, clock=CLOCK, rules=WorkRules())
        assessed = []

        def assess(job):
            assessed.append(job.job_id)
            return Conclusion(objects=tmp_path / "objects", outcome="assessed", model_version="fake-1")

        queued = [of(jobs, state).job_id for state in (JobState.WAITING, JobState.RUNNING)]
        while worker.assess_next(assess):
            CLOCK.advance(60)
        sending = of(jobs, JobState.SENDING).job_id
        while worker.deliver_next(destination):
            CLOCK.advance(60)
        assert assessed == queued
        for job_id in (*queued, sending):
            job = jobs.get(job_id)
            assert (job.state, job.shown_to) == (JobState.DONE, destination.name)
            assert job.shown_at is not None
        committed = jobs.confirm(
            f"2.25.77.{of(jobs, JobState.CONFIRMING).job_id}", {"2.25.1.9.1"}, "", CLOCK.now()
        )
        assert committed is not None
        assert committed.state is JobState.DONE
        for state in (JobState.UNCONFIRMED, JobState.SHELVED, JobState.CANCELLED, JobState.WITHDRAWN):
            assert of(jobs, state).state is state
        assert jobs.retry(of(jobs, JobState.SHELVED).job_id, CLOCK.now()).state is JobState.SENDING
        assert jobs.retry(of(jobs, JobState.CANCELLED).job_id, CLOCK.now()).state is JobState.WAITING


def test_since_when_version_1_showed_a_result_is_taken_over_and_to_whom_is_not_known(database):
    with SqliteJobs(database) as jobs:
        done = of(jobs, JobState.DONE)
        assert encode_time(done.shown_at) == NOW
        assert done.shown_to == ""
        assert of(jobs, JobState.UNCONFIRMED).shown_at is None


def test_the_upgrade_keeps_a_copy_that_the_old_version_can_go_back_to(database, tmp_path):
    open_database(database).close()
    copy = tmp_path / "node.sqlite.version-1"
    assert copy.stat().st_mode & 0o777 == 0o640
    with closing(sqlite3.connect(copy)) as old:
        assert old.execute("PRAGMA user_version").fetchone()[0] == 1
        assert old.execute("SELECT count(*) FROM job").fetchone()[0] == len(JobState)
    again = copy.stat().st_mtime_ns
    open_database(database).close()
    assert copy.stat().st_mtime_ns == again


def test_a_migration_that_fails_changes_nothing(database, monkeypatch):
    monkeypatch.setattr(
        "node.storage.database._migrations",
        lambda: [FIRST, "ALTER TABLE job ADD COLUMN half TEXT;\nINSERT INTO nowhere VALUES (1);\n"],
    )
    with pytest.raises(sqlite3.OperationalError, match="nowhere"):
        open_database(database)
    with closing(sqlite3.connect(database)) as old:
        assert old.execute("PRAGMA user_version").fetchone()[0] == 1
        assert "half" not in {row[1] for row in old.execute("PRAGMA table_info(job)")}


def test_a_database_of_a_newer_version_is_refused_with_the_remedy(database):
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(f"PRAGMA user_version = {schema_version() + 1}")
    with pytest.raises(SettingsRefused, match="install the newer version again, or restore the backup"):
        open_database(database)


def test_a_file_that_is_no_database_is_refused_with_the_remedy(tmp_path):
    path = tmp_path / "node.sqlite"
    path.write_bytes(b"torn by a full disk " * 50)
    with pytest.raises(SettingsRefused, match="put a backup in its place"):
        open_database(path)


def test_a_backup_is_taken_while_the_node_writes_and_restores_every_job(database, tmp_path):
    copy = tmp_path / "copies" / "node.sqlite"
    copy.parent.mkdir()
    with SqliteJobs(database) as jobs:  # open, as a running node holds it, with rows still in the journal
        waiting = of(jobs, JobState.WAITING)
        assert jobs.claim(JobState.WAITING, "worker", CLOCK.now(), 60) == jobs.get(waiting.job_id)
        ran = CliRunner().invoke(app, ["backup", str(copy), "--data", str(tmp_path)])
        assert ran.exit_code == 0, ran.output
        present = jobs.find()
        jobs.cancel(waiting.job_id, CLOCK.now())
    assert [path.name for path in copy.parent.iterdir()] == ["node.sqlite"]
    restored = tmp_path / "restored" / "node.sqlite"
    restored.parent.mkdir()
    shutil.copy(copy, restored)
    with SqliteJobs(restored) as jobs:
        assert jobs.find() == present


@pytest.mark.parametrize("target", ["node.sqlite", "absent/copy.sqlite"])
def test_a_backup_never_overwrites_the_database_and_names_a_folder_that_is_not_there(
    database, tmp_path, target
):
    ran = CliRunner().invoke(app, ["backup", str(tmp_path / target), "--data", str(tmp_path)])
    assert ran.exit_code != 0
    assert isinstance(ran.exception, InvalidInput)
