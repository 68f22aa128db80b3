"""Reads the next batches while the current one is trained on."""

import queue
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from train.data import IntArray
from train.memory import allocate

AHEAD = 2
"""Batches read ahead."""


def prefetch(
    inputs: npt.NDArray[np.float16], batches: Sequence[IntArray], ahead: int = AHEAD, *, pinned: bool = False
) -> Iterator[tuple[IntArray, torch.Tensor, float]]:
    """Yields (rows, float16 inputs of these rows, seconds waited for them) for every batch, in order.

    A thread reads: copying out of a memory map releases Python's lock. The memory is used again: a batch is valid until
    the next one is asked for.

    Args:
        inputs: (n, phases, side, side, side) float16, array or memory map.
        batches: rows of each batch.
        ahead: batches held in memory beside the current one.
        pinned: in page-locked memory, from which a GPU copies without the CPU.
    """
    longest = max((rows.size for rows in batches), default=0)
    free: queue.SimpleQueue[torch.Tensor] = queue.SimpleQueue()
    ready: queue.SimpleQueue[torch.Tensor | OSError] = queue.SimpleQueue()
    stopped = threading.Event()

    def read() -> None:
        for rows in batches:
            buffer = free.get()
            if stopped.is_set():
                return
            try:
                read_rows(inputs, rows, buffer.numpy())
            except OSError as error:
                ready.put(error)
                return
            ready.put(buffer)

    for _ in range(min(ahead + 1, len(batches))):
        shape = (longest, *inputs.shape[1:])
        free.put(allocate(shape, torch.float16, torch.device("cpu"), pinned=pinned))
    reader = threading.Thread(target=read, name="prefetch", daemon=True)
    reader.start()
    try:
        for rows in batches:
            started = time.perf_counter()
            item = ready.get()
            if isinstance(item, OSError):
                raise item
            yield rows, item[: rows.size], time.perf_counter() - started
            free.put(item)
    finally:
        stopped.set()
        free.put(torch.empty(0))  # wakes a reader that waits for room
        reader.join()


def read_rows(inputs: npt.NDArray[np.float16], rows: IntArray, out: npt.NDArray[np.float16]) -> None:
    """Copies some rows into the first places of ``out``, in their order, read in ascending order."""
    for place in np.argsort(rows, kind="stable"):
        out[place] = inputs[rows[place]]
