"""What a destination answered to each object of a job. Called inside a transaction."""

import sqlite3
from collections.abc import Sequence
from datetime import datetime

from node.ports import Answer, Delivery
from node.storage.database import encode_time

STORED = (Answer.STORED, Answer.STORED_WITH_WARNING)
"""Answers after which the destination has the object."""


def write_deliveries(
    connection: sqlite3.Connection,
    job_id: int,
    deliveries: Sequence[Delivery],
    destination: str,
    now: datetime,
) -> None:
    """Remembers the last answer to each object, and who was shown the result first."""
    connection.executemany(
        "INSERT OR REPLACE INTO delivery (job_id, sop_instance_uid, sop_class_uid, answer, status, detail, at) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                job_id,
                delivery.sop_instance_uid,
                delivery.sop_class_uid,
                delivery.answer,
                delivery.status,
                delivery.detail,
                encode_time(now),
            )
            for delivery in deliveries
        ],
    )
    if any(delivery.answer in STORED for delivery in deliveries):
        connection.execute(
            "UPDATE job SET shown_to = ?, shown_at = ? WHERE job_id = ? AND shown_at IS NULL",
            (destination, encode_time(now), job_id),
        )


def read_deliveries(connection: sqlite3.Connection, job_id: int) -> tuple[Delivery, ...]:
    """Returns the last answer to each object of a job."""
    rows = connection.execute(
        "SELECT * FROM delivery WHERE job_id = ? ORDER BY sop_instance_uid", (job_id,)
    ).fetchall()
    return tuple(
        Delivery(
            sop_class_uid=row["sop_class_uid"],
            sop_instance_uid=row["sop_instance_uid"],
            answer=Answer(row["answer"]),
            status=row["status"],
            detail=row["detail"],
        )
        for row in rows
    )


def forget_deliveries(connection: sqlite3.Connection, job_id: int) -> None:
    """Removes the answers to the objects of an earlier conclusion."""
    connection.execute("DELETE FROM delivery WHERE job_id = ?", (job_id,))
