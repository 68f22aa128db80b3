"""The five texture matrices of a discretised region, counted with array operations; zones by pyradiomics' own C."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.radiomics.discretisation import Levels

FloatArray = npt.NDArray[np.float64]

DIRECTIONS = (
    (1, 1, 1),
    (1, 1, 0),
    (1, 1, -1),
    (1, 0, 1),
    (1, 0, 0),
    (1, 0, -1),
    (1, -1, 1),
    (1, -1, 0),
    (1, -1, -1),
    (0, 1, 1),
    (0, 1, 0),
    (0, 1, -1),
    (0, 0, 1),
)
"""The 13 directions (z, y, x) to half of the 26 neighbours, in pyradiomics' order (cmatrices.c, build_angles)."""

DENSE_FRACTION = 0.05
"""A grey level that fills more of the box than this is labelled line by line: then that is faster (measured, OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LineCounts:
    """What the lines through the region in the 13 directions hold.

    Attributes:
        pairs: neighbouring grey levels counted both ways, shape (G, G, A), A directions.
        runs: runs by grey level and length, shape (G, L, A), for lengths 1 to L.
    """

    pairs: FloatArray
    runs: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Neighbourhoods:
    """What the 26 neighbours inside the region say of each voxel.

    Attributes:
        dependents: voxels by grey level and number of neighbours of the same level (0 to 26), shape (G, 27).
        differences: sum over the voxels of each level of |level - mean level of the neighbours|, shape (G,).
    """

    dependents: FloatArray
    differences: FloatArray


def count_lines(levels: Levels) -> LineCounts:
    """Returns neighbouring pairs (GLCM) and runs (GLRLM) along the 13 directions.

    In the padded, flattened array a step along a direction is a constant offset. Laid out in columns of that offset,
    every line of the region is contiguous and a zero ends it: both matrices are read from the borders between runs.

    Source: pyradiomics 3.0.1, cmatrices.c calculate_glcm and calculate_glrlm (distance 1).
    """
    number = levels.values.size
    longest = max(levels.ranks.shape) - 2
    pairs = np.zeros((number, number, len(DIRECTIONS)))
    runs = np.zeros((number, longest, len(DIRECTIONS)))
    lengths_of_level = np.arange(longest, dtype=np.float64)
    for index, direction in enumerate(DIRECTIONS):
        values, lengths = _split_runs(levels.ranks, direction)
        inside = values > 0
        code = (values[inside] - 1) * longest + (lengths[inside] - 1)
        counted = np.bincount(code, minlength=number * longest).reshape(number, longest).astype(np.float64)
        joined = values[:-1] * (number + 1) + values[1:]
        touching = np.bincount(joined, minlength=(number + 1) ** 2).reshape(number + 1, number + 1)[1:, 1:]
        pairs[:, :, index] = touching + touching.T
        # A run of n voxels holds n - 1 pairs of its own level, counted both ways.
        pairs[np.arange(number), np.arange(number), index] += 2.0 * (counted @ lengths_of_level)
        if touching.any() or counted[:, 1:].any() or _has_line_of_two(levels.ranks, direction):
            runs[:, :, index] = counted
    return LineCounts(pairs=pairs, runs=runs)


def count_neighbourhoods(levels: Levels) -> Neighbourhoods:
    """Returns the dependence counts (GLDM, alpha 0) and the summed differences (NGTDM) at distance 1.

    Source: pyradiomics 3.0.1, cmatrices.c calculate_gldm and calculate_ngtdm.
    """
    ranks = levels.ranks
    number = levels.values.size
    where = np.flatnonzero(ranks)
    flat = ranks.ravel()
    same = np.zeros(flat.size, dtype=np.uint8)
    for direction in DIRECTIONS:
        step = _offset(ranks.shape, direction)
        equal = (flat[:-step] == flat[step:]).view(np.uint8)
        same[:-step] += equal
        same[step:] += equal
    code = (levels.inside.astype(np.intp) - 1) * 27 + same[where]
    dependents = np.bincount(code, minlength=number * 27).reshape(number, 27).astype(np.float64)

    level_of_rank = np.concatenate([[0.0], levels.values])
    narrow = levels.values[-1] * 27 < 2**16
    grey = level_of_rank.astype(np.uint16 if narrow else np.int64)[ranks]
    own = level_of_rank[levels.inside]
    sums = _add_neighbours(grey).ravel()[where] - own
    neighbours = _add_neighbours((ranks != 0).view(np.uint8)).ravel()[where].astype(np.float64) - 1.0
    alone = neighbours == 0
    neighbours[alone] = 1.0
    apart = np.abs(own - sums / neighbours)
    apart[alone] = 0.0
    differences: FloatArray = np.asarray(
        np.bincount(levels.inside, weights=apart, minlength=number + 1)[1:], dtype=np.float64
    )
    return Neighbourhoods(dependents=dependents, differences=differences)


def count_zones(levels: Levels) -> tuple[FloatArray, FloatArray]:
    """Returns the zones (GLSZM): counts by grey level and zone size, shape (G, S), and the S sizes that occur.

    A level that fills much of the box is labelled by SciPy's line-wise union-find; the others grow voxel by voxel in
    pyradiomics' own C, whose cost rises with the voxels and not with the box.

    Source: pyradiomics 3.0.1, cmatrices.c calculate_glszm.
    """
    from radiomics import cMatrices

    box = levels.ranks[1:-1, 1:-1, 1:-1]
    number = levels.values.size
    found_levels: list[npt.NDArray[np.intp]] = []
    found_sizes: list[npt.NDArray[np.intp]] = []
    dense = levels.counts > DENSE_FRACTION * box.size
    for rank in np.flatnonzero(dense) + 1:
        sizes = _measure_components(box == rank)
        found_levels.append(np.full(sizes.size, rank - 1, dtype=np.intp))
        found_sizes.append(sizes)
    if not dense.all():
        sparse = np.concatenate([[False], ~dense])[box]
        grown: FloatArray = cMatrices.calculate_glszm(
            box.astype(np.int32), sparse, number, int(levels.counts[~dense].sum()), False, 0
        )[0]
        level, size = np.nonzero(grown)
        times = grown[level, size].astype(np.intp)
        found_levels.append(np.repeat(level, times))
        found_sizes.append(np.repeat(size + 1, times))
    occurring, column = np.unique(np.concatenate(found_sizes), return_inverse=True)
    code = np.concatenate(found_levels) * occurring.size + column
    zones = np.bincount(code, minlength=number * occurring.size).reshape(number, occurring.size)
    return zones.astype(np.float64), occurring.astype(np.float64)


def _measure_components(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Returns the sizes of the 26-connected components, voxels."""
    from scipy import ndimage

    labels, _ = ndimage.label(inside, structure=np.ones((3, 3, 3), dtype=np.bool_))
    sizes: npt.NDArray[np.intp] = np.bincount(labels.ravel())[1:]
    return sizes


