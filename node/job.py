"""One study's way through the node as a record, and the table of legal moves between its states."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from node.errors import JobMoveRefused


class JobState(StrEnum):
    """Where a job stands. The meaning of each state is what an operator may rely on."""

    WAITING = "WAITING"
    """The study is complete and queued, or waits for its next try."""
    RUNNING = "RUNNING"
    """A worker holds its lease and assesses it."""
    SENDING = "SENDING"
    """The objects are built and validated; delivery is due or under way."""
    CONFIRMING = "CONFIRMING"
    """Every object was stored; storage commitment is awaited."""
    DONE = "DONE"
    """The objects are at their destination (and committed, where commitment is configured)."""
    UNCONFIRMED = "UNCONFIRMED"
    """Stored at the destination, but commitment never came. ``jobs retry`` sends again."""
    SHELVED = "SHELVED"
    """Given up after bounded tries, with the reason in ``error``. ``jobs retry`` takes it up again."""
    CANCELLED = "CANCELLED"
    """Stopped by an operator."""
    WITHDRAWN = "WITHDRAWN"
    """The result was taken back after delivery (wrong patient, wrong phase, superseded)."""


LEGAL_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.WAITING, JobState.SENDING, JobState.SHELVED, JobState.CANCELLED}),
    JobState.SENDING: frozenset({JobState.CONFIRMING, JobState.DONE, JobState.SHELVED, JobState.CANCELLED}),
    JobState.CONFIRMING: frozenset({JobState.DONE, JobState.UNCONFIRMED, JobState.SENDING, JobState.SHELVED}),
    JobState.DONE: frozenset({JobState.WITHDRAWN, JobState.WAITING}),
    JobState.UNCONFIRMED: frozenset({JobState.SENDING, JobState.DONE, JobState.WITHDRAWN}),
    JobState.SHELVED: frozenset({JobState.WAITING, JobState.SENDING, JobState.CANCELLED}),
    JobState.CANCELLED: frozenset({JobState.WAITING}),
    JobState.WITHDRAWN: frozenset(),
}


def check_move(before: JobState, after: JobState) -> None:
    """Returns nothing when the move is legal.

    Raises:
        JobMoveRefused: the table of legal moves does not hold it.
    """
    if after not in LEGAL_MOVES[before]:
        legal = ", ".join(sorted(LEGAL_MOVES[before])) or "none"
        raise JobMoveRefused(f"a job in state {before} cannot become {after}; legal: {legal}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One assessment of one study.

    Attributes:
        job_id: our own number.
        attempt: tries of the present stage, from 0.
        due_at: not before this moment, aware UTC.
        error: why the last try failed, or why it was shelved; "" when none.
        outcome: report status once concluded (assessed, not_assessable, failed); "" before.
        instances_digest: hash over the set of instances assessed; a changed set is a new job.
        supersedes: job id of the result that this one replaces, or None.
        shown_to: destination that first stored an object of the result; "" when none did, or version 1 delivered it.
        shown_at: since when the result can be seen there; None = never shown, a shadow.
    """

    job_id: int
    study_instance_uid: str
    state: JobState
    attempt: int
    due_at: datetime
    created_at: datetime
    updated_at: datetime
    lease_owner: str = ""
    lease_until: datetime | None = None
    instances_digest: str = ""
    model_version: str = ""
    outcome: str = ""
    error: str = ""
    supersedes: int | None = None
    shown_to: str = ""
    shown_at: datetime | None = None
