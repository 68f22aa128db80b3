"""Takes jobs one at a time: assesses a study, or delivers its objects, and records how it went."""

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Self

import structlog

from engines.errors import MmfError
from node.errors import DeliveryPostponed, DeliveryRefused, JobMoveRefused, WorkFailed
from node.job import Job, JobState
from node.ports import (
    FAILED,
    UNCHANGED,
    UNREQUESTED,
    Answer,
    Assess,
    Clock,
    Delivery,
    Destination,
    JobStore,
    TellFailure,
)

log = structlog.get_logger(__name__)

_GIVE_UP = {Answer.CONFIGURATION, Answer.NEVER}
_NOTHING_TO_DELIVER = {
    UNREQUESTED: "nobody asked for this study: nothing is delivered",
    UNCHANGED: "what came late does not change the result: the earlier one stands",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRules:
    """How often and how long to try.

    Attributes:
        lease_seconds: a worker that says nothing for this long has lost its job; it speaks three times as often.
        assessment_tries: of one job before it is shelved.
        delivery_tries: while the destination is away or out of resources.
        bounded_tries: while it answers 0xCxxx.
        first_retry_seconds: doubled after each try.
        longest_retry_seconds: and no longer than this.
        confirmation_seconds: the archive's report of storage commitment is awaited for this long.
        idle_seconds: between two looks into an empty queue.
    """

    lease_seconds: float = 120.0
    assessment_tries: int = 3
    delivery_tries: int = 12
    bounded_tries: int = 5
    first_retry_seconds: float = 10.0
    longest_retry_seconds: float = 3600.0
    confirmation_seconds: float = 3600.0
    idle_seconds: float = 0.2

    def retry_after(self, attempt: int) -> timedelta:
        """Returns the pause after try number ``attempt`` (from 0)."""
        seconds = self.first_retry_seconds * 2.0 ** min(attempt, 30)
        return timedelta(seconds=min(seconds, self.longest_retry_seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker: its name on leases, its queue and its clock."""

    name: str
    jobs: JobStore
    clock: Clock
    rules: WorkRules

    def assess_next(self, assess: Assess, tell_failure: TellFailure | None = None) -> Job | None:
        """Assesses the next waiting job and returns it as it stands afterwards, or None when none is due.

        Args:
            assess: does it.
            tell_failure: writes the report of a job whose every try failed; it goes to the archive before the job is
                shelved. None = there is no such report.

        A job that was handed back after its last try was lost with its worker is not assessed again: its failure is told.
        """
        job = self.jobs.claim(JobState.WAITING, self.name, self.clock.now(), self.rules.lease_seconds)
        if job is None:
            return None
        if job.attempt >= self.rules.assessment_tries:
            tried = replace(job, attempt=job.attempt - 1)
            return self._settle(job, partial(self._fail, tried, job.error, tell_failure))
        log.info("assessment begins", job=job.job_id, study=job.study_instance_uid, attempt=job.attempt)
        try:
            with _gate(job, "an assessment failed"):
                with Lease(self, job):
                    conclusion = assess(job)
                return self.jobs.conclude(job.job_id, self.name, conclusion, self.clock.now())
        except JobMoveRefused as error:
            _drop(job, error)
            return None
        except MmfError as error:
            return self._settle(job, partial(self._fail, job, _describe(error), tell_failure))

    def deliver_next(self, destination: Destination | None) -> Job | None:
        """Delivers the objects of the next job in SENDING and returns it as it stands afterwards, or None.

        Args:
            destination: None = results stay in the data folder, and the job is done.
        """
        job = self.jobs.claim(JobState.SENDING, self.name, self.clock.now(), self.rules.lease_seconds)
        if job is None:
            return None
        try:
            with _gate(job, "a delivery failed"), Lease(self, job):
                return self._deliver(job, destination)
        except JobMoveRefused as error:
            _drop(job, error)
            return None
        except DeliveryPostponed as error:
            after = partial(self._postpone_delivery, job, str(error), self.rules.delivery_tries)
        except WorkFailed as error:
            after = partial(self._postpone_delivery, job, str(error), self.rules.bounded_tries)
        except MmfError as error:
            after = partial(self._shelve, job, _describe(error))
        return self._settle(job, after)

    def _settle(self, job: Job, act: Callable[[], Job]) -> Job | None:
        """Records what becomes of a job whose work failed; nothing when it was taken away meanwhile."""
        try:
            return act()
        except JobMoveRefused as error:
            _drop(job, error)
            return None

    def _deliver(self, job: Job, destination: Destination | None) -> Job:
        conclusion = self.jobs.conclusion(job.job_id)
        objects = sorted(conclusion.objects.rglob("*.dcm"))
        if destination is None:
            return self._finish(job, JobState.DONE, f"{len(objects)} objects stay in the data folder")
        if not objects and conclusion.outcome in _NOTHING_TO_DELIVER:
            return self._finish(job, JobState.DONE, _NOTHING_TO_DELIVER[conclusion.outcome])
        if not objects:
            return self._shelve(job, "the assessment left no objects to deliver")
        sent_before = job.attempt > 0 or job.shown_at is not None or bool(self.jobs.deliveries(job.job_id))
        deliveries = destination.send(objects, retry=sent_before)
        self.jobs.record_deliveries(job.job_id, deliveries, destination.name, self.clock.now())
        return self._judge(job, deliveries, destination)

    def _judge(self, job: Job, deliveries: Sequence[Delivery], destination: Destination) -> Job:
        """Decides what the answers mean for the job; all objects go again with a retry, under the same UIDs."""
        answers = {delivery.answer for delivery in deliveries}
        if answers & _GIVE_UP:
            return self._shelve(job, _explain(deliveries, _GIVE_UP, destination.name))
        if Answer.BOUNDED in answers:
            why = _explain(deliveries, {Answer.BOUNDED}, destination.name)
            return self._postpone_delivery(job, why, self.rules.bounded_tries)
        if Answer.LATER in answers:
            why = _explain(deliveries, {Answer.LATER}, destination.name)
            return self._postpone_delivery(job, why, self.rules.delivery_tries)
        detail = f"{len(deliveries)} objects stored at {destination.name}"
        if not destination.commits or job.outcome == FAILED:
            return self._finish(job, JobState.DONE, detail)
        return self._ask_commitment(job, deliveries, destination)

    def _ask_commitment(self, job: Job, deliveries: Sequence[Delivery], destination: Destination) -> Job:
        """The transaction is written down before it is asked for: the report may come at once."""
        now, transaction_uid = self.clock.now(), f"2.25.{uuid.uuid4().int}"
        until = now + timedelta(seconds=self.rules.confirmation_seconds)
        job = self.jobs.await_confirmation(job.job_id, self.name, transaction_uid, until, now)
        try:
            destination.request_commitment(deliveries, transaction_uid)
        except (DeliveryPostponed, DeliveryRefused) as error:
            log.warning("storage commitment could not be asked for", job=job.job_id, error=str(error))
            return self.jobs.move(job.job_id, JobState.UNCONFIRMED, self.clock.now(), error=str(error))
        log.info("storage commitment asked for", job=job.job_id, transaction=transaction_uid)
        return self.jobs.get(job.job_id)

    def _finish(self, job: Job, after: JobState, detail: str) -> Job:
        if job.outcome == FAILED:
            return self._shelve(job, f"{self.jobs.conclusion(job.job_id).error}; its report: {detail}")
        log.info("delivered", job=job.job_id, study=job.study_instance_uid, state=after, detail=detail)
        return self.jobs.move(job.job_id, after, self.clock.now(), owner=self.name, detail=detail)

    def _fail(self, job: Job, error: str, tell_failure: TellFailure | None) -> Job:
        if job.attempt + 1 < self.rules.assessment_tries:
            return self._postpone(job, error)
        if tell_failure is None:
            return self._shelve(job, error)
        try:
            with _gate(job, "a failure cannot be told"), Lease(self, job):
                conclusion = tell_failure(job, error)
        except MmfError as second:
            return self._shelve(job, f"{error}; its report could not be written: {second}")
        if not any(conclusion.objects.rglob("*.dcm")):
            return self._shelve(job, error)
        return self.jobs.conclude(job.job_id, self.name, conclusion, self.clock.now())

    def _postpone_delivery(self, job: Job, error: str, tries: int) -> Job:
        if job.attempt + 1 >= tries:
            return self._shelve(job, f"{error} (given up after {job.attempt + 1} tries)")
        return self._postpone(job, error)

    def _postpone(self, job: Job, error: str) -> Job:
        now = self.clock.now()
        due_at = now + self.rules.retry_after(job.attempt)
        log.warning(
            "job postponed",
            job=job.job_id,
            study=job.study_instance_uid,
            error=error,
            due_at=due_at.isoformat(),
        )
        return self.jobs.postpone(job.job_id, self.name, due_at, error, now)

    def _shelve(self, job: Job, error: str) -> Job:
        log.error("job shelved", job=job.job_id, study=job.study_instance_uid, error=error)
        return self.jobs.move(job.job_id, JobState.SHELVED, self.clock.now(), owner=self.name, error=error)


@contextmanager
def _gate(job: Job, sentence: str) -> Iterator[None]:
    """The one place of the worker where every exception is caught: a fault in one study must not end the worker.

    Raises:
        WorkFailed: in the place of whatever is no error of this product; the log keeps the trace under ``sentence``.
    """
    try:
        yield
    except MmfError:
        raise
    except Exception as error:
        log.exception(sentence, job=job.job_id, study=job.study_instance_uid)
        told = str(error).partition("\nTraceback")[0]  # pydicom puts one into the message
        raise WorkFailed(f"{type(error).__name__}: {told}") from error


def _describe(error: MmfError) -> str:
    return str(error) if isinstance(error, WorkFailed) else f"{type(error).__name__}: {error}"


def _drop(job: Job, error: JobMoveRefused) -> None:
    log.warning("the job was taken away meanwhile", job=job.job_id, reason=str(error))


class Lease:
    """Keeps a job's lease alive from a thread while the work goes on."""

    def __init__(self, worker: Worker, job: Job) -> None:
        self._worker = worker
        self._job = job
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{job.job_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _renew(self) -> None:
        seconds = self._worker.rules.lease_seconds
        while not self._done.wait(seconds / 3):
            until = self._worker.clock.now() + timedelta(seconds=seconds)
            if not self._worker.jobs.renew(self._job.job_id, self._worker.name, until):
                log.warning("the lease is lost; the result will be dropped", job=self._job.job_id)
                return


def _explain(deliveries: Sequence[Delivery], answers: set[Answer], name: str) -> str:
    faults = [delivery for delivery in deliveries if delivery.answer in answers]
    why = "; ".join(dict.fromkeys(delivery.detail for delivery in faults))
    return f"{name}: {len(faults)} of {len(deliveries)} objects: {why}"


def name_worker(role: str) -> str:
    """Returns the name this process signs leases with."""
    return f"{role}-{os.getpid()}"


def work_until(stopped: threading.Event, take_next: Callable[[], Job | None], idle_seconds: float) -> None:
    """Takes jobs until told to stop, resting while the queue is empty."""
    while not stopped.is_set():
        if take_next() is None:
            stopped.wait(idle_seconds)
