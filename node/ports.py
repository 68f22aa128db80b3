"""What the node needs from the outside, as protocols: fakes stand behind them in tests, real rooms in service."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from node.arrival import Arrival, OpenStudy
from node.job import Job, JobState
from node.study import Patient


class Clock(Protocol):
    """Tells the time, so that tests can."""

    def now(self) -> datetime:
        """Returns this moment, aware UTC."""
        ...


class Inbox(Protocol):
    """Where received objects lie."""

    def record(self) -> int:
        """Writes what arrived since the last call into the index and returns how many objects that were."""
        ...

    def open_studies(self) -> tuple[OpenStudy, ...]:
        """Returns the studies that hold CT images which no job has taken up."""
        ...

    def arrivals(self, study_instance_uid: str) -> tuple[Arrival, ...]:
        """Returns every object kept for a study, in the order of arrival."""
        ...

    def study_folder(self, study_instance_uid: str) -> Path:
        """Returns the folder that holds the objects of one study and nothing else."""
        ...


class JobStore(Protocol):
    """The queue of assessments, durable."""

    def close_study(self, study_instance_uid: str, now: datetime) -> Job | None:
        """Takes the arrived CT images up as one job; None when a job with the same images exists."""
        ...

    def claim(self, state: JobState, owner: str, now: datetime, lease_seconds: float) -> Job | None:
        """Leases the longest due job in ``state`` (WAITING becomes RUNNING), or returns None."""
        ...

    def renew(self, job_id: int, owner: str, until: datetime) -> bool:
        """Prolongs a lease; False when ``owner`` no longer holds it."""
        ...

    def conclude(self, job_id: int, owner: str, conclusion: "Conclusion", now: datetime) -> Job:
        """RUNNING becomes SENDING: the objects are built."""
        ...

    def postpone(self, job_id: int, owner: str, due_at: datetime, error: str, now: datetime) -> Job:
        """Gives the lease back; the job is due again at ``due_at`` with one more attempt."""
        ...

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
        """Moves a job and gives the lease back."""
        ...

    def await_confirmation(
        self, job_id: int, owner: str, transaction_uid: str, until: datetime, now: datetime
    ) -> Job:
        """SENDING becomes CONFIRMING: the report of this transaction is awaited until then."""
        ...

    def get(self, job_id: int) -> Job:
        """Returns one job."""
        ...

    def conclusion(self, job_id: int) -> "Conclusion":
        """Returns what the assessment left."""
        ...

    def record_deliveries(
        self, job_id: int, deliveries: Sequence["Delivery"], destination: str, now: datetime
    ) -> None:
        """Remembers what the destination answered to each object, and who was shown the result first."""
        ...

    def deliveries(self, job_id: int) -> tuple["Delivery", ...]:
        """Returns the last answer to each object of a job."""
        ...

    def stored_objects(self, job_id: int) -> frozenset[str]:
        """Returns the SOP Instance UIDs that the destination has stored already."""
        ...


UNREQUESTED = "unrequested"
"""Outcome of a study that nobody asked for: a report in the data folder, nothing for the archive."""
UNCHANGED = "unchanged"
"""Outcome of a study that grew without a change of its result: nothing is made, the earlier result stands."""
FAILED = "failed"
"""Outcome of an assessment that ended in an error; its report may go to the archive, its job goes to the shelf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """What an assessment leaves behind.

    Attributes:
        objects: folder with the DICOM objects to deliver (``*.dcm``, searched recursively).
        outcome: report status: assessed, not_assessable or failed; or ``UNREQUESTED`` or ``UNCHANGED``, which leave no
            objects.
        model_version: version that scored; "" when none did.
        error: why the assessment failed; "" when it did not.
    """

    objects: Path
    outcome: str
    model_version: str = ""
    error: str = ""


Assess = Callable[[Job], Conclusion]
"""Assesses the study of a job from start to finish. Raises MmfError when it cannot; a report of that is a value, not an error."""


TellFailure = Callable[[Job, str], Conclusion]
"""Writes the report of an assessment that failed for good with this error, and returns it for the archive."""


class Answer(StrEnum):
    """What a destination's C-STORE status means for the object (PS3.4 B.2.3, PS3.7 C)."""

    STORED = "STORED"
    """0x0000, or 0x0111 (duplicate) after a retry."""
    STORED_WITH_WARNING = "STORED_WITH_WARNING"
    """0xB000, 0xB006, 0xB007."""
    LATER = "LATER"
    """0xA7xx out of resources, 0x0110 processing failure, 0x0213 resource limitation, or no answer."""
    BOUNDED = "BOUNDED"
    """0xCxxx: PACS use it for locks; a few tries, then the shelf."""
    CONFIGURATION = "CONFIGURATION"
    """0x0122 SOP class not supported, 0x0124 not authorised, or refused at negotiation: an operator must act."""
    NEVER = "NEVER"
    """0xA9xx and every other status: the object will not be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The destination's answer to one object.

    Attributes:
        status: DIMSE status; None when no response came.
        detail: a sentence for the operator.
    """

    sop_class_uid: str
    sop_instance_uid: str
    answer: Answer
    status: int | None
    detail: str = ""


class Destination(Protocol):
    """The archive that gets the results."""

    @property
    def name(self) -> str:
        """The destination for logs and errors."""
        ...

    def send(self, paths: Sequence[Path], *, retry: bool) -> tuple[Delivery, ...]:
        """Sends all objects on one association and returns the answer to each.

        Args:
            paths: DICOM files.
            retry: an earlier try may have stored some: a duplicate is then a success.

        Raises:
            DeliveryPostponed: it cannot be reached now.
            DeliveryRefused: it rejects us for good.
        """
        ...

    @property
    def commits(self) -> bool:
        """Whether storage commitment is asked for after a delivery."""
        ...

    def request_commitment(self, deliveries: Sequence[Delivery], transaction_uid: str) -> None:
        """Asks for storage commitment; the report comes to our listener.

        Raises:
            DeliveryPostponed: it cannot be reached or does not answer.
            DeliveryRefused: it does not offer storage commitment.
        """
        ...


class PacsSource(Protocol):
    """The archive as a source of what is missing."""

    def count(self, study_instance_uid: str) -> int | None:
        """Returns how many instances the PACS holds for the study; None when it does not say."""
        ...

    def fetch(self, study_instance_uid: str) -> int:
        """Asks the PACS to send the study to us; returns how many objects it says it sent."""
        ...


class ClinicalSource(Protocol):
    """Where clinical rows come from."""

    def find(self, patient: Patient) -> object | None:
        """Returns the row of the patient, cross-checked, or None when there is none."""
        ...


class AuditTrail(Protocol):
    """The record of who did what (PS3.15 A.5)."""

    def write(self, event: str, **fields: str) -> None:
        """Adds one event."""
        ...
