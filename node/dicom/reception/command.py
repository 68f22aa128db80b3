"""Command sets of DIMSE messages: read within bounds, responses encoded without a data set library."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from node.dicom.reception.pdu import AbortReason, PduFault

MAXIMUM_COMMAND_BYTES = 65_536
"""Longest command set read (OURS; a C-STORE-RQ has about 150 bytes)."""

NO_DATA_SET = 0x0101
"""Command Data Set Type without data set (PS3.7 E.1)."""


class Field(IntEnum):
    """Command Field (PS3.7 E.1)."""

    C_STORE_RQ = 0x0001
    C_ECHO_RQ = 0x0030
    N_EVENT_REPORT_RQ = 0x0100
    C_CANCEL_RQ = 0x0FFF


class Status(IntEnum):
    """Statuses that we answer (PS3.4 B.2.3, PS3.7 annex C)."""

    SUCCESS = 0x0000
    PROCESSING_FAILURE = 0x0110
    SOP_CLASS_NOT_SUPPORTED = 0x0122
    UNRECOGNIZED_OPERATION = 0x0211
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The elements of a request's command set that we use."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str
    event_type_id: int = 0


def parse_command(data: bytes | bytearray) -> Command:
    """Returns a request's command set (Implicit VR Little Endian, group 0000).

    Raises:
        PduFault: an element goes beyond the end, is of another group, or a mandatory one is missing.

    Source: PS3.7 6.3 and annex E.
    """
    elements: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise PduFault(AbortReason.INVALID_PARAMETER, "a command set ends within an element header")
        group, element, length = struct.unpack_from("<HHI", data, position)
        position += 8
        if group != 0 or position + length > len(data):
            raise PduFault(
                AbortReason.INVALID_PARAMETER,
                f"a command set holds ({group:04X},{element:04X}) of {length} bytes",
            )
        elements[element] = bytes(data[position : position + length])
        position += length
    return Command(
        field=_number(elements, 0x0100),
        message_id=_number(elements, 0x0110, missing=0),
        has_data_set=_number(elements, 0x0800) != NO_DATA_SET,
        sop_class_uid=_text(elements, 0x0002),
        sop_instance_uid=_text(elements, 0x1000),
        event_type_id=_number(elements, 0x1002, missing=0),
    )


def encode_response(command: Command, status: int, comment: str = "") -> bytes:
    """Returns the response's command set.

    Args:
        command: the request.
        status: its outcome.
        comment: Error Comment (0000,0902), at most 64 characters go out.
    """
    elements = [
        _element(0x0002, _pad(command.sop_class_uid)) if command.sop_class_uid else b"",
        _element(0x0100, struct.pack("<H", command.field | 0x8000)),
        _element(0x0120, struct.pack("<H", command.message_id)),
        _element(0x0800, struct.pack("<H", NO_DATA_SET)),
        _element(0x0900, struct.pack("<H", status)),
        _element(0x0902, _pad(comment[:64], b" ")) if comment else b"",
        _element(0x1000, _pad(command.sop_instance_uid)) if command.sop_instance_uid else b"",
        _element(0x1002, struct.pack("<H", command.event_type_id)) if command.event_type_id else b"",
    ]
    body = b"".join(elements)
    return _element(0x0000, struct.pack("<I", len(body))) + body


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value


def _pad(text: str, filler: bytes = b"\0") -> bytes:
    value = text.encode("ascii", errors="replace")
    return value + filler * (len(value) % 2)


def _number(elements: dict[int, bytes], element: int, missing: int | None = None) -> int:
    value = elements.get(element)
    if value is None and missing is not None:
        return missing
    if value is None or len(value) != 2:
        raise PduFault(AbortReason.INVALID_PARAMETER, f"a command set lacks (0000,{element:04X})")
    return int.from_bytes(value, "little")


def _text(elements: dict[int, bytes], element: int) -> str:
    return elements.get(element, b"").decode("ascii", errors="replace").strip(" \0")
