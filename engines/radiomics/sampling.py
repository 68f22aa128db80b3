"""Grey values at the points of the fixed grid, interpolated once from the native pixels of a phase."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.errors import FeatureRefused
from engines.radiomics.deformation import Step, move_points
from engines.volume import Grid, Volume

SPLINE_MARGIN = 28
"""Native voxels kept around the points when the spline's coefficients are computed.

The coefficients of a cubic B-spline depend on voxels at distance d by (2 - sqrt(3))^d (Unser, IEEE Signal Process Mag
1999;16(6):22): 1e-16 at 28, so that the cropped series gives the values of the whole one (OURS, tested).
"""

EDGE_TOLERANCE = 1e-3
"""Native voxels by which a point may lie beyond the half voxel around the outermost centres (pyradiomics 3.0.1)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Interpolated values.

    Attributes:
        values: shape (points,). Integer volumes (CT) give integers, others float64.
        beyond: bool, shape (points,), which points lie outside the volume; their values are those of its edge.
    """

    values: npt.NDArray[Any]
    beyond: npt.NDArray[np.bool_]


def sample_points(
    volume: Volume, steps: tuple[Step, ...], grid: Grid, where: npt.NDArray[np.intp], *, order: int = 3
) -> Samples:
    """Returns the values of a volume at points of a grid, with one interpolation from native pixels.

    Integers are rounded to the nearest one, as IBSI asks for Hounsfield units.

    Args:
        volume: native grid.
        steps: the transform that takes points of the grid to points of the volume.
        grid: the fixed grid.
        where: flat indices of the points in the grid's array.
        order: 0 nearest, 1 linear, 3 cubic B-spline.

    Raises:
        FeatureRefused: a voxel that would take part is not finite.

    Source: IBSI 1 reference manual 2.4 (rounding of CT after interpolation).
    """
    from scipy import ndimage

    inverse = np.linalg.inv(volume.grid.affine())
    position = inverse[:3, :3] @ move_points(steps, grid, where) + inverse[:3, 3:]
    last = np.asarray(volume.grid.shape, dtype=np.float64)[:, None] - 1.0
    beyond: npt.NDArray[np.bool_] = np.any(
        (position < -0.5 - EDGE_TOLERANCE) | (position > last + 0.5 + EDGE_TOLERANCE), axis=0
    )
    position = np.clip(position, -0.5, last + 0.5)

    margin = SPLINE_MARGIN if order > 1 else 1
    lowest = np.maximum(np.floor(position.min(axis=1)).astype(int) - margin, 0)
    highest = np.minimum(np.ceil(position.max(axis=1)).astype(int) + margin + 1, volume.grid.shape)
    cropped = volume.array[tuple(slice(a, b) for a, b in zip(lowest, highest, strict=True))]
    if cropped.dtype.kind == "f" and not np.isfinite(cropped).all():
        broken = cropped.size - int(np.count_nonzero(np.isfinite(cropped)))
        raise FeatureRefused(f"{broken} voxels of the image in and around the region are not finite")
    source = cropped.astype(np.float64)
    if order > 1:
        source = ndimage.spline_filter(source, order=order, output=np.float64, mode="mirror")
    values = ndimage.map_coordinates(
        source, position - lowest[:, None], order=order, prefilter=False, mode="mirror"
    )
    if volume.array.dtype.kind in "iub":
        return Samples(values=np.rint(values).astype(np.int32), beyond=beyond)
    return Samples(values=np.asarray(values, dtype=np.float64), beyond=beyond)
