"""The storage SCP: listens, greets, hands each accepted association a lane, keeps every deadline, stops cleanly."""

import selectors
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import structlog

from node.dicom.reception.accept import Acceptance
from node.dicom.reception.access import (
    ACCEPTANCE,
    ListenerSettings,
    check_exposure,
    find_rejection,
    negotiate_contexts,
)
from node.dicom.reception.lane import Lane, LaneTerms, ReportHandler
from node.dicom.reception.pdu import (
    HEADER_BYTES,
    MAXIMUM_REQUEST_BYTES,
    AbortReason,
    AssociateRequest,
    PduFault,
    PduType,
    Rejection,
    encode_abort,
    encode_associate_accept,
    encode_associate_reject,
    parse_associate_request,
)
from node.errors import SettingsRefused
from node.storage.inbox import Sender

log = structlog.get_logger(__name__)

_BACKLOG = 256
_TAKEN_AT_ONCE = 16
_WATCH_SECONDS = 0.25
"""How often deadlines are looked at."""
_MAXIMUM_GREETING_BYTES = 32 << 20
"""Bytes of unfinished A-ASSOCIATE-RQ held for all peers together (OURS)."""
_MOST_LOGGED = 5
"""SOP classes and transfer syntaxes of a proposal that a line of the log names (OURS)."""
_LINGER_SECONDS = 0.5
"""How long a rejected peer has to read our last PDU before the connection closes."""


@dataclass(slots=True, kw_only=True)
class _Greeting:
    """A connection that has not yet sent its whole A-ASSOCIATE-RQ; ``ending`` once it got its rejection."""

    connection: socket.socket
    address: str
    deadline: float
    buffer: bytearray = field(default_factory=bytearray)
    ending: bool = False


@dataclass(slots=True, kw_only=True)
class _Serving:
    """An association and the thread that serves it."""

    lane: Lane
    thread: threading.Thread
    address: str
    leaving: bool = False


