"""Alignment of one contrast phase to another: rigid, then B-spline, by mutual information; with figures of its quality."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from engines.errors import InvalidInput, RegistrationRefused
from engines.volume import Grid, Volume, resample

WORKING_MM = 4.0
"""Voxel edge of the images on which phases are aligned (OURS: four times finer than a breath, seconds on one core)."""

WINDOW_HU = (-150.0, 300.0)
"""HU are clipped here before alignment: soft tissue and contrast count, gas and bone do not dominate (OURS)."""

MESH_MM = 45.0
"""Distance of the B-spline's control points (OURS: a liver is deformed by breath over its whole length)."""

INVERSE_MM = 6.0
INVERSE_ITERATIONS = 15
INVERSE_MARGIN = 6
"""The inverse of a B-spline is sampled this densely (a seventh of its mesh) and iterated this often: error below 0.5 mm."""

HISTOGRAM_BINS = 40
SAMPLING_SHARE = 0.2
SAMPLING_SEED = 20250923

LEAST_BODY_OVERLAP = 0.85
"""Dice of both bodies after alignment below which the phases are refused (OURS, see tests/end_to_end)."""

LEAST_INFORMATION = 0.25
"""Normalised mutual information of both phases below which they are refused (OURS, see tests/end_to_end)."""

LARGEST_MEAN_SHIFT_MM = 60.0
"""Mean displacement of the body beyond which the phases are refused: one examination lies on one couch (OURS)."""

