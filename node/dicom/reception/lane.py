"""One association: PDUs from its socket straight into the object's file, statuses back; one thread, no polling."""

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from node.dicom.reception.accept import Acceptance, IncomingObject, Origin
from node.dicom.reception.access import STORAGE_COMMITMENT, VERIFICATION, ListenerSettings
from node.dicom.reception.command import (
    MAXIMUM_COMMAND_BYTES,
    Command,
    Field,
    Status,
    encode_response,
    parse_command,
)
from node.dicom.reception.pdu import (
    HEADER_BYTES,
    AbortReason,
    AcceptedContext,
    PduFault,
    PduType,
    encode_abort,
    encode_command,
    encode_release_reply,
)
from node.storage.inbox import Sender

log = structlog.get_logger(__name__)

_HEADER = struct.Struct(">BBI")
_PDV = struct.Struct(">IBB")
_COMMAND_BIT, _LAST_BIT = 1, 2
_MAXIMUM_REPORT_BYTES = 4 << 20
"""Longest data set of an N-EVENT-REPORT kept in memory (OURS; 10,000 references have 1.5 MB)."""
_BUFFERED_PDUS = 4
"""Longest PDUs that the buffer holds: a CT slice of 512 x 512 fits, and is written in one call."""
_CLOSE_SECONDS = 2.0
"""How long the peer has to close the connection after the end of the association."""

