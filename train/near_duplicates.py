"""The rule by which two volumes are one scan, whatever the names of their cases.

It finds copies on the same voxels, with noise added or rounded. A copy that was moved by a voxel or cut out by another
liver box is another volume here: its block means lie as far from the original's (0.015 for one voxel at side 64, phantoms)
as those of two patients may lie from each other (0.010 and more), so that a wider rule would refuse cohorts without a fault.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

SUMMARY_SIDE = 8
SAME_SUMMARY = 0.005
"""Two volumes whose 8^3 block means differ by less, on average, are compared voxel by voxel (OURS)."""
SAME_VOLUME = 0.01
"""Volumes that differ by less on average are one scan: 3.4 HU, while the noise of two scans differs by 10 and more (OURS)."""

Inputs = npt.NDArray[np.float16]
Summaries = npt.NDArray[np.float32]


def summarise_inputs(inputs: Inputs) -> Summaries:
    """Returns the means of the 8^3 blocks of each phase of every input, (n, phases, 512); each input is read once.

    A voxel that is not finite leaves a mean that is not.

    Args:
        inputs: (n, phases, side, side, side), array or memory map; the side a multiple of 8.
    """
    count, phases, side = inputs.shape[:3]
    block = side // SUMMARY_SIDE
    cut = (phases, SUMMARY_SIDE, block, SUMMARY_SIDE, block, SUMMARY_SIDE, block)
    summaries = np.empty((count, phases, SUMMARY_SIDE**3), dtype=np.float32)
    with np.errstate(invalid="ignore"):
        for row in range(count):
            volume = np.asarray(inputs[row], dtype=np.float32).reshape(cut)
            summaries[row] = volume.mean(axis=(2, 4, 6), dtype=np.float32).reshape(phases, -1)
    return summaries


def find_close_summaries(one: Summaries, other: Summaries) -> Iterator[tuple[int, int]]:
    """Gives the pairs of rows, one of each array, that are worth comparing voxel by voxel.

    Args:
        one: (n, phases, means), as ``summarise_inputs`` gives them.
        other: (m, phases, means).
    """
    flat = one.reshape(len(one), -1), other.reshape(len(other), -1)
    distance = cdist(*flat, "cityblock") / flat[0].shape[1]
    left, right = np.nonzero(distance < SAME_SUMMARY)
    yield from zip(left.tolist(), right.tolist(), strict=True)


def is_same_scan(one: Inputs, other: Inputs) -> bool:
    """Returns whether two volumes nearly agree voxel by voxel.

    Args:
        one: (phases, side, side, side).
        other: of the same shape.
    """
    return bool(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean() < SAME_VOLUME)
