"""Accepts one object: its bytes into a spool, its identity checked against the command, then safe, then the status."""

import errno
import hashlib
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from node.completeness import Traffic
from node.dicom.reception.command import Command, Status
from node.dicom.reception.elements import Encoded, IdentityReader, read_identity
from node.dicom.reception.pdu import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from node.errors import InboxFull, InstanceRefused
from node.ports import Clock
from node.storage.inbox import FolderInbox, Sender, Spool, StoredFile
from node.study import PRODUCT_NAME

log = structlog.get_logger(__name__)

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_META_START = 132
"""Preamble and prefix (PS3.10 7.1)."""
_META_GROUP_LENGTH_BYTES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an object comes from.

    Attributes:
        association: our own number of the association.
    """

    association: int
    sender: Sender
    transfer_syntax_uid: str


class Acceptance:
    """The door between the network and the inbox: what every association's objects go through."""

    def __init__(
        self, inbox: FolderInbox, traffic: Traffic, clock: Clock, *, maximum_object_bytes: int = 4 << 30
    ) -> None:
        self.inbox = inbox
        self.traffic = traffic
        self.clock = clock
        self.maximum_object_bytes = maximum_object_bytes

    def begin(self, command: Command, origin: Origin) -> "IncomingObject":
        """Returns the object that is about to come; a refusal is remembered and answered at its end."""
        return IncomingObject(self, command, origin)


class IncomingObject:
    """One C-STORE between its command and its status.

    The peer sends the whole data set before it reads a status, so a refusal only stops the writing. This is one of
    the two places where every exception is caught: whatever happens to one object, the peer gets a status and the
    node lives on.
    """

    def __init__(self, acceptance: Acceptance, command: Command, origin: Origin) -> None:
        self._acceptance = acceptance
        self._command = command
        self._origin = origin
        self._spool: Spool | None = None
        self._reader = IdentityReader(origin.transfer_syntax_uid)
        self._study = ""
        self._status: int = Status.SUCCESS
        self._comment = ""
        acceptance.traffic.object_begins(origin.association, acceptance.clock.now())
        self._attempt(self._open)

    def write(self, data: memoryview) -> None:
        """Takes the next bytes of the data set; their memory must stay as it is until :meth:`flush` or the end."""
        if self._spool is not None:
            self._attempt(lambda: self._append(data))

    def flush(self) -> None:
        """Takes the bytes out of the memory they came in."""
        if self._spool is not None:
            self._attempt(self._spool.flush)

    def finish(self) -> tuple[int, str]:
        """Returns the status and the error comment to answer; with 0x0000 the object is durable."""
        if self._spool is not None:
            self._attempt(self._keep)
        self._end()
        return self._status, self._comment

    def abandon(self) -> None:
        """The association ended before the object did."""
        if self._spool is not None:
            log.warning(
                "association ended within an object",
                instance=self._command.sop_instance_uid,
                study=self._study,
                bytes=self._spool.size_bytes,
                address=self._origin.sender.address,
            )
        self._end()

    def _open(self) -> None:
        if not self._command.sop_class_uid or not self._command.sop_instance_uid:
            raise InstanceRefused("the command lacks the SOP Class UID or the SOP Instance UID")
        self._spool = self._acceptance.inbox.begin(
            encode_file_meta(
                self._command, self._origin.transfer_syntax_uid, self._origin.sender.calling_ae_title
            )
        )

    def _append(self, data: memoryview) -> None:
        spool = self._existing_spool()
        if spool.size_bytes + len(data) > self._acceptance.maximum_object_bytes:
            raise InboxFull(f"the object is larger than {self._acceptance.maximum_object_bytes} bytes")
        if spool.size_bytes == 0:
            self._study = self._reader.read_prefix(data)
            if self._study:
                self._acceptance.traffic.study_known(
                    self._origin.association, self._study, self._acceptance.clock.now()
                )
        spool.write(data)

    def _keep(self) -> None:
        spool = self._existing_spool()
        if spool.size_bytes == 0:
            raise InstanceRefused("the data set is empty")
        spool.flush()
        with mmap.mmap(spool.descriptor, 0, prot=mmap.PROT_READ) as data:
            identity = self._reader.read_whole(data, spool.header_bytes, PRODUCT_NAME)
        for name, got, said in (
            ("SOP Class UID", identity.sop_class_uid, self._command.sop_class_uid),
            ("SOP Instance UID", identity.sop_instance_uid, self._command.sop_instance_uid),
        ):
            if got != said:
                self._status = Status.DATA_SET_DOES_NOT_MATCH
                raise InstanceRefused(f"the data set's {name} is {got}, the command says {said}")
        now = self._acceptance.clock.now()
        self._study = identity.study_instance_uid
        self._acceptance.traffic.study_known(self._origin.association, identity.study_instance_uid, now)
        self._acceptance.inbox.keep(
            spool, identity, self._origin.transfer_syntax_uid, self._origin.sender, now
        )
        self._spool = None

    def _existing_spool(self) -> Spool:
        if self._spool is None:
            raise InstanceRefused("the object was refused before")
        return self._spool

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except InstanceRefused as error:
            self._refuse(self._status or Status.CANNOT_UNDERSTAND, str(error))
        except InboxFull as error:
            self._refuse(Status.OUT_OF_RESOURCES, str(error))
        except OSError as error:
            full = error.errno in _NO_SPACE
            self._refuse(Status.OUT_OF_RESOURCES if full else Status.PROCESSING_FAILURE, str(error.strerror))
        except Exception as error:
            log.exception("an object could not be stored", instance=self._command.sop_instance_uid)
            self._refuse(Status.PROCESSING_FAILURE, type(error).__name__)

    def _refuse(self, status: int, comment: str) -> None:
        self._status, self._comment = status, comment
        self._drop_spool()
        log.warning(
            "object refused",
            status=f"0x{status:04X}",
            reason=comment,
            instance=self._command.sop_instance_uid,
            study=self._study,
            calling=self._origin.sender.calling_ae_title,
            address=self._origin.sender.address,
        )

    def _end(self) -> None:
        self._drop_spool()
        self._acceptance.traffic.object_ends(self._origin.association, self._acceptance.clock.now())

    def _drop_spool(self) -> None:
        if self._spool is not None:
            self._spool.discard()
            self._spool = None


