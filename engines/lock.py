"""One process at a time: a lock on a file that goes with its holder, however the holder ends."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.errors import Busy

_MODE = 0o600


@contextmanager
def hold_lock(path: Path, work: str) -> Iterator[None]:
    """Holds the lock while the block runs; the kernel gives it back when the process ends, killed or not.

    Args:
        path: of the lock's file, which stays; made when missing.
        work: what is done under it, for the message.

    Raises:
        Busy: another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, _MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            raise Busy(f"{work} is under way already (process {holder or 'unknown'}, lock {path})") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
