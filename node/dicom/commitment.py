"""Storage commitment: asks the archive to keep what it stored, and takes its report when it comes (PS3.4 J)."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import structlog
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException
from pydicom.sequence import Sequence as ItemSequence
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.dsutils import decode
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from node.dicom.send import (
    PeerAddress,
    SendSettings,
    StorageDestination,
    open_association,
    undisturbed,
)
from node.errors import DeliveryPostponed, DeliveryRefused, InstanceRefused
from node.ports import Clock, Delivery
from node.storage.jobs import SqliteJobs

log = structlog.get_logger(__name__)

_REQUEST_STORAGE_COMMITMENT = 1
"""Action Type ID (PS3.4 J.3.2.1)."""
_ALL_COMMITTED, _FAILURES_EXIST = 1, 2
"""Event Type IDs (PS3.4 J.3.3.1)."""
_SUCCESS, _PROCESSING_FAILURE, _NO_SUCH_EVENT_TYPE = 0x0000, 0x0110, 0x0113
_DUPLICATE_TRANSACTION_UID = 0x0131


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentReport:
    """What an archive says about one transaction; ``failed`` holds (SOP Instance UID, reason)."""

    transaction_uid: str
    committed: frozenset[str]
    failed: tuple[tuple[str, int], ...]


class CommittingDestination(StorageDestination):
    """A PACS that is asked for storage commitment after each delivery."""

    @property
    def commits(self) -> bool:
        """Always."""
        return True

    def request_commitment(self, deliveries: Sequence[Delivery], transaction_uid: str) -> None:
        """Asks; see :func:`request_commitment`."""
        request_commitment(deliveries, transaction_uid, self.peer, self.settings)


def request_commitment(
    deliveries: Sequence[Delivery], transaction_uid: str, peer: PeerAddress, settings: SendSettings
) -> None:
    """Asks a peer to commit itself to what it stored; its report comes to our listener.

    Raises:
        DeliveryPostponed: the peer cannot be reached or does not answer.
        DeliveryRefused: it does not offer storage commitment, or refuses the request.

    Source: PS3.4 J.3.2 (N-ACTION), table J.3-1.
    """
    association = open_association(
        [(str(StorageCommitmentPushModel), str(ImplicitVRLittleEndian))], peer, settings
    )
    with undisturbed(association):
        if not association.accepted_contexts:
            raise DeliveryRefused(f"{peer} does not offer storage commitment")
        status, _ = association.send_n_action(
            _build_request(deliveries, transaction_uid),
            _REQUEST_STORAGE_COMMITMENT,
            StorageCommitmentPushModel,
            StorageCommitmentPushModelInstance,
        )
    if "Status" not in status:
        raise DeliveryPostponed(f"{peer} did not answer the request for storage commitment")
    if status.Status not in {_SUCCESS, _DUPLICATE_TRANSACTION_UID}:
        raise DeliveryRefused(f"{peer} refuses storage commitment with 0x{status.Status:04X}")


def read_report(encoded: bytes, transfer_syntax_uid: str) -> CommitmentReport:
    """Returns what the Event Information of an N-EVENT-REPORT says.

    Args:
        encoded: the data set, bounded by the receiver.
        transfer_syntax_uid: Implicit or Explicit VR Little Endian.

    Raises:
        InstanceRefused: it has no Transaction UID or its items have no UIDs.

    Source: PS3.4 table J.3-2.
    """
    syntax = UID(transfer_syntax_uid)
    try:
        dataset = decode(BytesIO(encoded), syntax.is_implicit_VR, syntax.is_little_endian)
        return CommitmentReport(
            transaction_uid=str(dataset.TransactionUID),
            committed=frozenset(
                str(item.ReferencedSOPInstanceUID) for item in dataset.get("ReferencedSOPSequence") or []
            ),
            failed=tuple(
                (str(item.ReferencedSOPInstanceUID), int(item.get("FailureReason") or 0))
                for item in dataset.get("FailedSOPSequence") or []
            ),
        )
    except (
        AttributeError,
        BytesLengthException,
        EOFError,
        KeyError,
        NotImplementedError,
        TypeError,
        ValueError,
    ) as error:
        raise InstanceRefused(f"a storage commitment report cannot be read: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDesk:
    """Takes N-EVENT-REPORTs in the receiver process and moves the jobs they speak of."""

    jobs: SqliteJobs
    clock: Clock

    def __call__(self, event_type_id: int, encoded: bytes, transfer_syntax_uid: str) -> int:
        """Returns the DIMSE status of the response."""
        if event_type_id not in {_ALL_COMMITTED, _FAILURES_EXIST}:
            return _NO_SUCH_EVENT_TYPE
        try:
            report = read_report(encoded, transfer_syntax_uid)
        except InstanceRefused as error:
            log.warning("storage commitment report refused", reason=str(error))
            return _PROCESSING_FAILURE
        failure = "; ".join(f"{instance} (0x{reason:04X})" for instance, reason in report.failed)
        job = self.jobs.confirm(report.transaction_uid, report.committed, failure, self.clock.now())
        if job is None:
            log.warning(
                "storage commitment report of an unknown transaction", transaction=report.transaction_uid
            )
        else:
            log.info("storage commitment report", job=job.job_id, state=job.state, failed=len(report.failed))
        return _SUCCESS


def _build_request(deliveries: Sequence[Delivery], transaction_uid: str) -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction_uid
    items = []
    for delivery in deliveries:
        item = Dataset()
        item.ReferencedSOPClassUID = delivery.sop_class_uid
        item.ReferencedSOPInstanceUID = delivery.sop_instance_uid
        items.append(item)
    request.ReferencedSOPSequence = ItemSequence(items)
    return request