def encode_file_meta(command: Command, transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    """Returns a zeroed preamble, the prefix and the file meta information (PS3.10 7.1).

    The preamble is never the peer's: it could make the file a program of another kind as well.
    """
    elements = [
        struct.pack("<HH2sHI", 2, 0x0001, b"OB", 0, 2) + b"\x00\x01",
        _meta_element(0x0002, b"UI", command.sop_class_uid),
        _meta_element(0x0003, b"UI", command.sop_instance_uid),
        _meta_element(0x0010, b"UI", transfer_syntax_uid),
        _meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        _meta_element(0x0016, b"AE", source_ae_title) if source_ae_title else b"",
    ]
    body = b"".join(elements)
    length = struct.pack("<HH2sHI", 2, 0x0000, b"UL", 4, len(body))
    return bytes(128) + b"DICM" + length + body


def read_stored(path: Path) -> StoredFile:
    """Returns the identity and the content hash of a file the inbox wrote.

    Raises:
        InstanceRefused: the file is not whole.
    """
    with path.open("rb") as file:
        if path.stat().st_size < _META_START + _META_GROUP_LENGTH_BYTES:
            raise InstanceRefused(f"{path.name} is too short to be DICOM")
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            transfer_syntax_uid, start = _read_meta(data)
            identity = read_identity(data, start, transfer_syntax_uid, PRODUCT_NAME)
            with memoryview(data) as view, view[start:] as content:
                digest = hashlib.sha256(content).hexdigest()
    return StoredFile(identity=identity, transfer_syntax_uid=transfer_syntax_uid, content_sha256=digest)


def _read_meta(data: Encoded) -> tuple[str, int]:
    if bytes(data[128:_META_START]) != b"DICM":
        raise InstanceRefused("the file has no DICM prefix")
    (length,) = struct.unpack_from("<I", data, _META_START + 8)
    position = _META_START + _META_GROUP_LENGTH_BYTES
    end = position + length
    if end > len(data):
        raise InstanceRefused("the file ends within its file meta information")
    while position < end:
        _, element, representation, size = struct.unpack_from("<HH2sH", data, position)
        position += 8
        if representation == b"OB":
            (size,) = struct.unpack_from("<I", data, position)
            position += 4
        if element == 0x0010:
            return bytes(data[position : position + size]).decode("ascii", errors="replace").strip(" \0"), end
        position += size
    raise InstanceRefused("the file meta information has no Transfer Syntax UID")


def _meta_element(element: int, representation: bytes, text: str) -> bytes:
    value = text.encode("ascii", errors="replace")
    value += (b"\0" if representation == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, representation, len(value)) + value
