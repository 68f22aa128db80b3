"""The queue of assessments in SQLite: leases, legal moves, retries, and a history that tells every move."""

import sqlite3
import threading
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from node.errors import JobMoveRefused
from node.job import Job, JobState, check_move
from node.ports import FAILED, UNCHANGED, Conclusion, Delivery
from node.storage.database import decode_time, encode_time, open_database, write_transaction
from node.storage.deliveries import STORED, forget_deliveries, read_deliveries, write_deliveries
from node.storage.job_table import JobMove, decode_job, digest_images, note_move, read_moves, read_row
from node.storage.leases import check_owner, claim_job, is_any_due, recover_jobs, renew_lease

log = structlog.get_logger(__name__)

MAXIMUM_RESULTS_PER_STUDY = 5
"""Jobs of one study, those that changed nothing left out; a study that keeps growing after this many stops being
re-assessed (dicom.md, section 1)."""


class SqliteJobs:
    """The job store; safe to use from several threads and processes."""

    def __init__(self, database: Path) -> None:
        self._connection = open_database(database)
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def close_study(self, study_instance_uid: str, now: datetime) -> Job | None:
        """Takes the arrived CT images up as one job, in one transaction with the note that they are taken up.

        A job that still waits takes the new images in; otherwise a new job supersedes the latest one.

        Returns:
            The job, or None when a job with the very same images exists or the study has had its share of results.
        """
        with self._lock, write_transaction(self._connection) as connection:
            digest, images = digest_images(connection, study_instance_uid)
            connection.execute(
                "UPDATE study SET taken_up = ? WHERE study_instance_uid = ?", (images, study_instance_uid)
            )
            jobs = connection.execute(
                "SELECT * FROM job WHERE study_instance_uid = ? ORDER BY job_id DESC", (study_instance_uid,)
            ).fetchall()
            if images == 0 or any(row["instances_digest"] == digest for row in jobs):
                return None
            if jobs and jobs[0]["state"] == JobState.WAITING:
                connection.execute(
                    "UPDATE job SET instances_digest = ?, updated_at = ? WHERE job_id = ?",
                    (digest, encode_time(now), jobs[0]["job_id"]),
                )
                note_move(connection, jobs[0]["job_id"], now, JobState.WAITING, f"{images} images now")
                return self.get(jobs[0]["job_id"])
            if sum(row["outcome"] != UNCHANGED for row in jobs) >= MAXIMUM_RESULTS_PER_STUDY:
                log.warning(
                    "the study grew again but has had its share of results",
                    study=study_instance_uid,
                    results=len(jobs),
                    maximum=MAXIMUM_RESULTS_PER_STUDY,
                )
                return None
            cursor = connection.execute(
                "INSERT INTO job (study_instance_uid, state, due_at, created_at, updated_at, instances_digest, "
                "supersedes) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    study_instance_uid,
                    JobState.WAITING,
                    *(encode_time(now),) * 3,
                    digest,
                    jobs[0]["job_id"] if jobs else None,
                ),
            )
            job_id = int(cursor.lastrowid or 0)
            note_move(connection, job_id, now, JobState.WAITING, f"{images} images")
            return self.get(job_id)

    def claim(self, state: JobState, owner: str, now: datetime, lease_seconds: float) -> Job | None:
        """Leases the longest due job in ``state``, or returns None.

        A job in WAITING moves to RUNNING, unless another job of its study is being assessed; a job in SENDING stays
        there. A job whose lease ran out can be claimed again.
        """
        with self._lock:
            if not is_any_due(self._connection, state, now):
                return None
        with self._lock, write_transaction(self._connection) as connection:
            job_id = claim_job(connection, state, owner, now, lease_seconds)
            return None if job_id is None else self.get(job_id)

    def renew(self, job_id: int, owner: str, until: datetime) -> bool:
        """Prolongs a lease; False when ``owner`` no longer holds it."""
        with self._lock:
            return renew_lease(self._connection, job_id, owner, until)

    def recover(
        self, now: datetime, maximum_tries: int, *, owner: str | None = None, blame: bool = True
    ) -> tuple[Job, ...]:
        """Takes back jobs whose worker is gone and returns them.

        Args:
            now: leases that ended before this are lost.
            maximum_tries: a job that lost this many workers, and may be what kills them, waits for one only to tell its
                failure; it is shelved when that is lost too.
            owner: leases of this holder are lost too ("" = every lease: the node starts, and holds the lock on its
                data folder).
            blame: False when the worker was told to stop: the try does not count.
        """
        with self._lock, write_transaction(self._connection) as connection:
            taken = recover_jobs(connection, now, maximum_tries, owner=owner, blame=blame)
            return tuple(self.get(job_id) for job_id in taken)

    def conclude(self, job_id: int, owner: str, conclusion: Conclusion, now: datetime) -> Job:
        """RUNNING becomes SENDING: the objects are built, the attempts of the delivery start at 0.

        The answers to the objects of an earlier conclusion go: the archive is not asked to commit itself to those.
        """
        with self._lock, write_transaction(self._connection) as connection:
            check_owner(connection, job_id, owner)
            check_move(self.get(job_id).state, JobState.SENDING)
            forget_deliveries(connection, job_id)
            connection.execute(
                "UPDATE job SET state = ?, attempt = 0, due_at = ?, updated_at = ?, lease_owner = '', "
                "lease_until = NULL, error = '', outcome = ?, model_version = ?, objects = ? WHERE job_id = ?",
                (
                    JobState.SENDING,
                    *(encode_time(now),) * 2,
                    conclusion.outcome,
                    conclusion.model_version,
                    str(conclusion.objects),
                    job_id,
                ),
            )
            detail = f"{conclusion.outcome}: {conclusion.error}" if conclusion.error else conclusion.outcome
            note_move(connection, job_id, now, JobState.SENDING, detail)
            return self.get(job_id)

    def postpone(self, job_id: int, owner: str, due_at: datetime, error: str, now: datetime) -> Job:
        """Gives the lease back; the job is due again at ``due_at`` with one more attempt (RUNNING waits again)."""
        with self._lock, write_transaction(self._connection) as connection:
            check_owner(connection, job_id, owner)
            before = self.get(job_id).state
            after = JobState.WAITING if before is JobState.RUNNING else before
            if after is not before:
                check_move(before, after)
            connection.execute(
                "UPDATE job SET state = ?, attempt = attempt + 1, due_at = ?, updated_at = ?, lease_owner = '', "
                "lease_until = NULL, error = ? WHERE job_id = ?",
                (after, encode_time(due_at), encode_time(now), error, job_id),
            )
            note_move(connection, job_id, now, after, error)
            return self.get(job_id)

    def move(
        self,
        job_id: int,
        after: JobState,
        now: datetime,
        *,
        owner: str = "",
        error: str = "",
        detail: str = "",
    ) -> Job:
        """Moves a job and gives the lease back.

        Args:
            job_id: whose state changes.
            after: the new state.
            now: this moment.
            owner: the holder of the lease; "" for an operator, who overrides it.
            error: why, for a state that needs a reason.
            detail: for the job's history, when there is no error.

        Raises:
            JobMoveRefused: the move is not legal, or the lease is no longer ours.
        """
        with self._lock, write_transaction(self._connection) as connection:
            if owner:
                check_owner(connection, job_id, owner)
            check_move(self.get(job_id).state, after)
            connection.execute(
                "UPDATE job SET state = ?, attempt = 0, due_at = ?, updated_at = ?, lease_owner = '', "
                "lease_until = NULL, error = ? WHERE job_id = ?",
                (after, encode_time(now), encode_time(now), error, job_id),
            )
            note_move(connection, job_id, now, after, error or detail)
            return self.get(job_id)

    def await_confirmation(
        self, job_id: int, owner: str, transaction_uid: str, until: datetime, now: datetime
    ) -> Job:
        """SENDING becomes CONFIRMING: the report of this transaction is awaited until then."""
        with self._lock, write_transaction(self._connection) as connection:
            check_owner(connection, job_id, owner)
            check_move(self.get(job_id).state, JobState.CONFIRMING)
            connection.execute(
                "UPDATE job SET state = ?, transaction_uid = ?, due_at = ?, updated_at = ?, lease_owner = '', "
                "lease_until = NULL, error = '' WHERE job_id = ?",
                (JobState.CONFIRMING, transaction_uid, encode_time(until), encode_time(now), job_id),
            )
            note_move(connection, job_id, now, JobState.CONFIRMING, f"transaction {transaction_uid}")
            return self.get(job_id)

    def confirm(
        self, transaction_uid: str, committed: Collection[str], failure: str, now: datetime
    ) -> Job | None:
        """Takes the archive's report: everything committed is DONE, a failure is for an operator.

        Args:
            transaction_uid: which request it answers.
            committed: SOP Instance UIDs that the archive will keep.
            failure: what failed, in words; "" when nothing.
            now: this moment.

        Returns:
            The job, or None when no job waits for this transaction.
        """
        with self._lock:
            row = self._connection.execute(
                "SELECT job_id, state FROM job WHERE transaction_uid = ? AND transaction_uid <> ''",
                (transaction_uid,),
            ).fetchone()
        if row is None:
            return None
        if row["state"] not in {JobState.CONFIRMING, JobState.UNCONFIRMED}:
            return self.get(row["job_id"])
        missing = sorted(self.stored_objects(row["job_id"]) - set(committed))
        if not failure and missing:
            failure = f"the report leaves out {', '.join(missing)}"
        if not failure:
            return self.move(row["job_id"], JobState.DONE, now, detail="storage committed")
        error = f"storage was not committed: {failure}"
        if row["state"] == JobState.UNCONFIRMED:
            return self.get(row["job_id"])
        return self.move(row["job_id"], JobState.UNCONFIRMED, now, error=error)

    def expire_confirmations(self, now: datetime) -> tuple[Job, ...]:
        """Moves jobs whose report did not come in time to UNCONFIRMED and returns them."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT job_id FROM job WHERE state = ? AND due_at < ?",
                (JobState.CONFIRMING, encode_time(now)),
            ).fetchall()
        error = "the destination sent no storage commitment report in time"
        return tuple(self.move(row["job_id"], JobState.UNCONFIRMED, now, error=error) for row in rows)

    def bring_back(self, now: datetime, latest: datetime) -> tuple[int, ...]:
        """Brings jobs that were written down after ``latest`` back to ``now``, with the pause they had; returns their numbers.

        The clock was put back meanwhile: they would wait until it comes to where it was.
        """
        waiting = (JobState.WAITING, JobState.SENDING, JobState.CONFIRMING)
        with self._lock, write_transaction(self._connection) as connection:
            rows = connection.execute(
                "SELECT job_id, due_at, updated_at FROM job WHERE state IN (?, ?, ?) AND updated_at > ?",
                (*waiting, encode_time(latest)),
            ).fetchall()
            for row in rows:
                pause = decode_time(row["due_at"]) - decode_time(row["updated_at"])
                connection.execute(
                    "UPDATE job SET due_at = ?, updated_at = ? WHERE job_id = ?",
                    (encode_time(now + pause), encode_time(now), row["job_id"]),
                )
        return tuple(int(row["job_id"]) for row in rows)

    def retry(self, job_id: int, now: datetime) -> Job:
        """Takes a job up again on an operator's word: the delivery when objects are built, else the assessment.

        Of an assessment that failed it is the assessment, even when its report is built.
        """
        job = self.get(job_id)
        built = bool(self._row(job_id)["objects"]) and job.outcome != FAILED
        resend = built and job.state in {JobState.SHELVED, JobState.UNCONFIRMED, JobState.CONFIRMING}
        if job.state in {JobState.WAITING, JobState.SENDING} and not job.lease_owner:
            with self._lock:
                self._connection.execute(
                    "UPDATE job SET due_at = ? WHERE job_id = ?", (encode_time(now), job_id)
                )
            return self.get(job_id)
        return self.move(job_id, JobState.SENDING if resend else JobState.WAITING, now)

    def cancel(self, job_id: int, now: datetime) -> Job:
        """Stops a job on an operator's word; a worker that runs it finds its lease gone."""
        return self.move(job_id, JobState.CANCELLED, now, error="cancelled by the operator")

    def get(self, job_id: int) -> Job:
        """Returns one job.

        Raises:
            InvalidInput: there is no such job.
        """
        return decode_job(self._row(job_id))

    def find(
        self, states: Sequence[JobState] = tuple(JobState), study_instance_uid: str = ""
    ) -> tuple[Job, ...]:
        """Returns the jobs in any of ``states``, newest first; of one study when it is named."""
        with self._lock:
            rows = self._connection.execute("SELECT * FROM job ORDER BY job_id DESC").fetchall()
        return tuple(
            decode_job(row)
            for row in rows
            if row["state"] in states and study_instance_uid in {"", row["study_instance_uid"]}
        )

    def counts(self) -> dict[JobState, int]:
        """Returns how many jobs stand in each state, zeros included."""
        with self._lock:
            rows = self._connection.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall()
        present = {row[0]: row[1] for row in rows}
        return {state: present.get(state, 0) for state in JobState}

    def history(self, job_id: int) -> tuple[JobMove, ...]:
        """Returns every move of a job, in order."""
        with self._lock:
            return read_moves(self._connection, job_id)

    def conclusion(self, job_id: int) -> Conclusion:
        """Returns what the assessment left.

        Raises:
            JobMoveRefused: the job has no objects yet.
        """
        row = self._row(job_id)
        if not row["objects"]:
            raise JobMoveRefused(f"job {job_id} is {row['state']} and has no objects yet")
        notes = [move.detail for move in self.history(job_id) if move.state is JobState.SENDING]
        told = [note for note in notes if note.startswith(f"{FAILED}: ")]
        return Conclusion(
            objects=Path(row["objects"]),
            outcome=row["outcome"],
            model_version=row["model_version"],
            error=told[-1].removeprefix(f"{FAILED}: ") if row["outcome"] == FAILED and told else "",
        )

    def record_deliveries(
        self, job_id: int, deliveries: Sequence[Delivery], destination: str, now: datetime
    ) -> None:
        """Remembers what the destination answered to each object, and who was shown the result first."""
        with self._lock, write_transaction(self._connection) as connection:
            write_deliveries(connection, job_id, deliveries, destination, now)

    def deliveries(self, job_id: int) -> tuple[Delivery, ...]:
        """Returns the last answer to each object of a job."""
        with self._lock:
            return read_deliveries(self._connection, job_id)

    def stored_objects(self, job_id: int) -> frozenset[str]:
        """Returns the SOP Instance UIDs that the destination has stored already."""
        return frozenset(
            delivery.sop_instance_uid for delivery in self.deliveries(job_id) if delivery.answer in STORED
        )

    def finished_studies(self, before: datetime) -> tuple[str, ...]:
        """Returns the studies whose every job ended before this moment, and that no job will touch by itself."""
        ended = (JobState.DONE, JobState.CANCELLED, JobState.WITHDRAWN)
        with self._lock:
            rows = self._connection.execute(
                "SELECT study_instance_uid FROM job GROUP BY study_instance_uid "
                "HAVING max(updated_at) < ? AND sum(state NOT IN (?, ?, ?)) = 0",
                (encode_time(before), *ended),
            ).fetchall()
        return tuple(row["study_instance_uid"] for row in rows)

    def _row(self, job_id: int) -> sqlite3.Row:
        with self._lock:
            return read_row(self._connection, job_id)
