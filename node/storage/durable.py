"""Puts bytes and names on the disk for good: whole writes, fsync of files and folders, shared where it helps."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path


class FolderSync:
    """fsync of folders, shared: whoever asks while one is under way waits for the next, which serves all who came."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._next: dict[Path, _Round] = {}
        self._busy = tuple(threading.Lock() for _ in range(64))

    def sync(self, folder: Path) -> None:
        """Returns when every entry made in ``folder`` before this call is on disk."""
        with self._guard:
            waiting = self._next.get(folder)
            if leads := waiting is None:
                waiting = self._next[folder] = _Round()
        if not leads:
            waiting.done.wait()
        else:
            with self._busy[hash(folder) % len(self._busy)]:
                with self._guard:
                    del self._next[folder]
                try:
                    sync_path(folder)
                except OSError as error:
                    waiting.error = error
                finally:
                    waiting.done.set()
        if waiting.error is not None:
            raise OSError(waiting.error.errno, f"fsync of {folder} failed") from waiting.error


class _Round:
    """One shared fsync."""

    __slots__ = ("done", "error")

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: OSError | None = None


def write_whole(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Writes all of ``data``, in as many calls as it takes."""
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]


def write_pieces(descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
    """Writes all of ``pieces`` (at most IOV_MAX, 1,024), one after the other, in one call where the system can."""
    written = os.writev(descriptor, pieces)
    for piece in pieces:
        if written < len(piece):
            write_whole(descriptor, memoryview(piece)[written:])
        written = max(0, written - len(piece))


def sync_path(path: Path) -> None:
    """Returns when a file's content, or a folder's entries, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