class Listener:
    """The receiver: one thread greets all newcomers and watches deadlines, one thread serves each association.

    Why not the association server of pynetdicom: it buffers whatever length a peer claims, waits for ever within a
    PDU, gives a thread and a slot to silence, polls every millisecond, and copies each PDU five times (dicom.md,
    section 5; stack.md). Newcomers share one selector here, so a thousand dripping connections cost a thousand small
    buffers and no thread; their number, bytes and time are bounded.
    """

    def __init__(
        self, settings: ListenerSettings, acceptance: Acceptance, report: ReportHandler | None = None
    ) -> None:
        check_exposure(settings)
        self.settings = settings
        self._acceptance = acceptance
        self._report = report
        self._stopping = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._greetings: dict[socket.socket, _Greeting] = {}
        self._serving: dict[int, _Serving] = {}
        self._lock = threading.Lock()
        self._number = 0
        self._socket: socket.socket | None = None
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that is really open."""
        if self._socket is None:
            raise ValueError("the listener is not started")
        return int(self._socket.getsockname()[1])

    def start(self) -> int:
        """Opens the port, begins to serve, and returns the port.

        Raises:
            SettingsRefused: the address or port cannot be bound.
        """
        family = socket.AF_INET6 if ":" in self.settings.address else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.settings.address, self.settings.port))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise SettingsRefused(
                [f"cannot listen on {self.settings.address}:{self.settings.port}: {error.strerror}"]
            ) from error
        listening.setblocking(False)
        self._socket = listening
        self._selector.register(listening, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._thread.start()
        log.info("listening", address=self.settings.address, port=self.port, ae_title=self.settings.ae_title)
        return self.port

    def stop(self) -> None:
        """Takes no more associations, lets objects in transfer finish within ``stop_seconds``, then ends all."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._wake_writer.send(b"\0")
        if self._thread.is_alive():
            self._thread.join()
        deadline = time.monotonic() + self.settings.stop_seconds
        for serving in self._lanes():
            if not serving.lane.within_message:
                serving.lane.cut("the node stops")
        for serving in self._lanes():
            serving.thread.join(max(0.0, deadline - time.monotonic()))
            if serving.thread.is_alive():
                serving.lane.cut("the node stops")
                serving.thread.join(self.settings.stop_seconds)
        for greeting in list(self._greetings.values()):
            self._drop(greeting)
        if self._socket is not None:
            self._socket.close()
        self._selector.close()
        self._wake_reader.close()
        self._wake_writer.close()
        log.info("listener stopped")

    def count_associations(self) -> int:
        """Returns how many associations are open."""
        with self._lock:
            return len(self._serving)

    def _run(self) -> None:
        watched_at = time.monotonic()
        while not self._stopping.is_set():
            for key, _ in self._selector.select(_WATCH_SECONDS):
                if key.fileobj is self._socket:
                    self._take_connections()
                elif key.fileobj is not self._wake_reader:
                    greeting = self._greetings.get(key.data)
                    if greeting is not None:
                        self._read_greeting(greeting)
            now = time.monotonic()
            if now - watched_at >= _WATCH_SECONDS:
                watched_at = now
                self._keep_deadlines(now)

    def _take_connections(self) -> None:
        """Takes connections that wait; when there are too many newcomers, the oldest makes room.

        A few at a time, so that requests which have come are read before anybody has to make room.
        """
        for _ in range(_TAKEN_AT_ONCE):
            if self._socket is None:
                return
            try:
                connection, peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                log.warning("a connection could not be taken", error=error.strerror)
                self._make_room()
                return
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if len(self._greetings) >= self.settings.maximum_greeting:
                self._make_room()
            greeting = _Greeting(
                connection=connection,
                address=str(peer[0]),
                deadline=time.monotonic() + self.settings.greeting_seconds,
            )
            self._greetings[connection] = greeting
            self._selector.register(connection, selectors.EVENT_READ, data=connection)

    def _make_room(self) -> None:
        oldest = next(iter(self._greetings.values()), None)
        if oldest is not None:
            log.warning("a silent connection made room for a newer one", address=oldest.address)
            self._drop(oldest)

    def _read_greeting(self, greeting: _Greeting) -> None:
        try:
            data = greeting.connection.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(greeting)
            return
        if greeting.ending:
            return
        greeting.buffer += data
        try:
            request, rest = _take_request(greeting.buffer)
        except PduFault as fault:
            log.warning("not an association request", address=greeting.address, reason=str(fault))
            self._end(greeting, encode_abort(fault.reason))
            return
        if request is not None:
            self._welcome(greeting, request, rest)
        elif sum(len(other.buffer) for other in self._greetings.values()) > _MAXIMUM_GREETING_BYTES:
            self._drop(max(self._greetings.values(), key=lambda other: len(other.buffer)))

    def _welcome(self, greeting: _Greeting, request: AssociateRequest, rest: bytes) -> None:
        rejection = self._find_rejection(request, greeting.address)
        if rejection is not None and not rejection.permanent and self._spare_idle(greeting.address):
            rejection = self._find_rejection(request, greeting.address)
        if rejection is None and rest:
            log.warning("bytes after the association request", address=greeting.address)
            self._end(greeting, encode_abort(AbortReason.UNEXPECTED_PDU))
            return
        if rejection is not None:
            log.warning(
                "association rejected",
                calling=request.calling_ae_title,
                address=greeting.address,
                reason=rejection.why,
            )
            self._end(greeting, encode_associate_reject(rejection))
            return
        self._selector.unregister(greeting.connection)
        del self._greetings[greeting.connection]
        answers, roles = negotiate_contexts(request)
        if request.contexts and all(answer.result != ACCEPTANCE for answer in answers):
            log.warning(
                "nothing of what an association proposed is taken",
                calling=request.calling_ae_title,
                address=greeting.address,
                sop_classes=sorted({one.abstract_syntax for one in request.contexts})[:_MOST_LOGGED],
                transfer_syntaxes=sorted({uid for one in request.contexts for uid in one.transfer_syntaxes})[
                    :_MOST_LOGGED
                ],
            )
        accept = encode_associate_accept(request, answers, roles, self.settings.maximum_pdu_bytes)
        greeting.connection.setblocking(True)
        self._number += 1
        number = self._number
        lane = Lane(
            greeting.connection,
            LaneTerms(
                number=number,
                sender=Sender(calling_ae_title=request.calling_ae_title, address=greeting.address),
                contexts={answer.context_id: answer for answer in answers if answer.result == ACCEPTANCE},
                settings=self.settings,
            ),
            self._acceptance,
            self._report,
        )
        thread = threading.Thread(
            target=self._serve, args=(number, lane, accept), name=f"association-{number}", daemon=True
        )
        with self._lock:
            self._serving[number] = _Serving(lane=lane, thread=thread, address=greeting.address)
        thread.start()

    def _find_rejection(self, request: AssociateRequest, address: str) -> Rejection | None:
        open_by_address = Counter(serving.address for serving in self._lanes() if not serving.leaving)
        return find_rejection(request, address, open_by_address, self.settings)

    def _spare_idle(self, address: str) -> bool:
        """Ends the association that has been idle longest, one of the newcomer's address first; False if none has."""
        limit = time.monotonic() - self.settings.spare_seconds
        idle = [
            (serving.address != address, serving.lane.idle_since, serving)
            for serving in self._lanes()
            if not serving.leaving and serving.lane.idle_since is not None and serving.lane.idle_since < limit
        ]
        if not idle:
            return False
        _, _, spared = min(idle, key=lambda one: one[:2])
        spared.leaving = True
        spared.lane.cut("idle while others waited for a place")
        return True

    def _serve(self, number: int, lane: Lane, accept: bytes) -> None:
        try:
            lane.run(accept)
        finally:
            with self._lock:
                del self._serving[number]

    def _keep_deadlines(self, now: float) -> None:
        for greeting in [one for one in self._greetings.values() if one.deadline < now]:
            if not greeting.ending:
                log.warning(
                    "no association request in time", address=greeting.address, bytes=len(greeting.buffer)
                )
            self._drop(greeting)
        for serving in self._lanes():
            if serving.lane.deadline < now:
                serving.lane.cut("silent for too long")

    def _lanes(self) -> list[_Serving]:
        with self._lock:
            return list(self._serving.values())

    def _end(self, greeting: _Greeting, data: bytes) -> None:
        """Sends the last PDU and waits a moment for the peer to close, without holding anybody up."""
        try:
            greeting.connection.send(data)
            greeting.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(greeting)
            return
        greeting.ending = True
        greeting.buffer.clear()
        greeting.deadline = time.monotonic() + _LINGER_SECONDS

    def _drop(self, greeting: _Greeting) -> None:
        self._selector.unregister(greeting.connection)
        self._greetings.pop(greeting.connection, None)
        greeting.connection.close()


def _take_request(buffer: bytearray) -> tuple[AssociateRequest | None, bytes]:
    """Returns the request and what follows it, or None while it is not whole."""
    if buffer and buffer[0] != PduType.ASSOCIATE_REQUEST:
        raise PduFault(
            AbortReason.UNRECOGNIZED_PDU, f"the first byte is {buffer[0]:#04x}, not an A-ASSOCIATE-RQ"
        )
    if len(buffer) < HEADER_BYTES:
        return None, b""
    (length,) = struct.unpack_from(">I", buffer, 2)
    if length > MAXIMUM_REQUEST_BYTES:
        raise PduFault(
            AbortReason.INVALID_PARAMETER,
            f"A-ASSOCIATE-RQ of {length} bytes, at most {MAXIMUM_REQUEST_BYTES} are read",
        )
    if len(buffer) < HEADER_BYTES + length:
        return None, b""
    end = HEADER_BYTES + length
    return parse_associate_request(bytes(buffer[HEADER_BYTES:end])), bytes(buffer[end:])
