"""Grey values to grey levels, once a region: pyradiomics' bin edges, and the levels that occur as a dense array."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.errors import FeatureRefused
from engines.radiomics.region import Region

FloatVector = npt.NDArray[np.float64]

MAXIMUM_LEVELS = 1000
"""Most grey levels a region may hold: the co-occurrence of more would take gigabytes and minutes (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """The discretised region.

    Attributes:
        ranks: uint8 or uint16, the region's box padded by one voxel on every side; 0 outside the region, else
            1 to G, the rank of the voxel's grey level among those that occur.
        inside: ranks of the region's voxels in (z, y, x) order, shape (voxels,).
        values: the G grey levels that occur, ascending; pyradiomics' numbers, from 1.
        counts: voxels of each of them, shape (G,).
        highest: the highest grey level, pyradiomics' Ng.
    """

    ranks: npt.NDArray[Any]
    inside: npt.NDArray[Any]
    values: FloatVector
    counts: FloatVector
    highest: int


def discretise(
    voxels: npt.NDArray[Any], region: Region, *, bin_width: float = 25.0, bin_count: int | None = None
) -> Levels:
    """Returns the grey levels of a region's voxels.

    Args:
        voxels: values inside the region in (z, y, x) order, integer or float, finite.
        region: where they lie.
        bin_width: width of a bin, in units of the image (HU); edges are its multiples.
        bin_count: number of bins between minimum and maximum instead; None uses the width.

    Raises:
        FeatureRefused: the region holds more than ``MAXIMUM_LEVELS`` grey levels.

    Source: pyradiomics 3.0.1, imageoperations.getBinEdges and binImage.
    """
    edges = find_bin_edges(voxels, bin_width=bin_width, bin_count=bin_count)
    if voxels.dtype.kind in "iu" and int(voxels.max()) - int(voxels.min()) < 2**16:
        lowest = int(voxels.min())
        offsets = (
            voxels.astype(np.int64) - lowest
            if voxels.dtype.itemsize > 2
            else voxels.astype(np.int32) - lowest
        )
        table = np.digitize(np.arange(lowest, int(voxels.max()) + 1), edges)
        present = np.bincount(offsets, minlength=table.size) > 0
        levels = np.unique(table[present])
        rank_of = np.searchsorted(levels, table) + 1
        _check_level_number(levels.size)
        inside = np.take(rank_of.astype(_rank_type(levels.size)), offsets)
    else:
        numbers = np.digitize(voxels, edges)
        present_numbers = np.bincount(numbers) > 0 if int(numbers.max()) < 2**24 else None
        levels = np.unique(numbers) if present_numbers is None else np.flatnonzero(present_numbers)
        _check_level_number(levels.size)
        inside = (np.searchsorted(levels, numbers) + 1).astype(_rank_type(levels.size))
    ranks = np.zeros(tuple(size + 2 for size in region.mask.shape), dtype=inside.dtype)
    ranks[1:-1, 1:-1, 1:-1][region.mask] = inside
    counts = np.bincount(inside, minlength=levels.size + 1)[1:].astype(np.float64)
    return Levels(
        ranks=ranks,
        inside=inside,
        values=levels.astype(np.float64),
        counts=counts,
        highest=int(levels[-1]),
    )


def find_bin_edges(
    voxels: npt.NDArray[Any], *, bin_width: float, bin_count: int | None = None
) -> npt.NDArray[Any]:
    """Returns the edges of half-open bins that hold every voxel; with a width they are multiples of it.

    Source: pyradiomics 3.0.1, imageoperations.getBinEdges.
    """
    if bin_count is not None:
        edges = np.histogram(voxels, bin_count)[1]
        edges[-1] += 1
        return edges
    # Integers become Python's own, which do not overflow at the end of the pixel type as NumPy's would.
    lowest, highest = voxels.min(), voxels.max()
    if voxels.dtype.kind in "iu":
        lowest, highest = int(lowest), int(highest)
    edges = np.arange(lowest - (lowest % bin_width), highest + 2 * bin_width, bin_width)
    if edges.size == 1:
        return np.array([edges[0] - 0.5, edges[0] + 0.5])
    return edges


def _check_level_number(number: int) -> None:
    if number > MAXIMUM_LEVELS:
        raise FeatureRefused(
            f"the region holds {number} grey levels, at most {MAXIMUM_LEVELS} expected; choose wider bins"
        )


def _rank_type(number: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if number < 2**8 else np.uint16
