"""Sends objects to a storage SCP on one association, as they are encoded, and says what each answer means."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from engines.errors import InvalidInput
from node.errors import DeliveryPostponed, DeliveryRefused, InstanceRefused
from node.ports import Answer, Delivery

log = structlog.get_logger(__name__)

MAXIMUM_CONTEXTS = 128
"""Presentation contexts of one association (PS3.8 9.3.2.2: odd IDs from 1 to 255)."""
_REST_SECONDS = 10.0
_PERMANENT = 1
"""Result of an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerAddress:
    """Where a DICOM peer listens."""

    host: str
    port: int
    ae_title: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}:{self.ae_title}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendSettings:
    """How we call.

    Attributes:
        ae_title: our calling AE title.
        connect_seconds: for the TCP connection.
        associate_seconds: for the answer to A-ASSOCIATE-RQ and A-RELEASE-RQ.
        response_seconds: for one C-STORE-RSP.
        maximum_pdu_bytes: longest PDU we take (responses are short).
    """

    ae_title: str = "MMFNODE"
    connect_seconds: float = 5.0
    associate_seconds: float = 15.0
    response_seconds: float = 60.0
    maximum_pdu_bytes: int = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Restatement:
    """The same content as another SOP class, for a peer that refuses the first at negotiation.

    Attributes:
        sop_class_uid: of what ``restate`` returns.
        restate: makes it; under the same SOP Instance UID, because it replaces the object at that peer.
    """

    sop_class_uid: str
    restate: Callable[[Dataset], Dataset]


Restatements = Mapping[str, Restatement]
"""By the SOP Class UID of the object as it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outgoing:
    """One file to send, as its file meta information says."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    restatement: Restatement | None = None

    @property
    def contexts(self) -> frozenset[tuple[str, str]]:
        """(abstract syntax, transfer syntax): as encoded, the default syntax for what is not compressed, restated."""
        own = (self.sop_class_uid, self.transfer_syntax_uid)
        if UID(self.transfer_syntax_uid).is_compressed:
            return frozenset({own})
        classes = [self.sop_class_uid]
        if self.restatement is not None:
            classes.append(self.restatement.sop_class_uid)
        return frozenset(
            (sop_class, syntax)
            for sop_class in classes
            for syntax in (self.transfer_syntax_uid, str(ImplicitVRLittleEndian))
        )


class StorageDestination:
    """A PACS, as the port Destination."""

    def __init__(
        self, peer: PeerAddress, settings: SendSettings, restatements: Restatements | None = None
    ) -> None:
        self.peer = peer
        self.settings = settings
        self._restatements = restatements or {}

    @property
    def name(self) -> str:
        """The destination for logs and errors."""
        return str(self.peer)

    def send(self, paths: Sequence[Path], *, retry: bool) -> tuple[Delivery, ...]:
        """Sends all objects on one association; see :func:`send_objects`."""
        return send_objects(paths, self.peer, self.settings, retry=retry, restatements=self._restatements)

    @property
    def commits(self) -> bool:
        """Whether storage commitment is asked for: not here, see ``CommittingDestination``."""
        return False

    def request_commitment(self, deliveries: Sequence[Delivery], transaction_uid: str) -> None:
        """Refuses: this destination is not set up for storage commitment."""
        raise DeliveryRefused(
            f"{self.name} is not set up for storage commitment of {len(deliveries)} objects ({transaction_uid})"
        )


def parse_peer(text: str) -> PeerAddress:
    """Returns the peer a person typed as ``HOST:PORT:AET``.

    Raises:
        InvalidInput: it has another form, the port is none, or the title does not fit.
    """
    host, _, rest = text.rpartition(":")[0].rpartition(":")
    title = text.rpartition(":")[2]
    if not host or not rest.isdecimal() or not 1 <= int(rest) <= 65535:
        raise InvalidInput(f"'{text}' is not a peer; expected HOST:PORT:AET, e.g. 192.0.2.7:104:PACS")
    if not 1 <= len(title.strip()) <= 16 or "\\" in title or not title.isascii() or not title.isprintable():
        raise InvalidInput(f"'{title}' is not an AE title; expected 1 to 16 characters without backslash")
    return PeerAddress(host=host.strip("[]"), port=int(rest), ae_title=title.strip())


