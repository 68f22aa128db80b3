"""The protocol data units of an acceptor: association requests parsed within bounds, answers encoded."""

import struct
from dataclasses import dataclass
from enum import IntEnum

HEADER_BYTES = 6
MAXIMUM_REQUEST_BYTES = 524_288
"""Longest A-ASSOCIATE-RQ read: 128 contexts of 60 transfer syntaxes take about 220 kB (OURS)."""
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
"""DICOM Application Context Name (PS3.7 A.2.1)."""
IMPLEMENTATION_CLASS_UID = "2.25.105158392090572668857768638310625755021"
"""Identifies this implementation in associations and files (PS3.7 D.3.3.2); the UUID of version 5 of
``mmf-node implementation class`` in the URL namespace."""
IMPLEMENTATION_VERSION_NAME = "MMF_NODE_1"


class PduType(IntEnum):
    """Types of PDU (PS3.8 9.3)."""

    ASSOCIATE_REQUEST = 1
    ASSOCIATE_ACCEPT = 2
    ASSOCIATE_REJECT = 3
    DATA = 4
    RELEASE_REQUEST = 5
    RELEASE_REPLY = 6
    ABORT = 7


class AbortReason(IntEnum):
    """Reasons of a provider's A-ABORT (PS3.8 table 9-26)."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    INVALID_PARAMETER = 6


class PduFault(Exception):
    """A peer broke the upper layer protocol; the association ends with an A-ABORT of this reason."""

    def __init__(self, reason: AbortReason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why an association is rejected (PS3.8 table 9-21)."""

    permanent: bool
    source: int
    reason: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposedContext:
    """A presentation context as the requestor proposes it."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """SCP/SCU role selection for one SOP class (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociateRequest:
    """What an A-ASSOCIATE-RQ says.

    Attributes:
        maximum_pdu_bytes: longest P-DATA-TF the peer takes; 0 = any.
    """

    called_ae_title: str
    calling_ae_title: str
    application_context: str
    contexts: tuple[ProposedContext, ...]
    maximum_pdu_bytes: int = 16_384
    implementation_version: str = ""
    roles: tuple[Role, ...] = ()
    raw_titles: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedContext:
    """The answer to a proposed context; ``result`` 0 = accepted, 3 = abstract, 4 = transfer syntax not supported."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    result: int


def parse_associate_request(body: bytes) -> AssociateRequest:
    """Returns what an A-ASSOCIATE-RQ says.

    Args:
        body: the PDU after its 6-byte header, at most MAXIMUM_REQUEST_BYTES.

    Raises:
        PduFault: an item goes beyond its container, or a mandatory one is missing.

    Source: PS3.8 9.3.2 and annex D, PS3.7 annex D.3.3.
    """
    if len(body) < 68:
        raise PduFault(
            AbortReason.INVALID_PARAMETER, f"A-ASSOCIATE-RQ of {len(body)} bytes, expected at least 68"
        )
    application_context = ""
    contexts: list[ProposedContext] = []
    user: list[tuple[int, bytes]] = []
    for kind, value in _items(body[68:]):
        if kind == 0x10:
            application_context = _text(value)
        elif kind == 0x20:
            contexts.append(_parse_context(value))
        elif kind == 0x50:
            user.extend(_items(value))
    if not contexts:
        raise PduFault(AbortReason.INVALID_PARAMETER, "A-ASSOCIATE-RQ proposes no presentation context")
    if len({context.context_id for context in contexts}) != len(contexts):
        raise PduFault(AbortReason.INVALID_PARAMETER, "A-ASSOCIATE-RQ uses a presentation context ID twice")
    maximum, version, roles = 0, "", []
    for kind, value in user:
        if kind == 0x51 and len(value) == 4:
            (maximum,) = struct.unpack(">I", value)
        elif kind == 0x55:
            version = _text(value)
        elif kind == 0x54:
            roles.append(_parse_role(value))
    return AssociateRequest(
        called_ae_title=_text(body[4:20]),
        calling_ae_title=_text(body[20:36]),
        application_context=application_context,
        contexts=tuple(contexts),
        maximum_pdu_bytes=maximum,
        implementation_version=version,
        roles=tuple(roles),
        raw_titles=body[4:36],
    )


def encode_associate_accept(
    request: AssociateRequest,
    answers: tuple[AcceptedContext, ...],
    roles: tuple[Role, ...],
    maximum_pdu_bytes: int,
) -> bytes:
    """Returns the A-ASSOCIATE-AC (PS3.8 9.3.3); it carries the titles of the request, as the Standard asks."""
    items = [_item(0x10, APPLICATION_CONTEXT.encode())]
    for answer in answers:
        transfer = _item(0x40, answer.transfer_syntax.encode())
        items.append(_item(0x21, bytes((answer.context_id, 0, answer.result, 0)) + transfer))
    user = [
        _item(0x51, struct.pack(">I", maximum_pdu_bytes)),
        _item(0x52, IMPLEMENTATION_CLASS_UID.encode()),
        *(
            _item(
                0x54,
                struct.pack(">H", len(role.sop_class_uid))
                + role.sop_class_uid.encode()
                + bytes((role.scu, role.scp)),
            )
            for role in roles
        ),
        _item(0x55, IMPLEMENTATION_VERSION_NAME.encode()),
    ]
    items.append(_item(0x50, b"".join(user)))
    body = struct.pack(">HH", 1, 0) + request.raw_titles + bytes(32) + b"".join(items)
    return _pdu(PduType.ASSOCIATE_ACCEPT, body)


def encode_associate_reject(rejection: Rejection) -> bytes:
    """Returns the A-ASSOCIATE-RJ (PS3.8 9.3.4)."""
    result = 1 if rejection.permanent else 2
    return _pdu(PduType.ASSOCIATE_REJECT, bytes((0, result, rejection.source, rejection.reason)))


def encode_release_reply() -> bytes:
    """Returns the A-RELEASE-RP (PS3.8 9.3.7)."""
    return _pdu(PduType.RELEASE_REPLY, bytes(4))


def encode_abort(reason: AbortReason) -> bytes:
    """Returns a provider's A-ABORT (PS3.8 9.3.8)."""
    return _pdu(PduType.ABORT, bytes((0, 0, 2, reason)))


def encode_command(context_id: int, command: bytes) -> bytes:
    """Returns a P-DATA-TF with one whole command set (PS3.8 9.3.5, E.2)."""
    value = struct.pack(">IBB", len(command) + 2, context_id, 0b11) + command
    return _pdu(PduType.DATA, value)


def _pdu(kind: PduType, body: bytes) -> bytes:
    return struct.pack(">BBI", kind, 0, len(body)) + body


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _items(data: bytes) -> list[tuple[int, bytes]]:
    found, position = [], 0
    while position < len(data):
        if position + 4 > len(data):
            raise PduFault(AbortReason.INVALID_PARAMETER, "an item header goes beyond its PDU")
        kind, _, length = struct.unpack_from(">BBH", data, position)
        position += 4
        if position + length > len(data):
            raise PduFault(
                AbortReason.INVALID_PARAMETER,
                f"item {kind:#x} says {length} bytes, {len(data) - position} are left",
            )
        found.append((kind, data[position : position + length]))
        position += length
    return found


def _parse_context(value: bytes) -> ProposedContext:
    if len(value) < 4 or value[0] % 2 == 0:
        raise PduFault(AbortReason.INVALID_PARAMETER, "a presentation context has no odd ID")
    abstract = ""
    transfers = []
    for kind, name in _items(value[4:]):
        if kind == 0x30:
            abstract = _text(name)
        elif kind == 0x40:
            transfers.append(_text(name))
    return ProposedContext(context_id=value[0], abstract_syntax=abstract, transfer_syntaxes=tuple(transfers))


def _parse_role(value: bytes) -> Role:
    if len(value) < 4:
        raise PduFault(AbortReason.INVALID_PARAMETER, "a role selection item is too short")
    (length,) = struct.unpack_from(">H", value)
    if len(value) != length + 4:
        raise PduFault(AbortReason.INVALID_PARAMETER, "a role selection item does not fit its length")
    return Role(sop_class_uid=_text(value[2 : 2 + length]), scu=bool(value[-2]), scp=bool(value[-1]))


def _text(value: bytes) -> str:
    return value.decode("ascii", errors="replace").strip(" \0")