ReportHandler = Callable[[int, bytes, str], int]
"""Takes an N-EVENT-REPORT's Event Type ID, its encoded data set and transfer syntax; returns the status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneTerms:
    """What was agreed for one association."""

    number: int
    sender: Sender
    contexts: dict[int, AcceptedContext]
    settings: ListenerSettings


class Lane:
    """Serves one accepted association until it ends.

    Memory is one receive buffer, from which an object's pieces are written many at once: when it is whole, or before
    the buffer begins again. Nothing is allocated from a length that a peer claims. Deadlines are kept by the
    listener's watch, which shuts the socket of a lane that is past :attr:`deadline`: a drip of bytes does not help,
    because the deadline of a PDU counts from its first byte. ``idle_since`` is None while there is work.
    """

    def __init__(
        self,
        connection: socket.socket,
        terms: LaneTerms,
        acceptance: Acceptance,
        report: ReportHandler | None,
    ) -> None:
        self.deadline = time.monotonic() + terms.settings.idle_seconds
        self.within_message = False
        self.idle_since: float | None = None
        self._socket = connection
        self._terms = terms
        self._acceptance = acceptance
        self._report = report
        self._buffer = bytearray(_BUFFERED_PDUS * (HEADER_BYTES + terms.settings.maximum_pdu_bytes))
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._command_bytes = bytearray()
        self._command: Command | None = None
        self._context: AcceptedContext | None = None
        self._object: IncomingObject | None = None
        self._report_bytes: bytearray | None = None
        self._objects = 0
        self._cut = ""

    def run(self, accept: bytes) -> None:
        """Serves the association; returns when it is over and its connection is closed.

        Args:
            accept: the encoded A-ASSOCIATE-AC, sent first.
        """
        released = False
        why = ""
        try:
            self._send(accept)
            released = self._serve()
        except PduFault as fault:
            why = str(fault)
            self._send_quietly(encode_abort(fault.reason))
        except OSError as error:
            why = self._cut or error.strerror or str(error)
        finally:
            if self._object is not None:
                self._object.abandon()
            self._acceptance.traffic.association_ends(
                self._terms.number, released=released, now=self._acceptance.clock.now()
            )
            self._close()
        log.info(
            "association ended",
            number=self._terms.number,
            calling=self._terms.sender.calling_ae_title,
            address=self._terms.sender.address,
            objects=self._objects,
            released=released,
            why=why or self._cut,
        )

    def cut(self, why: str) -> None:
        """Ends the association from another thread."""
        self._cut = self._cut or why
        self._send_nowait(encode_abort(AbortReason.NOT_SPECIFIED))
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            log.debug("connection was closed already", address=self._terms.sender.address)

    def _serve(self) -> bool:
        """Returns True after a release, raises or returns False otherwise."""
        while True:
            kind, payload = self._read_pdu()
            if kind == PduType.DATA:
                self._take_data(payload)
            elif kind == PduType.RELEASE_REQUEST:
                if self.within_message:
                    raise PduFault(AbortReason.UNEXPECTED_PDU, "the peer released within a message")
                self._send(encode_release_reply())
                return True
            elif kind == PduType.ABORT:
                self._cut = "aborted by the peer"
                return False
            elif kind in PduType.__members__.values():
                raise PduFault(AbortReason.UNEXPECTED_PDU, f"PDU of type {kind} within an association")
            else:
                raise PduFault(AbortReason.UNRECOGNIZED_PDU, f"PDU of unknown type {kind}")

    def _read_pdu(self) -> tuple[int, memoryview]:
        """Returns the next PDU; its memory is good until the next call."""
        settings = self._terms.settings
        wait = settings.message_seconds if self.within_message else settings.idle_seconds
        if self._end == self._start:
            moment = time.monotonic()
            self.deadline = moment + wait
            self.idle_since = None if self.within_message else moment
            self._fill(1)
            self.idle_since = None
        self.deadline = time.monotonic() + settings.pdu_seconds
        self._fill(HEADER_BYTES)
        kind, _, length = _HEADER.unpack_from(self._buffer, self._start)
        if length > settings.maximum_pdu_bytes:
            raise PduFault(
                AbortReason.INVALID_PARAMETER,
                f"PDU of {length} bytes, {settings.maximum_pdu_bytes} were offered",
            )
        self._fill(HEADER_BYTES + length)
        first = self._start + HEADER_BYTES
        self._start = first + length
        return kind, self._view[first : self._start]

    def _fill(self, needed: int) -> None:
        """Reads until ``needed`` bytes lie in the buffer."""
        present = self._end - self._start
        if present >= needed:
            return
        if self._start + needed > len(self._buffer) or (present == 0 and self._object is None):
            if self._object is not None:
                self._object.flush()
            self._view[:present] = self._view[self._start : self._end]
            self._start, self._end = 0, present
        while self._end - self._start < needed:
            received = self._socket.recv_into(self._view[self._end :])
            if received == 0:
                raise ConnectionResetError(self._cut or "the peer closed the connection without release")
            self._end += received

    def _take_data(self, payload: memoryview) -> None:
        position = 0
        while position < len(payload):
            if position + _PDV.size > len(payload):
                raise PduFault(AbortReason.INVALID_PARAMETER, "a PDV header goes beyond its PDU")
            length, context_id, control = _PDV.unpack_from(payload, position)
            end = position + 4 + length
            if length < 2 or end > len(payload):
                raise PduFault(
                    AbortReason.INVALID_PARAMETER, f"a PDV says {length} bytes in a PDU of {len(payload)}"
                )
            context = self._terms.contexts.get(context_id)
            if context is None:
                raise PduFault(
                    AbortReason.INVALID_PARAMETER, f"a PDV names context {context_id}, which was not accepted"
                )
            fragment = payload[position + _PDV.size : end]
            if control & _COMMAND_BIT:
                self._take_command(fragment, context, last=bool(control & _LAST_BIT))
            else:
                self._take_fragment(fragment, context, last=bool(control & _LAST_BIT))
            position = end

    def _take_command(self, fragment: memoryview, context: AcceptedContext, *, last: bool) -> None:
        if self._command is not None:
            raise PduFault(AbortReason.UNEXPECTED_PDU, "a command came within the data set of another")
        if len(self._command_bytes) + len(fragment) > MAXIMUM_COMMAND_BYTES:
            raise PduFault(
                AbortReason.INVALID_PARAMETER, f"a command set has more than {MAXIMUM_COMMAND_BYTES} bytes"
            )
        self._command_bytes += fragment
        self.within_message = True
        if not last:
            return
        command = parse_command(self._command_bytes)
        self._command_bytes.clear()
        if command.field == Field.C_CANCEL_RQ:
            self.within_message = False
            return
        self._command, self._context = command, context
        if not command.has_data_set:
            self._answer(*self._serve_without_data(command, context))
        elif command.field == Field.C_STORE_RQ and command.sop_class_uid == context.abstract_syntax:
            origin = Origin(
                association=self._terms.number,
                sender=self._terms.sender,
                transfer_syntax_uid=context.transfer_syntax,
            )
            self._object = self._acceptance.begin(command, origin)
        elif command.field == Field.N_EVENT_REPORT_RQ and self._report is not None:
            self._report_bytes = bytearray()

    def _take_fragment(self, fragment: memoryview, context: AcceptedContext, *, last: bool) -> None:
        command = self._command
        if command is None or context is not self._context:
            raise PduFault(AbortReason.UNEXPECTED_PDU, "a data set came without its command")
        if self._object is not None:
            self._object.write(fragment)
        elif self._report_bytes is not None:
            if len(self._report_bytes) + len(fragment) > _MAXIMUM_REPORT_BYTES:
                raise PduFault(
                    AbortReason.INVALID_PARAMETER, f"a report has more than {_MAXIMUM_REPORT_BYTES} bytes"
                )
            self._report_bytes += fragment
        if last:
            self._answer(*self._finish(command, context))

    def _finish(self, command: Command, context: AcceptedContext) -> tuple[int, str]:
        """Returns status and comment once the whole data set is here."""
        if self._object is not None:
            incoming, self._object = self._object, None
            self._objects += 1
            return incoming.finish()
        if self._report_bytes is not None and self._report is not None:
            encoded, self._report_bytes = bytes(self._report_bytes), None
            return self._report(command.event_type_id, encoded, context.transfer_syntax), ""
        if command.field == Field.C_STORE_RQ:
            return Status.SOP_CLASS_NOT_SUPPORTED, f"context is for {context.abstract_syntax}"
        return Status.UNRECOGNIZED_OPERATION, ""

    def _serve_without_data(self, command: Command, context: AcceptedContext) -> tuple[int, str]:
        if command.field == Field.C_ECHO_RQ and context.abstract_syntax == VERIFICATION:
            return Status.SUCCESS, ""
        if command.field == Field.C_STORE_RQ:
            return Status.CANNOT_UNDERSTAND, "no data set"
        if command.field == Field.N_EVENT_REPORT_RQ and context.abstract_syntax == STORAGE_COMMITMENT:
            return Status.PROCESSING_FAILURE, "no data set"
        return Status.UNRECOGNIZED_OPERATION, ""

    def _answer(self, status: int, comment: str) -> None:
        command, context = self._command, self._context
        if command is None or context is None:
            raise PduFault(AbortReason.UNEXPECTED_PDU, "there is nothing to answer")
        self._command = self._context = None
        self.within_message = False
        self._send(encode_command(context.context_id, encode_response(command, status, comment)))

    def _send(self, data: bytes) -> None:
        self.deadline = time.monotonic() + self._terms.settings.message_seconds
        self._socket.sendall(data)

    def _send_quietly(self, data: bytes) -> None:
        try:
            self._send(data)
        except OSError as error:
            log.debug("the peer is gone", address=self._terms.sender.address, error=error.strerror)

    def _send_nowait(self, data: bytes) -> None:
        try:
            self._socket.send(data, socket.MSG_DONTWAIT)
        except OSError as error:
            log.debug(
                "the peer takes no more bytes", address=self._terms.sender.address, error=error.strerror
            )

    def _close(self) -> None:
        """Lets the peer close first, so that our last PDU is not lost in a reset; then closes."""
        self.deadline = time.monotonic() + _CLOSE_SECONDS
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(_CLOSE_SECONDS)
            while self._socket.recv_into(self._view) and time.monotonic() < self.deadline:
                pass
        except OSError as error:
            log.debug("connection closed", address=self._terms.sender.address, error=error.strerror)
        self._socket.close()
