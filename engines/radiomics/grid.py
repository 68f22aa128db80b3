"""The one grid of a study's features: fixed in the patient, the same for all phases, regions and crops."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from engines.errors import FeatureRefused
from engines.volume import Grid, Volume


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
    """Returns the mask on the grid, nearest neighbour, bool where it was bool; nothing is marked beyond it."""
    image = sitk.Resample(mask.to_image(), grid.image(), sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    labels = sitk.GetArrayFromImage(image)
    return Volume(array=labels != 0 if mask.array.dtype == np.bool_ else labels, grid=grid)


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