def _split_runs(
    ranks: npt.NDArray[Any], direction: tuple[int, int, int]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Returns level and length of the runs along a direction, line after line; level 0 is outside the region."""
    step = _offset(ranks.shape, direction)
    flat = ranks.ravel()
    if step > 1:
        columns = -(-flat.size // step)
        padded = np.zeros(columns * step, dtype=flat.dtype)
        padded[: flat.size] = flat
        flat = np.ascontiguousarray(padded.reshape(columns, step).T).ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    # The array begins and ends outside: the run before the first border and the one after the last are both level 0.
    return flat[starts[:-1]].astype(np.intp), np.diff(starts)


def _has_line_of_two(ranks: npt.NDArray[Any], direction: tuple[int, int, int]) -> bool:
    """Returns whether two voxels of the region lie on one line, touching or not.

    Only without such a line does pyradiomics drop a direction's runs (cmatrices.c, ``multiElement``).
    """
    positions = np.argwhere(ranks)
    moving = next(axis for axis in range(3) if direction[axis] != 0)
    along = positions[:, moving] * direction[moving]
    lines = positions - along[:, None] * np.asarray(direction)
    return len(np.unique(lines, axis=0)) < len(positions)


def _offset(shape: tuple[int, ...], direction: tuple[int, int, int]) -> int:
    return (direction[0] * shape[1] + direction[1]) * shape[2] + direction[2]


def _add_neighbours(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns the sums over 3 x 3 x 3 voxels; the outermost voxels, which are padding, keep partial sums."""
    total = array.copy()
    for axis in range(3):
        lower = tuple(slice(None, -1) if other == axis else slice(None) for other in range(3))
        upper = tuple(slice(1, None) if other == axis else slice(None) for other in range(3))
        spread = total.copy()
        spread[lower] += total[upper]
        spread[upper] += total[lower]
        total = spread
    return total
