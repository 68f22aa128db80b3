"""Reads the next batches while the current one is trained on."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from train.data import IntArray

AHEAD = 2
"""Batches read ahead."""


def prefetch(
    inputs: npt.NDArray[np.float16], batches: Sequence[IntArray], ahead: int = AHEAD
) -> Iterator[tuple[IntArray, torch.Tensor, float]]:
    """Yields (rows, float16 inputs of these rows, seconds waited for them) for every batch, in order.

    A thread reads: copying out of a memory map releases Python's lock.

    Args:
        inputs: (n, phases, side, side, side) float16, array or memory map.
        batches: rows of each batch.
        ahead: batches held in memory beside the current one.
    """
    ready: queue.Queue[torch.Tensor | OSError] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def read() -> None:
        for rows in batches:
            try:
                item: torch.Tensor | OSError = torch.from_numpy(read_rows(inputs, rows))
            except OSError as error:
                item = error
            while not stopped.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stopped.is_set() or isinstance(item, OSError):
                return

    reader = threading.Thread(target=read, name="prefetch", daemon=True)
    reader.start()
    try:
        for rows in batches:
            started = time.perf_counter()
            item = ready.get()
            if isinstance(item, OSError):
                raise item
            yield rows, item, time.perf_counter() - started
    finally:
        stopped.set()
        reader.join()


def read_rows(inputs: npt.NDArray[np.float16], rows: IntArray) -> npt.NDArray[np.float16]:
    """Returns a copy of some rows, in their order, read in ascending order."""
    out = np.empty((rows.size, *inputs.shape[1:]), dtype=np.float16)
    for place in np.argsort(rows, kind="stable"):
        out[place] = inputs[rows[place]]
    return out
