"""Reads the next batches while the current one is trained on."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

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
    count = min(ahead + 1, len(batches))
    shape = (max((rows.size for rows in batches), default=0), *inputs.shape[1:])
    buffers = [allocate(shape, torch.float16, torch.device("cpu"), pinned=pinned) for _ in range(count)]

    def read(number: int) -> torch.Tensor:
        rows, buffer = batches[number], buffers[number % count]
        read_rows(inputs, rows, buffer.numpy())
        return buffer[: rows.size]

    reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    try:
        pending = deque(reader.submit(read, number) for number in range(count))
        for number, rows in enumerate(batches):
            started = time.perf_counter()
            batch = pending.popleft().result()
            yield rows, batch, time.perf_counter() - started
            if number + count < len(batches):
                pending.append(reader.submit(read, number + count))
    finally:
        reader.shutdown(cancel_futures=True)


def read_rows(inputs: npt.NDArray[np.float16], rows: IntArray, out: npt.NDArray[np.float16]) -> None:
    """Copies some rows into the first places of ``out``, in their order, read in ascending order."""
    for place in np.argsort(rows, kind="stable"):
        out[place] = inputs[rows[place]]
