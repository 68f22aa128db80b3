"""The one grid of a study's features: fixed in the patient, the same for all phases, regions and crops."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engines.errors import FeatureRefused
from engines.volume import Grid, Volume

TIE_TOLERANCE = 1e-6
"""Voxels by which a point may miss the middle between two voxels and still count as the middle (OURS)."""

ALIGNED = 1e-12
"""A part of an axis along another axis below this is rounding."""


def place_grid(
    masks: Sequence[Volume],
    spacing_mm: tuple[float, float, float],
    *,
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Grid:
    """Returns the part of the fixed grid that holds every marked voxel of the masks.

    The grid's points are the multiples of the spacing along the axes of the patient (LPS): where a crop begins or
    which phase is read moves none of them, and so no feature.

    Args:
        masks: integer labels or bool, any grids; not zero is marked.
        spacing_mm: (z, y, x), mm, > 0.
        shift: moves all points, (z, y, x) in voxels; only to learn what features owe to the place of the grid.

    Raises:
        FeatureRefused: nothing is marked.
    """
    lowest = np.full(3, np.inf)
    highest = np.full(3, -np.inf)
    for mask in masks:
        corners = _find_marked_corners(mask)
        if corners.size == 0:
            continue
        lowest = np.minimum(lowest, corners.min(axis=0))
        highest = np.maximum(highest, corners.max(axis=0))
    if not np.isfinite(lowest).all():
        raise FeatureRefused("the masks are empty; nothing is segmented")
    step = np.asarray(spacing_mm[::-1])
    moved = np.asarray(shift[::-1])
    first = np.floor(lowest / step - moved)
    number = (np.ceil(highest / step - moved) - first).astype(int) + 1
    origin = (first + moved) * step
    return Grid(
        shape=(int(number[2]), int(number[1]), int(number[0])),
        spacing_mm=spacing_mm,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
    )


def sample_mask(mask: Volume, grid: Grid) -> Volume:
    """Returns the mask on the grid, nearest neighbour, bool where it was bool; nothing is marked beyond it.

    A point halfway between two voxels takes the one of the higher index, as ITK does, but within a tolerance: the
    rounding of an origin, which a crop changes, must not decide.

    Args:
        mask: integer labels or bool.
        grid: any grid.

    Source: ITK, NearestNeighborInterpolateImageFunction (half integers are rounded up).
    """
    to_index = np.linalg.inv(mask.grid.affine()) @ grid.affine()
    picked = np.zeros(grid.shape, dtype=mask.array.dtype)
    matrix = np.where(np.abs(to_index[:3, :3]) < ALIGNED, 0.0, to_index[:3, :3])
    if np.count_nonzero(matrix) == 3 and np.count_nonzero(np.diagonal(matrix)) == 3:
        places = [
            _round_up(np.arange(grid.shape[axis]) * matrix[axis, axis] + to_index[axis, 3])
            for axis in range(3)
        ]
        held = [(place >= 0) & (place < size) for place, size in zip(places, mask.array.shape, strict=True)]
        picked[np.ix_(*held)] = mask.array[
            np.ix_(*(place[keep] for place, keep in zip(places, held, strict=True)))
        ]
        return Volume(array=picked, grid=grid)
    points = np.indices(grid.shape).reshape(3, -1)
    nearest = _round_up(to_index[:3, :3] @ points + to_index[:3, 3:])
    inside = ((nearest >= 0) & (nearest < np.asarray(mask.array.shape)[:, None])).all(axis=0)
    picked.reshape(-1)[inside] = mask.array[tuple(nearest[:, inside])]
    return Volume(array=picked, grid=grid)


def _round_up(position: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    return np.floor(position + 0.5 + TIE_TOLERANCE).astype(np.intp)


def _find_marked_corners(mask: Volume) -> npt.NDArray[np.float64]:
    """Returns the outer corners of the box around the marked voxels, (x, y, z), mm, shape (8, 3), or none, (0, 3)."""
    marked = mask.array != 0
    bounds = []
    for axis in range(3):
        hits = np.flatnonzero(marked.any(axis=tuple(other for other in range(3) if other != axis)))
        if hits.size == 0:
            return np.empty((0, 3))
        bounds.append((hits[0] - 0.5, hits[-1] + 0.5))
    picks = np.array(np.meshgrid(*bounds, indexing="ij")).reshape(3, -1)
    affine = mask.grid.affine()
    return np.asarray((affine[:3, :3] @ picks + affine[:3, 3:]).T)
