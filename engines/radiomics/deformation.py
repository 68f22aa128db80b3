"""A SimpleITK transform taken apart into arrays, and evaluated at the points of a grid without leaving NumPy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from engines.volume import Grid

FloatArray = npt.NDArray[np.float64]

ALIGNED = 1e-12
"""Axes of a B-spline grid that differ from the points' axes by less than this are the same axes."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LinearStep:
    """Points p (x, y, z) become ``matrix @ p + offset_mm``.

    Attributes:
        matrix: shape (3, 3).
        offset_mm: shape (3,), mm.
    """

    matrix: FloatArray
    offset_mm: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SplineStep:
    """Points move by a cubic B-spline; points beyond the spline's domain stay.

    Attributes:
        coefficients_mm: displacement coefficients along x, y, z, shape (3, nz, ny, nx), mm.
        grid: where the coefficients lie.
    """

    coefficients_mm: FloatArray
    grid: Grid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FieldStep:
    """The points of one grid move by a dense field, the last resort for transforms of other kinds.

    Attributes:
        displacement_mm: along x, y, z at every point of the grid, shape (nz, ny, nx, 3), mm.
    """

    displacement_mm: FloatArray


Step = LinearStep | SplineStep | FieldStep


def read_steps(transform: sitk.Transform, grid: Grid) -> tuple[Step, ...]:
    """Returns the parts of a transform in the order in which they act on a point.

    Args:
        transform: takes points (x, y, z), LPS, mm, of the grid to points of another image.
        grid: the points that will be asked for; only needed for transforms that are neither linear nor cubic splines.

    Source: ITK's CompositeTransform applies the part added last first.
    """
    parts = _flatten(transform)
    steps: list[Step] = []
    for part in parts:
        if part.IsLinear():
            steps.append(_read_linear(part))
        elif (
            part.GetTransformEnum() == sitk.sitkBSplineTransform
            and sitk.BSplineTransform(part).GetOrder() == 3
        ):
            steps.append(_read_spline(sitk.BSplineTransform(part)))
        else:
            return (_read_field(transform, grid),)
    return tuple(steps)


def move_points(steps: tuple[Step, ...], grid: Grid, where: npt.NDArray[np.intp]) -> FloatArray:
    """Returns where the steps take points of a grid, shape (3, points), (x, y, z), LPS, mm.

    Args:
        steps: parts of the transform in the order of action.
        grid: the points' grid.
        where: flat indices of the points in the grid's array.
    """
    indices = np.stack(np.unravel_index(where, grid.shape)).astype(np.float64)
    affine = grid.affine()
    points: FloatArray = affine[:3, :3] @ indices + affine[:3, 3:]
    for number, step in enumerate(steps):
        if isinstance(step, LinearStep):
            points = step.matrix @ points + step.offset_mm[:, None]
        elif isinstance(step, FieldStep):
            points = points + step.displacement_mm.reshape(-1, 3)[where].T
        elif number == 0 and np.abs(np.subtract(step.grid.axes, grid.axes)).max() < ALIGNED:
            points = points + _displace_lattice(step, grid, where)
        else:
            points = points + _displace_points(step, points)
    return points


def _flatten(transform: sitk.Transform) -> list[sitk.Transform]:
    if transform.GetTransformEnum() != sitk.sitkComposite:
        return [transform]
    composite = sitk.CompositeTransform(transform)
    composite.FlattenTransform()
    number = composite.GetNumberOfTransforms()
    return [composite.GetNthTransform(index) for index in reversed(range(number))]


def _read_linear(transform: sitk.Transform) -> LinearStep:
    offset = np.asarray(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.asarray(transform.TransformPoint(tuple(unit))) - offset for unit in np.eye(3).tolist()]
    return LinearStep(matrix=np.stack(columns, axis=1), offset_mm=offset)


def _read_spline(transform: sitk.BSplineTransform) -> SplineStep:
    images = transform.GetCoefficientImages()
    arrays = [sitk.GetArrayFromImage(image).astype(np.float64) for image in images]
    return SplineStep(coefficients_mm=np.stack(arrays), grid=Grid.of_image(images[0]))


def _read_field(transform: sitk.Transform, grid: Grid) -> FieldStep:
    image = grid.image()
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        image.GetSize(),
        image.GetOrigin(),
        image.GetSpacing(),
        image.GetDirection(),
    )
    return FieldStep(displacement_mm=sitk.GetArrayFromImage(field))


def _displace_lattice(step: SplineStep, grid: Grid, where: npt.NDArray[np.intp]) -> FloatArray:
    """Returns displacements where points and coefficients share their axes: the spline is then three small products."""
    weights = [_weigh_axis(step.grid, grid, axis) for axis in range(3)]
    moved = np.empty((3, where.size))
    for component, coefficients in enumerate(step.coefficients_mm):
        part = np.tensordot(weights[0], coefficients, axes=(1, 0))
        part = np.einsum("yb,zbc->zyc", weights[1], part, optimize=True)
        whole = part.reshape(-1, part.shape[2]) @ weights[2].T
        moved[component] = whole.ravel()[where]
    return moved


def _weigh_axis(coefficients: Grid, grid: Grid, axis: int) -> FloatArray:
    """Returns the cubic weights of each coefficient at each grid position of one axis, shape (positions, n).

    A row is zero beyond the domain of the spline.
    """
    unit = np.asarray(grid.axes[axis])
    first = float(unit @ (np.asarray(grid.origin_mm) - np.asarray(coefficients.origin_mm)))
    along = first + np.arange(grid.shape[axis], dtype=np.float64) * grid.spacing_mm[axis]
    position = along / np.float64(coefficients.spacing_mm[axis])
    number = coefficients.shape[axis]
    distance = np.abs(position[:, None] - np.arange(number)[None, :])
    near = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    far = np.where(distance < 2.0, (2.0 - distance) ** 3 / 6.0, 0.0)
    weights = np.where(distance < 1.0, near, far)
    weights[~_lies_inside(position, number)] = 0.0
    return weights


def _displace_points(step: SplineStep, points: FloatArray) -> FloatArray:
    from scipy import ndimage

    inverse = np.linalg.inv(step.grid.affine())
    position = inverse[:3, :3] @ points + inverse[:3, 3:]
    inside = np.ones(points.shape[1], dtype=np.bool_)
    for axis in range(3):
        inside &= _lies_inside(position[axis], step.grid.shape[axis])
    moved = np.zeros_like(points)
    for component, coefficients in enumerate(step.coefficients_mm):
        moved[component, inside] = ndimage.map_coordinates(
            coefficients, position[:, inside], order=3, prefilter=False, mode="nearest"
        )
    return moved


def _lies_inside(position: FloatArray, number: int) -> npt.NDArray[np.bool_]:
    """Returns whether a cubic spline with ``number`` coefficients is defined there (ITK, InsideValidRegion)."""
    inside: npt.NDArray[np.bool_] = (position >= 1.0) & (position <= number - 2.0)
    return inside