LEAST_JACOBIAN = 0.0
"""A B-spline that folds space (determinant at or below this) is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlignmentQuality:
    """How well two phases fit, all inside the fixed phase's body.

    Attributes:
        information_before: normalised mutual information 2 I(F, M) / (H(F) + H(M)) without any transform, 0..1.
        information_rigid: the same after the rigid step.
        information_after: the same with the transform that was kept.
        body_overlap: Dice of both bodies after alignment, 0..1, where both phases have pixels.
        shift_mm: mean length of the displacement, mm.
        largest_shift_mm: greatest length of the displacement, mm.
        least_jacobian: smallest determinant of the B-spline's Jacobian; 1 without B-spline.
        inversion_error_mm: 99th percentile of |inverse(transform(p)) - p|, mm.
    """

    information_before: float
    information_rigid: float
    information_after: float
    body_overlap: float
    shift_mm: float
    largest_shift_mm: float
    least_jacobian: float
    inversion_error_mm: float

    @property
    def information_gain(self) -> float:
        """How much normalised mutual information the alignment has added."""
        return self.information_after - self.information_before


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Alignment:
    """A moving phase laid on a fixed one.

    Attributes:
        transform: takes points of the fixed phase to points of the moving phase (mm, LPS): what a resampling of the moving
            phase on the fixed grid needs.
        inverse: takes points of the moving phase to points of the fixed phase.
        quality: figures.
    """

    transform: sitk.Transform
    inverse: sitk.Transform
    quality: AlignmentQuality


def align(moving: Volume, fixed: Volume, *, deformable: bool = True) -> Alignment:
    """Returns the alignment of ``moving`` to ``fixed``: the same voxels give the same transform on one machine.

    Both are worked on in the order of the patient: how a series was stored (mirrored rows, from the head down) has no say.
    The rigid step starts from the common frame of reference (identity). The B-spline is kept only if it adds information.

    Args:
        moving: HU on its native grid.
        fixed: HU on its native grid; the portal venous phase in this product.
        deformable: whether a B-spline follows the rigid step.

    Raises:
        RegistrationRefused: the phases do not overlap, do not fit, or the B-spline folds.
    """
    fixed_coarse, moving_coarse = _coarse(fixed), _coarse(moving)
    body = _body(fixed_coarse)
    if not body.any():
        raise RegistrationRefused("the fixed phase shows no body (no voxel above -300 HU in one piece)")
    fixed_image, moving_image = fixed_coarse.to_image(), moving_coarse.to_image()
    mask = Volume(array=body, grid=fixed_coarse.grid).to_image()
    try:
        with _one_thread():
            rigid = _rigid(fixed_image, moving_image, mask)
            spline = _spline(fixed_image, moving_image, mask, rigid) if deformable else None
    except RuntimeError as error:  # ITK: all samples outside of the moving image
        raise RegistrationRefused(
            "the phases cannot be laid over each other: no overlap from which a registration could start"
        ) from error
    identity = sitk.Transform(3, sitk.sitkIdentity)
    before, after_rigid = (
        _information(fixed_coarse, moving_coarse, body, transform) for transform in (identity, rigid)
    )
    transform, after, jacobian = rigid, after_rigid, 1.0
    if spline is not None:
        composite = sitk.CompositeTransform([rigid, spline])  # applied from the last to the first
        after_spline = _information(fixed_coarse, moving_coarse, body, composite)
        if after_spline > after_rigid:
            transform, after, jacobian = composite, after_spline, _least_jacobian(spline, fixed_image, body)
    inverse = invert(transform, fixed.grid)
    quality = AlignmentQuality(
        information_before=before,
        information_rigid=after_rigid,
        information_after=after,
        body_overlap=_overlap(fixed_coarse, moving_coarse, body, transform),
        **_displacements(transform, inverse, fixed_coarse.grid, body),
        least_jacobian=jacobian,
    )
    _judge(quality)
    return Alignment(transform=transform, inverse=inverse, quality=quality)


def invert(transform: sitk.Transform, grid: Grid) -> sitk.Transform:
    """Returns the inverse of a rigid transform or of one made of rigid parts and B-splines.

    Args:
        transform: as made by ``align`` or read by ``read_transform``.
        grid: of the fixed phase, in any order; a B-spline is inverted as a displacement field over it, every 6 mm.
    """
    if transform.IsLinear():
        return transform.GetInverse()
    if transform.GetName() != "CompositeTransform":
        return _inverse_field(transform, grid)
    parts = sitk.CompositeTransform(transform)
    count = parts.GetNumberOfTransforms()
    inverses = [invert(parts.GetNthTransform(n), grid) for n in range(count)]
    return sitk.CompositeTransform(inverses[::-1])


def write_transform(transform: sitk.Transform, path: Path) -> None:
    """Writes a transform as ITK text (.tfm).

    Args:
        transform: rigid, or rigid and B-spline.
        path: the file, replaced if it exists.
    """
    sitk.WriteTransform(transform, str(path))


def read_transform(path: Path) -> sitk.Transform:
    """Returns the transform of an ITK text file (.tfm).

    Args:
        path: the file.

    Raises:
        InvalidInput: the file does not exist or holds no transform of three dimensions.
    """
    if not path.is_file():
        raise InvalidInput(f"{path}: no such transform file")
    try:
        transform = sitk.ReadTransform(str(path))
    except RuntimeError as error:
        raise InvalidInput(f"{path}: not an ITK transform: {error}") from error
    if transform.GetDimension() != 3:
        raise InvalidInput(f"{path}: a transform of {transform.GetDimension()} dimensions; expected 3")
    return transform


def _coarse(volume: Volume) -> Volume:
    """Returns the volume averaged to about ``WORKING_MM``, float32 HU, in the order of the patient."""
    image = volume.in_lps_order().to_image()
    factors = [max(1, round(WORKING_MM / s)) for s in image.GetSpacing()]
    return Volume.of_image(sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors))


def _body(volume: Volume) -> npt.NDArray[np.bool_]:
    """Returns the body with its lungs, without the couch, bool."""
    image = volume.to_image() > -300
    opened = sitk.BinaryMorphologicalOpening(image, [2, 2, 0])
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(opened), sortByObjectSize=True)
    largest = sitk.GetArrayFromImage(parts == 1).astype(np.uint8)
    filled = [sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.GetImageFromArray(plane))) for plane in largest]
    return np.stack(filled).astype(np.bool_)


def _clipped(image: sitk.Image) -> sitk.Image:
    """Returns the image clipped to the window of alignment."""
    return sitk.Clamp(image, sitk.sitkFloat32, *WINDOW_HU)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keeps ITK to one thread: its sums then run in one order, and the same voxels give the same transform."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _method(mask: sitk.Image) -> sitk.ImageRegistrationMethod:
    """Returns a registration by Mattes mutual information in the mask, on one thread, with fixed samples."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(HISTOGRAM_BINS)
    method.SetMetricFixedMask(mask)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(SAMPLING_SHARE, SAMPLING_SEED)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _rigid(fixed: sitk.Image, moving: sitk.Image, mask: sitk.Image) -> sitk.Transform:
    """Returns the rigid transform from points of ``fixed`` to points of ``moving``."""
    method = _method(mask)
    start = sitk.Euler3DTransform()
    middle = [(n - 1) / 2 for n in fixed.GetSize()]
    start.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint(middle))
    method.SetInitialTransform(start, inPlace=False)
    method.SetShrinkFactorsPerLevel([3, 2, 1])
    method.SetSmoothingSigmasPerLevel([6, 4, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.02, numberOfIterations=60, relaxationFactor=0.5
    )
    method.SetOptimizerScalesFromPhysicalShift()
    found = method.Execute(_clipped(fixed), _clipped(moving))
    return sitk.Euler3DTransform(sitk.CompositeTransform(found).GetNthTransform(0))


def _spline(fixed: sitk.Image, moving: sitk.Image, mask: sitk.Image, rigid: sitk.Transform) -> sitk.Transform:
    """Returns the B-spline that deforms points of ``fixed`` before the rigid transform takes them to ``moving``."""
    extent = [n * s for n, s in zip(fixed.GetSize(), fixed.GetSpacing(), strict=True)]
    mesh = [max(2, round(length / MESH_MM)) for length in extent]
    method = _method(mask)
    method.SetMovingInitialTransform(rigid)
    method.SetInitialTransform(sitk.BSplineTransformInitializer(fixed, mesh, order=3), inPlace=False)
    method.SetShrinkFactorsPerLevel([2])
    method.SetSmoothingSigmasPerLevel([4])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetOptimizerAsLBFGSB(
        gradientConvergenceTolerance=1e-5, numberOfIterations=14, maximumNumberOfCorrections=5
    )
    found = sitk.CompositeTransform(method.Execute(_clipped(fixed), _clipped(moving)))
    return sitk.BSplineTransform(found.GetNthTransform(found.GetNumberOfTransforms() - 1))


def _information(
    fixed: Volume, moving: Volume, body: npt.NDArray[np.bool_], transform: sitk.Transform
) -> float:
    """Returns the normalised mutual information of both phases inside the body, 0..1; 0 where they do not overlap."""
    low, high = WINDOW_HU
    moved = resample(moving, fixed.grid, transform, outside=-32000.0).array
    used = body & (moved > -2000)
    if np.count_nonzero(used) < 1000:
        return 0.0
    joint, _, _ = np.histogram2d(
        np.clip(fixed.array[used], low, high), np.clip(moved[used], low, high), bins=HISTOGRAM_BINS
    )
    share = joint / joint.sum()
    entropies = [-float((p[p > 0] * np.log(p[p > 0])).sum()) for p in (share.sum(1), share.sum(0), share)]
    total = entropies[0] + entropies[1]
    return float(2 * (total - entropies[2]) / total) if total > 0 else 0.0


def _overlap(fixed: Volume, moving: Volume, body: npt.NDArray[np.bool_], transform: sitk.Transform) -> float:
    """Returns the Dice of both bodies on the fixed grid, where the moving phase has pixels."""
    seen = np.ones(moving.array.shape, dtype=np.uint8)
    label = Volume(array=seen + _body(moving).astype(np.uint8), grid=moving.grid)
    moved = resample(label, fixed.grid, transform, interpolator=sitk.sitkNearestNeighbor, outside=0).array
    inside, other = body[moved > 0], moved[moved > 0] == 2
    total = np.count_nonzero(inside) + np.count_nonzero(other)
    return 2 * int(np.count_nonzero(inside & other)) / int(total) if total else 0.0


def _least_jacobian(spline: sitk.Transform, fixed: sitk.Image, body: npt.NDArray[np.bool_]) -> float:
    """Returns the smallest determinant of the Jacobian of x -> spline(x) inside the body."""
    field = sitk.TransformToDisplacementField(
        spline,
        sitk.sitkVectorFloat64,
        fixed.GetSize(),
        fixed.GetOrigin(),
        fixed.GetSpacing(),
        fixed.GetDirection(),
    )
    determinant = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    return float(determinant[body].min())


def _inverse_field(transform: sitk.Transform, grid: Grid) -> sitk.Transform:
    """Returns the inverse of a deformation as a displacement field over the grid, by fixed-point iteration.

    With u the shift of the deformation, the inverse's shift b at y solves b = -u(y + b). A B-spline ends at the grid, so the
    field of the inverse reaches ``INVERSE_MARGIN`` voxels further: there lie points that the deformation has moved out.
    """
    grid = grid.in_lps_order()
    extent = np.asarray(grid.shape) * np.asarray(grid.spacing_mm)
    size = [int(n) for n in np.ceil(extent / INVERSE_MM)[::-1]]
    axes = np.asarray(grid.axes)
    field = sitk.TransformToDisplacementField(
        transform,
        sitk.sitkVectorFloat64,
        size,
        list(grid.origin_mm),
        [INVERSE_MM] * 3,
        axes[::-1].T.ravel().tolist(),
    )
    forward = (
        sitk.GetArrayFromImage(field) @ axes.T / INVERSE_MM
    )  # (z, y, x, component along z, y, x), voxels
    padded = [n + 2 * INVERSE_MARGIN for n in forward.shape[:3]]
    places = np.indices(padded, dtype=np.float64) - INVERSE_MARGIN
    back = np.zeros_like(places)
    for _ in range(INVERSE_ITERATIONS):
        back = -np.stack(
            [map_coordinates(forward[..., k], places + back, order=1, mode="nearest") for k in range(3)]
        )
    inverse = sitk.GetImageFromArray(np.moveaxis(back, 0, -1) @ axes * INVERSE_MM, isVector=True)
    inverse.SetSpacing(field.GetSpacing())
    inverse.SetDirection(field.GetDirection())
    inverse.SetOrigin(field.TransformIndexToPhysicalPoint([-INVERSE_MARGIN] * 3))
    return sitk.DisplacementFieldTransform(inverse)


def _displacements(
    transform: sitk.Transform, inverse: sitk.Transform, grid: Grid, body: npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Returns mean and largest displacement in the body and the error of the inverse, mm."""
    indices = np.argwhere(body)
    indices = indices[:: max(1, len(indices) // 2000)]
    matrix = grid.affine()
    points = indices @ matrix[:3, :3].T + matrix[:3, 3]
    moved = [transform.TransformPoint(p.tolist()) for p in points]
    back = np.array([inverse.TransformPoint(p) for p in moved])
    shifts = np.linalg.norm(np.array(moved) - points, axis=1)
    return {
        "shift_mm": float(shifts.mean()),
        "largest_shift_mm": float(shifts.max()),
        "inversion_error_mm": float(np.percentile(np.linalg.norm(back - points, axis=1), 99)),
    }


def _judge(quality: AlignmentQuality) -> None:
    """Checks the figures of an alignment.

    Raises:
        RegistrationRefused: one of them is worse than its limit.
    """
    checks = (
        ("body overlap (Dice)", quality.body_overlap, LEAST_BODY_OVERLAP),
        ("normalised mutual information", quality.information_after, LEAST_INFORMATION),
        ("smallest Jacobian", quality.least_jacobian, LEAST_JACOBIAN),
        ("room for the shift, mm", LARGEST_MEAN_SHIFT_MM - quality.shift_mm, 0.0),
    )
    for name, got, least in checks:
        if not got > least:
            raise RegistrationRefused(f"{name} after alignment is {got:.3f}; expected more than {least:.3f}")
