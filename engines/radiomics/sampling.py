"""Grey values at the points of the fixed grid, interpolated once from the native pixels of a phase."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engines.errors import FeatureRefused
from engines.radiomics.deformation import LinearStep, Step, move_points
from engines.volume import Grid, Volume

if TYPE_CHECKING:
    from scipy.sparse import csr_array

FloatArray = npt.NDArray[np.float64]

SPLINE_MARGIN = 28
"""Native voxels kept around the points when the spline's coefficients are computed.

The coefficients of a cubic B-spline depend on voxels at distance d by (2 - sqrt(3))^d (Unser, IEEE Signal Process Mag
1999;16(6):22): 1e-16 at 28, so that the cropped series gives the values of the whole one (OURS, tested).
"""

EDGE_TOLERANCE = 1e-3
"""Native voxels by which a point may lie beyond the half voxel around the outermost centres (pyradiomics 3.0.1)."""

HALF_TOLERANCE = 1e-6
"""Hounsfield units by which a value may miss a half and still be rounded up: on a ramp whole planes are halves (OURS)."""

STRAIGHT = 1e-9
"""Native voxels by which axes of grid and volume may part over the whole grid and still count as the same."""

LATTICE_FRACTION = 0.1
"""Share of the grid's points asked for from which all of them along shared axes are cheaper (measured, OURS)."""


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
    axes = _find_axes(volume.grid, steps, grid) if order == 3 else None
    if axes is not None and where.size > LATTICE_FRACTION * np.prod(grid.shape):
        return _sample_lattice(volume, axes, where)
    inverse = np.linalg.inv(volume.grid.affine())
    position = inverse[:3, :3] @ move_points(steps, grid, where) + inverse[:3, 3:]
    last = np.asarray(volume.grid.shape, dtype=np.float64)[:, None] - 1.0
    beyond: npt.NDArray[np.bool_] = np.any(_lie_beyond(position, last), axis=0)
    position = np.clip(position, -0.5, last + 0.5)
    source, lowest = _cut_source(volume, position.min(axis=1), position.max(axis=1), order)

    from scipy import ndimage

    values = ndimage.map_coordinates(
        source, position - lowest[:, None], order=order, prefilter=False, mode="mirror"
    )
    return Samples(values=_settle(values, volume), beyond=beyond)


def _find_axes(native: Grid, steps: tuple[Step, ...], grid: Grid) -> list[FloatArray] | None:
    """Returns the native index of every grid position along z, y and x; None where the axes are not the same."""
    matrix = grid.affine()
    for step in steps:
        if not isinstance(step, LinearStep):
            return None
        part = np.eye(4)
        part[:3, :3], part[:3, 3] = step.matrix, step.offset_mm
        matrix = part @ matrix
    matrix = np.linalg.inv(native.affine()) @ matrix
    slant = matrix[:3, :3] - np.diag(np.diagonal(matrix)[:3])
    if np.abs(slant * np.asarray(grid.shape)).max() > STRAIGHT:
        return None
    return [
        np.arange(size, dtype=np.float64) * matrix[axis, axis] + matrix[axis, 3]
        for axis, size in enumerate(grid.shape)
    ]


def _sample_lattice(volume: Volume, axes: list[FloatArray], where: npt.NDArray[np.intp]) -> Samples:
    """Returns the values where grid and volume share their axes: the spline is then one sparse product an axis."""
    last = np.asarray(volume.grid.shape, dtype=np.float64) - 1.0
    beyond = np.zeros(tuple(axis.size for axis in axes), dtype=np.bool_)
    for number, axis in enumerate(axes):
        shape = [1, 1, 1]
        shape[number] = axis.size
        beyond |= _lie_beyond(axis, last[number]).reshape(shape)
    clipped = [np.clip(axis, -0.5, end + 0.5) for axis, end in zip(axes, last, strict=True)]
    values, lowest = _cut_source(
        volume, np.array([axis.min() for axis in clipped]), np.array([axis.max() for axis in clipped]), 3
    )
    for axis, first in zip(clipped, lowest, strict=True):
        # Each product consumes the first axis and puts it last: after three, z, y, x stand in order again.
        weights = _weigh_spline(axis - first, values.shape[0])
        rest = values.shape[1:]
        values = np.ascontiguousarray((weights @ values.reshape(values.shape[0], -1)).T)
        values = values.reshape(*rest, axis.size)
    return Samples(values=_settle(values.ravel()[where], volume), beyond=beyond.ravel()[where])


def _weigh_spline(position: FloatArray, number: int) -> "csr_array":
    """Returns the cubic B-spline weights of ``number`` mirrored coefficients at the positions, (positions, number)."""
    from scipy.sparse import csr_array

    base = np.floor(position).astype(np.intp)
    t = position - base
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    index = np.abs(base[:, None] + np.arange(-1, 3))
    index = np.where(index > number - 1, 2 * (number - 1) - index, index)
    rows = np.repeat(np.arange(position.size), 4)
    return csr_array(((weights / 6.0).ravel(), (rows, index.ravel())), shape=(position.size, number))


def _cut_source(
    volume: Volume, low: FloatArray, high: FloatArray, order: int
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """Returns what is interpolated between two native indices (spline coefficients), and the index of its first voxel.

    Raises:
        FeatureRefused: a voxel that takes part is not finite.
    """
    from scipy import ndimage

    margin = SPLINE_MARGIN if order > 1 else 1
    lowest = np.maximum(np.floor(low).astype(np.intp) - margin, 0)
    highest = np.minimum(np.ceil(high).astype(np.intp) + margin + 1, volume.grid.shape)
    cropped = volume.array[tuple(slice(a, b) for a, b in zip(lowest, highest, strict=True))]
    if cropped.dtype.kind == "f" and not np.isfinite(cropped).all():
        broken = cropped.size - int(np.count_nonzero(np.isfinite(cropped)))
        raise FeatureRefused(f"{broken} voxels of the image in and around the region are not finite")
    source = cropped.astype(np.float64)
    if order > 1:
        source = ndimage.spline_filter(source, order=order, output=np.float64, mode="mirror")
    return source, lowest


def _lie_beyond(position: FloatArray, last: FloatArray | float) -> npt.NDArray[np.bool_]:
    beyond: npt.NDArray[np.bool_] = (position < -0.5 - EDGE_TOLERANCE) | (
        position > last + 0.5 + EDGE_TOLERANCE
    )
    return beyond


def _settle(values: FloatArray, volume: Volume) -> npt.NDArray[Any]:
    """Returns whole numbers where the volume holds such; halves go up, however the last digits were rounded."""
    if volume.array.dtype.kind not in "iub":
        return values
    return np.floor(values + (0.5 + HALF_TOLERANCE)).astype(np.int32)