def send_objects(
    paths: Sequence[Path],
    peer: PeerAddress,
    settings: SendSettings,
    *,
    retry: bool = False,
    restatements: Restatements | None = None,
) -> tuple[Delivery, ...]:
    """Sends all objects on one association and returns the peer's answer to each, in the order of ``paths``.

    Each object goes out as it is encoded in its file. Where the peer takes the default transfer syntax only, an
    uncompressed object is encoded again for it.

    Args:
        paths: DICOM files with file meta information.
        peer: whom to call.
        settings: how we call.
        retry: an earlier try may have stored some: a duplicate is then a success.
        restatements: what to send in place of a class that the peer refuses.

    Raises:
        InstanceRefused: a file is not DICOM.
        DeliveryPostponed: the peer cannot be reached, or has no room for an association now.
        DeliveryRefused: the peer rejects the association for good.
    """
    _config.STORE_SEND_CHUNKED_DATASET = True  # files go out in pieces of one PDU and are never held whole
    answers: list[Delivery] = []
    for batch in _batch([_read_outgoing(path, restatements or {}) for path in paths]):
        association = open_association(
            sorted(frozenset().union(*(one.contexts for one in batch))), peer, settings
        )
        with undisturbed(association):
            lost = False
            for message_id, outgoing in enumerate(batch, start=1):
                if lost:
                    detail = "the association was lost before this object"
                    answers.append(_deliver(outgoing, Answer.LATER, None, detail))
                    continue
                answers.append(_store(association, outgoing, message_id % 65_535 or 1, retry=retry))
                lost = answers[-1].answer is Answer.LATER and answers[-1].status is None
    return tuple(answers)


def echo_peer(peer: PeerAddress, settings: SendSettings) -> int:
    """Returns the status of a C-ECHO: 0x0000 when the peer answers as it should.

    Raises:
        DeliveryPostponed: the peer cannot be reached.
        DeliveryRefused: the peer rejects the association.
    """
    association = open_association([(str(Verification), str(ImplicitVRLittleEndian))], peer, settings)
    with undisturbed(association):
        if not association.accepted_contexts:
            raise DeliveryRefused(f"{peer} does not accept Verification")
        status = association.send_c_echo()
    if "Status" not in status:
        raise DeliveryPostponed(f"{peer} did not answer the C-ECHO within {settings.response_seconds:g} s")
    return int(status.Status)


def interpret_status(status: int, *, retry: bool) -> tuple[Answer, str]:
    """Returns what a C-STORE status means for the object, and a sentence for the operator.

    Source: PS3.4 table B.2-1, PS3.7 annex C; what to do with each: dicom.md, section 4.
    """
    if status == 0x0000:
        return Answer.STORED, ""
    if status == 0x0111:
        if retry:
            return Answer.STORED, "0x0111: the destination has it from an earlier try"
        return Answer.STORED_WITH_WARNING, "0x0111: the destination had an object with this UID already"
    if status in {0x0001, 0x0107, 0x0116} or 0xB000 <= status <= 0xBFFF:
        return Answer.STORED_WITH_WARNING, f"0x{status:04X}: stored with a warning"
    if 0xA700 <= status <= 0xA7FF or status in {0x0110, 0x0213}:
        return Answer.LATER, f"0x{status:04X}: the destination is out of resources"
    if status in {0x0122, 0x0124}:
        return (
            Answer.CONFIGURATION,
            f"0x{status:04X}: the destination does not take this class, or not from us",
        )
    if 0xC000 <= status <= 0xCFFF:
        return Answer.BOUNDED, f"0x{status:04X}: the destination cannot process the object now"
    return Answer.NEVER, f"0x{status:04X}: the destination does not take the object"


def is_dicom_file(path: Path) -> bool:
    """Whether a file has the preamble and prefix of PS3.10 7.1."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _read_outgoing(path: Path, restatements: Restatements) -> _Outgoing:
    try:
        meta = read_file_meta_info(path)
        return _Outgoing(
            restatement=restatements.get(str(meta.MediaStorageSOPClassUID)),
            path=path,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
        )
    except (InvalidDicomError, AttributeError, OSError, ValueError) as error:
        raise InstanceRefused(f"{path.name} is not a DICOM file: {error}") from error


def _batch(outgoing: Sequence[_Outgoing]) -> Iterator[list[_Outgoing]]:
    """Yields the objects in as few associations as contexts allow: one, for the results of a study."""
    batch: list[_Outgoing] = []
    contexts: frozenset[tuple[str, str]] = frozenset()
    for one in outgoing:
        if len(contexts | one.contexts) > MAXIMUM_CONTEXTS:
            yield batch
            batch, contexts = [], frozenset()
        batch.append(one)
        contexts |= one.contexts
    if batch:
        yield batch


def open_association(
    contexts: Sequence[tuple[str, str]], peer: PeerAddress, settings: SendSettings
) -> Association:
    """Returns an established association.

    Args:
        contexts: (abstract syntax, transfer syntax) of each presentation context, at most MAXIMUM_CONTEXTS.
        peer: whom to call.
        settings: how we call.

    Raises:
        DeliveryPostponed: the peer cannot be reached, or has no room for an association now.
        DeliveryRefused: the peer rejects the association for good.
    """
    entity = AE(ae_title=settings.ae_title)
    entity.connection_timeout = settings.connect_seconds
    entity.acse_timeout = settings.associate_seconds
    entity.dimse_timeout = settings.response_seconds
    entity.network_timeout = settings.response_seconds
    association = entity.associate(
        peer.host,
        peer.port,
        ae_title=peer.ae_title,
        contexts=[build_context(abstract, transfer) for abstract, transfer in contexts],
        max_pdu=settings.maximum_pdu_bytes,
        evt_handlers=[(evt.EVT_CONN_OPEN, send_at_once)],
    )
    if association.is_established:
        return association
    answer = _find_rejection(association)
    if answer is None:
        raise DeliveryPostponed(f"{peer} cannot be reached or ended the association before it began")
    why = f"{peer} rejects the association: {answer.reason_str} ({answer.source_str})"
    if answer.result == _PERMANENT:
        raise DeliveryRefused(why)
    raise DeliveryPostponed(why)


@contextmanager
def undisturbed(association: Association) -> Iterator[None]:
    """Keeps pynetdicom's own thread of an association asleep until it is released.

    That thread also takes messages off the queue. pynetdicom 3.0.4 pauses it before each request, but believes it paused
    in the moment between its waking and its first look: on a busy machine it then takes the response, and the sender
    waits for it in vain. Asleep from the start, it cannot.
    """
    rest = _Rest()
    association._reactor_checkpoint = rest
    try:
        if not rest.reached.wait(_REST_SECONDS):
            raise DeliveryPostponed("the association's thread did not come to rest")
        yield
    finally:
        try:
            if association.is_established:
                association.release()
        finally:
            rest.end()


class _Rest(threading.Event):
    """A checkpoint that nobody passes before ``end()``; ``reached`` tells that somebody waits there."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self._ended = False

    def wait(self, timeout: float | None = None) -> bool:
        self.reached.set()
        return super().wait(timeout)

    def set(self) -> None:
        if self._ended:
            super().set()

    def end(self) -> None:
        self._ended = True
        super().set()


