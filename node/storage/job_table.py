"""The rows of the job table and of its history, as records."""

import hashlib
import sqlite3
from dataclasses import dataclass
from datetime import datetime

from engines.errors import InvalidInput
from node.job import Job, JobState
from node.storage.database import decode_time, encode_time
from node.storage.index import CT_IMAGE_STORAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMove:
    """One line of a job's history."""

    at: datetime
    state: JobState
    detail: str


def read_row(connection: sqlite3.Connection, job_id: int) -> sqlite3.Row:
    """Returns the row of a job.

    Raises:
        InvalidInput: there is no such job.
    """
    row: sqlite3.Row | None = connection.execute("SELECT * FROM job WHERE job_id = ?", (job_id,)).fetchone()
    if row is None:
        raise InvalidInput(f"there is no job {job_id}")
    return row


def decode_job(row: sqlite3.Row) -> Job:
    """Returns the job of a row."""
    return Job(
        job_id=row["job_id"],
        study_instance_uid=row["study_instance_uid"],
        state=JobState(row["state"]),
        attempt=row["attempt"],
        due_at=decode_time(row["due_at"]),
        created_at=decode_time(row["created_at"]),
        updated_at=decode_time(row["updated_at"]),
        lease_owner=row["lease_owner"],
        lease_until=decode_time(row["lease_until"]) if row["lease_until"] else None,
        instances_digest=row["instances_digest"],
        model_version=row["model_version"],
        outcome=row["outcome"],
        error=row["error"],
        supersedes=row["supersedes"],
        shown_to=row["shown_to"],
        shown_at=decode_time(row["shown_at"]) if row["shown_at"] else None,
    )


def note_move(
    connection: sqlite3.Connection, job_id: int, now: datetime, state: JobState, detail: str
) -> None:
    """Adds a line to a job's history."""
    connection.execute(
        "INSERT INTO job_move (job_id, at, state, detail) VALUES (?, ?, ?, ?)",
        (job_id, encode_time(now), state, detail),
    )


def read_moves(connection: sqlite3.Connection, job_id: int) -> tuple[JobMove, ...]:
    """Returns the history of a job, in order."""
    rows = connection.execute("SELECT * FROM job_move WHERE job_id = ? ORDER BY rowid", (job_id,)).fetchall()
    return tuple(
        JobMove(at=decode_time(row["at"]), state=JobState(row["state"]), detail=row["detail"]) for row in rows
    )


def digest_images(connection: sqlite3.Connection, study_instance_uid: str) -> tuple[str, int]:
    """Returns a hash over the CT images of a study that have arrived, and their number; results of ours do not count."""
    rows = connection.execute(
        "SELECT sop_instance_uid, content_sha256 FROM instance WHERE study_instance_uid = ? AND ours = 0 "
        "AND sop_class_uid IN (?, ?, ?) ORDER BY sop_instance_uid, content_sha256",
        (study_instance_uid, *sorted(CT_IMAGE_STORAGE)),
    ).fetchall()
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{row['sop_instance_uid']} {row['content_sha256']}\n".encode())
    return digest.hexdigest(), len(rows)
