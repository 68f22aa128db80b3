"""Memory for the batches: large, on any device, not yet written to."""

from collections.abc import Sequence

import numpy as np
import torch

_NUMPY = {torch.float16: np.float16, torch.float32: np.float32}


def allocate(
    shape: Sequence[int], kind: torch.dtype, device: torch.device, *, pinned: bool = False
) -> torch.Tensor:
    """Returns uninitialised memory.

    On a CPU numpy gives it: numpy asks the system for large pages, torch does not, and for a batch of gigabytes the
    first touch of small pages costs several times as much as the work on it (measured: 10 against 2.7 ms a case).

    Args:
        shape: of the array.
        kind: float16 or float32.
        device: where it shall lie.
        pinned: page-locked memory of the CPU, from which a GPU copies by itself.
    """
    if device.type != "cpu" or pinned:
        return torch.empty(tuple(shape), dtype=kind, device=device, pin_memory=pinned)
    return torch.from_numpy(np.empty(tuple(shape), dtype=_NUMPY[kind]))
