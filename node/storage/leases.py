"""Leases: which process holds which job, and what becomes of jobs whose holder is gone. Called inside a transaction."""

import sqlite3
from datetime import datetime, timedelta

from node.errors import JobMoveRefused
from node.job import JobState, check_move
from node.storage.database import encode_time
from node.storage.job_table import note_move, read_row


def is_any_due(connection: sqlite3.Connection, state: JobState, now: datetime) -> bool:
    """Returns whether a job in ``state`` is due; needs no write lock, for idle workers ask several times a second."""
    row = connection.execute(
        "SELECT 1 FROM job WHERE state = ? AND due_at <= ? LIMIT 1", (state, encode_time(now))
    ).fetchone()
    return row is not None


def claim_job(
    connection: sqlite3.Connection, state: JobState, owner: str, now: datetime, lease_seconds: float
) -> int | None:
    """Leases the longest due job in ``state`` and returns its number, None when there is none.

    A job in WAITING moves to RUNNING, unless another job of its study is being assessed; a job in SENDING stays there.
    A job whose lease ran out can be claimed again.
    """
    moment = encode_time(now)
    row = connection.execute(
        "SELECT job_id FROM job AS due WHERE state = ? AND due_at <= ? "
        "AND (lease_until IS NULL OR lease_until < ?) AND NOT EXISTS (SELECT 1 FROM job AS other "
        "WHERE other.study_instance_uid = due.study_instance_uid AND other.state = 'RUNNING' "
        "AND due.state = 'WAITING') ORDER BY due_at, job_id LIMIT 1",
        (state, moment, moment),
    ).fetchone()
    if row is None:
        return None
    job_id = int(row["job_id"])
    after = JobState.RUNNING if state is JobState.WAITING else state
    if after is not state:
        check_move(state, after)
        note_move(connection, job_id, now, after, owner)
    connection.execute(
        "UPDATE job SET state = ?, lease_owner = ?, lease_until = ?, updated_at = ? WHERE job_id = ?",
        (after, owner, encode_time(now + timedelta(seconds=lease_seconds)), moment, job_id),
    )
    return job_id


def renew_lease(connection: sqlite3.Connection, job_id: int, owner: str, until: datetime) -> bool:
    """Prolongs a lease; False when ``owner`` no longer holds it."""
    return bool(
        connection.execute(
            "UPDATE job SET lease_until = ? WHERE job_id = ? AND lease_owner = ?",
            (encode_time(until), job_id, owner),
        ).rowcount
    )


def check_owner(connection: sqlite3.Connection, job_id: int, owner: str) -> None:
    """Returns nothing when ``owner`` holds the lease of a job.

    Raises:
        JobMoveRefused: another one holds it, or nobody.
    """
    holder = read_row(connection, job_id)["lease_owner"]
    if holder != owner:
        raise JobMoveRefused(
            f"job {job_id} is no longer leased to {owner} (now: {holder or 'nobody'}); its result is dropped"
        )


def recover_jobs(
    connection: sqlite3.Connection, now: datetime, maximum_tries: int, *, owner: str | None, blame: bool
) -> tuple[int, ...]:
    """Takes back jobs whose worker is gone and returns their numbers; the arguments are those of ``SqliteJobs.recover``."""
    rows = connection.execute(
        "SELECT job_id, state, attempt, lease_owner, error FROM job WHERE lease_owner <> '' "
        "AND (lease_until < ? OR ? = '' OR lease_owner = ?)",
        (encode_time(now), owner, owner),
    ).fetchall()
    for row in rows:
        before, tries = JobState(row["state"]), row["attempt"] + blame
        loss = f"the process {row['lease_owner']} that held this job is gone"
        after = before
        if before is JobState.RUNNING:
            after = JobState.SHELVED if tries > maximum_tries else JobState.WAITING
            check_move(before, after)
        connection.execute(
            "UPDATE job SET state = ?, attempt = ?, lease_owner = '', lease_until = NULL, due_at = ?, "
            "updated_at = ?, error = ? WHERE job_id = ?",
            (
                after,
                tries,
                encode_time(now),
                encode_time(now),
                loss if blame else row["error"],
                row["job_id"],
            ),
        )
        note_move(connection, row["job_id"], now, after, loss if blame else "the worker was told to stop")
    return tuple(int(row["job_id"]) for row in rows)
