"""A peer made of raw bytes: what no library would send."""

import struct

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import CTImageStorage


def encode_request(called=b"MMFNODE", classes=(CTImageStorage,)):
    def item(kind, value):
        return struct.pack(">BBH", kind, 0, len(value)) + value

    contexts = b"".join(
        item(
            0x20,
            bytes((2 * number + 1, 0, 0, 0))
            + item(0x30, uid.encode())
            + item(0x40, ExplicitVRLittleEndian.encode()),
        )
        for number, uid in enumerate(classes)
    )
    user = item(0x51, struct.pack(">I", 16_384)) + item(0x52, b"1.2.3")
    body = (
        struct.pack(">HH", 1, 0)
        + called.ljust(16)
        + b"HOSTILE".ljust(16)
        + bytes(32)
        + item(0x10, b"1.2.840.10008.3.1.1.1")
        + contexts
        + item(0x50, user)
    )
    return struct.pack(">BBI", 1, 0, len(body)) + body


def read_pdu(connection):
    """(type, body), or (0, b"") when the peer closed."""
    header = b""
    while len(header) < 6:
        try:
            part = connection.recv(6 - len(header))
        except ConnectionResetError:
            return 0, b""
        if not part:
            return 0, b""
        header += part
    body = b""
    while len(body) < int.from_bytes(header[2:], "big"):
        body += connection.recv(65_536)
    return header[0], body


def pdata(value, context=1, control=0b11):
    return (
        struct.pack(">BBI", 4, 0, len(value) + 6)
        + struct.pack(">IBB", len(value) + 2, context, control)
        + value
    )


def store_command(instance=b"1.2.3.4\0", command_field=1, sop_class=CTImageStorage):
    def element(number, value):
        return struct.pack("<HHI", 0, number, len(value)) + value

    body = (
        element(0x0002, sop_class.encode().ljust(len(sop_class) + len(sop_class) % 2, b"\0"))
        + element(0x0100, struct.pack("<H", command_field))
        + element(0x0110, struct.pack("<H", 1))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 0))
        + element(0x1000, instance)
    )
    return element(0, struct.pack("<I", len(body))) + body


def release_request():
    """An A-RELEASE-RQ."""
    return struct.pack(">BBI", 5, 0, 4) + bytes(4)
