"""The inbox: received objects as files of our own naming, durable before they are acknowledged, and their index."""

import hashlib
import os
import re
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

import structlog

from node.arrival import Arrival, Identity, OpenStudy, Pass
from node.errors import InboxFull, InstanceRefused
from node.storage.database import decode_time, encode_time, open_database, write_transaction
from node.storage.durable import FolderSync, sync_path, write_pieces
from node.storage.index import CT_IMAGE_STORAGE, decode_arrival, insert_arrival, read_passes

log = structlog.get_logger(__name__)

FILE_MODE = 0o640
FOLDER_MODE = 0o750
_KEPT_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.dcm")
_FREE_SPACE_SECONDS = 0.5
"""How long a reading of the free space is believed."""
_MOST_PIECES = 256
"""Pieces of one object held before they are written, however short they are (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who sent an object, as the association says."""

    calling_ae_title: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An object that is safe: ``duplicate`` when the very same one lay here already."""

    arrival: Arrival
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """What a file of the inbox says about itself when the index does not know it."""

    identity: Identity
    transfer_syntax_uid: str
    content_sha256: str


ReadStored = Callable[[Path], StoredFile]
"""Reads a kept file back; raises InstanceRefused when it is not whole."""


class Spool:
    """One object on its way in: pieces in the receiver's memory until :meth:`flush`, then a file in ``incoming/``.

    ``turns`` lets as many spools hash and write at once as there are processors: more threads would only hand the
    interpreter's lock to each other.
    """

    def __init__(self, path: Path, header: bytes, turns: threading.Semaphore) -> None:
        self.path = path
        self.header_bytes = len(header)
        self.size_bytes = 0
        self._header = header
        self._pieces: list[bytes | memoryview] = []
        self._turns = turns
        self._digest = hashlib.sha256()
        self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)

    @property
    def descriptor(self) -> int:
        """The open file."""
        if self._descriptor is None:
            raise ValueError("the spool is closed")
        return self._descriptor

    @property
    def content_sha256(self) -> str:
        """Hash of the data set as far as it was flushed."""
        return self._digest.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Appends bytes of the encoded data set; the memory of a view must stay as it is until :meth:`flush`."""
        self._pieces.append(data)
        self.size_bytes += len(data)
        if len(self._pieces) >= _MOST_PIECES:
            self.flush()

    def flush(self) -> None:
        """Hashes what was appended and writes it to the file, many pieces in one call of the system."""
        header, pieces = self._header, self._pieces
        if not header and not pieces:
            return
        self._header, self._pieces = b"", []
        with self._turns:
            for piece in pieces:
                self._digest.update(piece)
            write_pieces(self.descriptor, [header, *pieces])

    def discard(self) -> None:
        """Removes the file: the object was refused or never finished."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file, once."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def locate_study(inbox: Path, study_instance_uid: str) -> Path:
    """Returns the folder of one study below an inbox folder; its name is a hash, never what a peer sent."""
    name = _shorten(study_instance_uid)
    return inbox / "studies" / name[:2] / name


class FolderInbox:
    """Received objects under one folder, and their index in the node's database.

    The order of events is the safety: bytes into ``incoming/``, rename to the final name, fsync of the file, fsync of
    its folder, and only then the caller acknowledges. Renaming before syncing costs one journal commit of the file
    system in place of two; a name that appears without its content after a power cut is found by :meth:`rebuild`,
    because the name carries the content's hash. The index follows within a second (:meth:`record`) and is rebuilt
    from the folder at the start, so that everything acknowledged is known.
    """

    def __init__(
        self, folder: Path, database: Path, *, read_stored: ReadStored, minimum_free_bytes: int = 0
    ) -> None:
        self.folder = folder
        self._read_stored = read_stored
        self._minimum_free_bytes = minimum_free_bytes
        self._incoming = folder / "incoming"
        self._studies = folder / "studies"
        for path in (self._incoming, self._studies):
            path.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        sync_path(folder)
        sync_path(folder.parent)
        self._connection = open_database(database)
        self._lock = threading.Lock()
        self._pending_lock = threading.Lock()
        self._pending: list[Arrival] = []
        self._passes: dict[str, tuple[int, tuple[Pass, ...]]] = {}
        self._number = 0
        self._turns = threading.Semaphore(len(os.sched_getaffinity(0)))
        self._ready_folders: dict[str, Path] = {}
        self._sync = FolderSync()
        self._free_bytes = 0
        self._free_read_at = float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Records what is pending and closes the index."""
        self.record()
        self._connection.close()

    def rebuild(self) -> int:
        """Brings the index up to the folder after a stop of any kind and returns how many objects were added.

        Half-received files go. A file that is not in the index is read and hashed: it is added when whole, and set
        aside in ``damaged/`` with a warning when it is not (it was never acknowledged then).
        """
        for leftover in self._incoming.iterdir():
            leftover.unlink()
        with self._lock:
            known = {row["path"] for row in self._connection.execute("SELECT path FROM instance")}
        added = 0
        for path in self._kept_files():
            relative = PurePosixPath(path.relative_to(self.folder).as_posix())
            if str(relative) not in known and self._adopt(path, relative):
                added += 1
        self.record()
        if added:
            log.info("objects found in the inbox that the index did not know", objects=added)
        return added

    def begin(self, header: bytes) -> Spool:
        """Returns a new spool that starts with ``header`` (preamble and file meta information).

        Raises:
            InboxFull: the disk's free space is below the watermark.
        """
        self._check_space()
        with self._pending_lock:
            self._number += 1
            number = self._number
        return Spool(self._incoming / f"{os.getpid()}-{number}.part", header, self._turns)

    def keep(
        self, spool: Spool, identity: Identity, transfer_syntax_uid: str, sender: Sender, now: datetime
    ) -> Kept:
        """Makes a finished spool durable under its final name; when this returns, success may be answered.

        The same object with the same content is recognised by its name and not stored again. The same SOP Instance
        UID with other content gets a name of its own and is flagged in the index.
        """
        spool.flush()
        content = spool.content_sha256
        folder = self._prepare(identity.study_instance_uid)
        path = folder / f"{_shorten(identity.sop_instance_uid)}-{content[:32]}.dcm"
        arrival = Arrival(
            identity=identity,
            transfer_syntax_uid=transfer_syntax_uid,
            content_sha256=content,
            path=PurePosixPath(*path.parts[-4:]),
            size_bytes=spool.header_bytes + spool.size_bytes,
            received_at=now,
            calling_ae_title=sender.calling_ae_title,
            address=sender.address,
        )
        if path.exists():
            spool.discard()
            sync_path(path)
            self._sync.sync(folder)
            return Kept(arrival=arrival, duplicate=True)
        os.rename(spool.path, path)
        os.fsync(spool.descriptor)
        self._sync.sync(folder)
        spool.close()
        with self._pending_lock:
            self._pending.append(arrival)
        return Kept(arrival=arrival, duplicate=False)

    def record(self) -> int:
        """Writes what arrived since the last call into the index and returns how many objects that were."""
        with self._lock:
            with self._pending_lock:
                pending, self._pending = self._pending, []
            if not pending:
                return 0
            try:
                with write_transaction(self._connection) as connection:
                    for arrival in pending:
                        insert_arrival(connection, arrival)
            except BaseException:
                with self._pending_lock:
                    self._pending = pending + self._pending
                raise
        _tell_what_opens_no_job(pending)
        return len(pending)

    def open_studies(self, quiet_since: datetime | None = None) -> tuple[OpenStudy, ...]:
        """Returns the studies that hold CT images which no job has taken up.

        Args:
            quiet_since: only studies whose newest image is older than this; None = all.
        """
        with self._lock:
            rows = self._connection.execute(
                "SELECT study_instance_uid, images, last_received_at FROM study WHERE images <> taken_up "
                "AND last_received_at <= ?",
                ("~" if quiet_since is None else encode_time(quiet_since),),
            ).fetchall()
            counted = {row["study_instance_uid"]: self._count_passes(row) for row in rows}
            self._passes = {row[0]: (row["images"], counted[row[0]]) for row in rows}
        return tuple(
            OpenStudy(
                study_instance_uid=row["study_instance_uid"],
                images=row["images"],
                passes=counted[row["study_instance_uid"]],
                last_received_at=decode_time(row["last_received_at"]),
            )
            for row in rows
        )

    def bring_back(self, now: datetime, latest: datetime) -> int:
        """Brings open studies that came after ``latest`` back to ``now`` and returns how many: the clock was put back."""
        with self._lock, write_transaction(self._connection) as connection:
            return connection.execute(
                "UPDATE study SET last_received_at = ? WHERE images <> taken_up AND last_received_at > ?",
                (encode_time(now), encode_time(latest)),
            ).rowcount

    def arrivals(self, study_instance_uid: str) -> tuple[Arrival, ...]:
        """Returns every object kept for a study, in the order of arrival."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT * FROM instance WHERE study_instance_uid = ? ORDER BY received_at, path",
                (study_instance_uid,),
            ).fetchall()
        return tuple(decode_arrival(row) for row in rows)

    def count_instances(self) -> int:
        """Returns how many objects the index knows."""
        with self._lock:
            (count,) = self._connection.execute("SELECT count(*) FROM instance").fetchone()
        return int(count)

    def free_bytes(self) -> int:
        """Returns the free space of the disk the inbox lies on."""
        return shutil.disk_usage(self.folder).free

    def study_folder(self, study_instance_uid: str) -> Path:
        """Returns the folder that holds the objects of one study and nothing else; its name is a hash."""
        return locate_study(self.folder, study_instance_uid)

    def remove_study(self, study_instance_uid: str) -> int:
        """Deletes a study's objects and what the index knows of it; returns how many objects went."""
        with self._lock, write_transaction(self._connection) as connection:
            cursor = connection.execute(
                "DELETE FROM instance WHERE study_instance_uid = ?", (study_instance_uid,)
            )
            connection.execute("DELETE FROM study WHERE study_instance_uid = ?", (study_instance_uid,))
            folder = self.study_folder(study_instance_uid)
            self._ready_folders.pop(study_instance_uid, None)
            if folder.exists():
                shutil.rmtree(folder)
        return cursor.rowcount

    def _count_passes(self, row: sqlite3.Row) -> tuple[Pass, ...]:
        """The passes of a study, counted again only when it grew: studies are judged several times a second."""
        images, passes = self._passes.get(row["study_instance_uid"], (-1, ()))
        return passes if images == row["images"] else read_passes(self._connection, row["study_instance_uid"])

    def _check_space(self) -> None:
        moment = time.monotonic()
        if moment - self._free_read_at > _FREE_SPACE_SECONDS:
            self._free_bytes = self.free_bytes()
            self._free_read_at = moment
        if self._free_bytes < self._minimum_free_bytes:
            raise InboxFull(
                f"the inbox's disk has {self._free_bytes} bytes free, the watermark is {self._minimum_free_bytes}"
            )

    def _prepare(self, study_instance_uid: str) -> Path:
        """Returns the folder of a study, which is on disk."""
        folder = self._ready_folders.get(study_instance_uid)
        if folder is None:
            folder = self.study_folder(study_instance_uid)
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            self._sync.sync(folder.parent)
            self._sync.sync(self._studies)
            if len(self._ready_folders) > 10_000:
                self._ready_folders.clear()
            self._ready_folders[study_instance_uid] = folder
        return folder

    def _kept_files(self) -> Iterator[Path]:
        for shard in sorted(self._studies.iterdir()):
            for study in sorted(shard.iterdir()):
                for path in sorted(study.iterdir()):
                    if _KEPT_NAME.fullmatch(path.name):
                        yield path

    def _adopt(self, path: Path, relative: PurePosixPath) -> bool:
        try:
            stored = self._read_stored(path)
            if stored.content_sha256[:32] != path.stem.partition("-")[2]:
                raise InstanceRefused(f"content hash {stored.content_sha256} is not the one in the name")
        except InstanceRefused as error:
            damaged = self.folder / "damaged"
            damaged.mkdir(mode=FOLDER_MODE, exist_ok=True)
            os.rename(path, damaged / path.name)
            log.warning(
                "a file that was never acknowledged is damaged and was set aside",
                file=path.name,
                error=str(error),
            )
            return False
        sync_path(path)
        sync_path(path.parent)
        sync_path(path.parent.parent)
        status = path.stat()
        arrival = Arrival(
            identity=stored.identity,
            transfer_syntax_uid=stored.transfer_syntax_uid,
            content_sha256=stored.content_sha256,
            path=relative,
            size_bytes=status.st_size,
            received_at=decode_time(encode_time(datetime.fromtimestamp(status.st_mtime).astimezone())),
        )
        with self._pending_lock:
            self._pending.append(arrival)
        return True


def _shorten(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:32]


def _tell_what_opens_no_job(arrivals: Sequence[Arrival]) -> None:
    """One line a study for objects that are kept and will not be assessed."""
    others = Counter(
        (arrival.identity.study_instance_uid, arrival.identity.modality, arrival.identity.ours)
        for arrival in arrivals
        if arrival.identity.ours or arrival.identity.sop_class_uid not in CT_IMAGE_STORAGE
    )
    for (study, modality, ours), count in others.items():
        why = "our own results came back" if ours else "no CT images"
        log.info("objects kept that open no job", study=study, modality=modality, objects=count, why=why)