def _find_rejection(association: Association) -> A_ASSOCIATE | None:
    """Returns the A-ASSOCIATE-RJ, also one that came so fast that pynetdicom took it for a failed connection.

    Its requestor looks whether the connection stands only after the thread that serves it may have read the rejection
    and closed (pynetdicom 3.0.4, ``acse._negotiate_as_requestor``); the answer then still waits in the queue.
    """
    answer = (
        association.acceptor.primitive if association.is_rejected else association.dul.receive_pdu(wait=False)
    )
    return answer if isinstance(answer, A_ASSOCIATE) and answer.result else None


def send_at_once(event: Event) -> None:
    """Handler of EVT_CONN_OPEN: no Nagle delay, which costs 40 ms an object with delayed acknowledgements."""
    connection = event.assoc.dul.socket.socket
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _store(association: Association, outgoing: _Outgoing, message_id: int, *, retry: bool) -> Delivery:
    accepted = {
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in association.accepted_contexts
    }
    usable = frozenset(accepted & outgoing.contexts)
    if not association.is_established:
        return _deliver(outgoing, Answer.LATER, None, "the association was lost before this object")
    if not usable:
        name = UID(outgoing.sop_class_uid).name
        return _deliver(
            outgoing,
            Answer.CONFIGURATION,
            None,
            f"the destination does not accept {name} ({outgoing.sop_class_uid}) "
            f"in {UID(outgoing.transfer_syntax_uid).name}",
        )
    form = _choose_form(outgoing, usable)
    try:
        status = association.send_c_store(form.content, msg_id=message_id)
    except (ValueError, RuntimeError) as error:
        return _deliver(outgoing, Answer.LATER, None, f"the association was lost: {error}")
    if "Status" not in status:
        return _deliver(outgoing, Answer.LATER, None, "the destination did not answer")
    answer, detail = interpret_status(int(status.Status), retry=retry)
    comment = str(status.get("ErrorComment", "") or "")
    said = " ".join(part for part in (detail, comment, form.detail) if part)
    return replace(_deliver(outgoing, answer, int(status.Status), said), sop_class_uid=form.sop_class_uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """What is really sent of an object, and what to say about it."""

    content: Path | Dataset
    sop_class_uid: str
    detail: str = ""


def _choose_form(outgoing: _Outgoing, usable: frozenset[tuple[str, str]]) -> _Form:
    """Returns what to send: the file as it is, else decoded for the default syntax, else restated."""
    if (outgoing.sop_class_uid, outgoing.transfer_syntax_uid) in usable:
        return _Form(content=outgoing.path, sop_class_uid=outgoing.sop_class_uid)
    dataset: Dataset = dcmread(outgoing.path)
    if outgoing.restatement is None or any(sop_class == outgoing.sop_class_uid for sop_class, _ in usable):
        return _Form(content=dataset, sop_class_uid=outgoing.sop_class_uid)
    other = outgoing.restatement.sop_class_uid
    return _Form(
        content=outgoing.restatement.restate(dataset),
        sop_class_uid=other,
        detail=f"sent as {UID(other).name}, the destination refuses the first form",
    )


def _deliver(outgoing: _Outgoing, answer: Answer, status: int | None, detail: str) -> Delivery:
    return Delivery(
        sop_class_uid=outgoing.sop_class_uid,
        sop_instance_uid=outgoing.sop_instance_uid,
        answer=answer,
        status=status,
        detail=detail,
    )
