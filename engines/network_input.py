"""The networks' input: liver box, one interpolation per phase, window, cube. The only definition; node and train share it."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from engines.errors import InvalidInput, RegistrationRefused, SegmentationRefused
from engines.phase import ASSESSED_PHASES, REFERENCE_PHASE, Phase
from engines.volume import Grid, Volume

LEAST_COVERAGE = 0.95
"""Share of the liver that each phase must show, or the input is refused (OURS; the rest is cut slices at the dome)."""

_LATTICE = 9
"""Points along each edge of the liver box that find its place in another phase."""

_AIR_HU = -1024.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How three phases become the input of the networks; part of every model card.

    Attributes:
        side: voxels along each edge of the cube, > 1; 128 is the paper's.
        hu_window: lowest and highest HU; beyond them the input is clipped, then scaled to 0..1.
        margin_mm: margin about the box of the liver, mm, >= 0.
        phases: the channels, in order.
        smoothed: whether the native pixels are smoothed before a cube coarser than they are samples them: a Gaussian of
            standard deviation (ratio - 1) / 2 native voxels along each axis, ratio = target over native spacing. Without it a
            small cube shows single noisy pixels.

    Raises:
        InvalidInput: a value does not fit.

    Source: side of the paper's supplement, Table 3; window, margin and smoothing OURS (method, section 2).
    """

    side: int = 128
    hu_window: tuple[float, float] = (-100.0, 240.0)
    margin_mm: float = 5.0
    phases: tuple[Phase, ...] = ASSESSED_PHASES
    smoothed: bool = True

    def __post_init__(self) -> None:
        if self.side < 2:
            raise InvalidInput(f"side of the network input is {self.side}; expected 2 or more voxels")
        if not self.hu_window[0] < self.hu_window[1]:
            raise InvalidInput(f"HU window {self.hu_window}; expected the lower bound first")
        if self.margin_mm < 0:
            raise InvalidInput(f"margin of {self.margin_mm} mm about the liver; expected 0 or more")
        if not self.phases or len(set(self.phases)) != len(self.phases):
            raise InvalidInput(f"channels {self.phases}; expected one or more different phases")


PAPER = Preprocessing()
"""The preprocessing at full size."""


def network_grid(liver: Volume, preprocessing: Preprocessing = PAPER) -> Grid:
    """Returns the cube of voxels over the box of the liver, axes along LPS whatever the order of the slices.

    Args:
        liver: bool mask on the grid of the portal venous phase.
        preprocessing: side and margin.

    Raises:
        SegmentationRefused: the mask is empty.
    """
    indices = np.argwhere(liver.array)
    if indices.size == 0:
        raise SegmentationRefused("the liver mask is empty; the box of the network input cannot be placed")
    faces = np.array(
        list(itertools.product(*zip(indices.min(axis=0) - 0.5, indices.max(axis=0) + 0.5, strict=True)))
    )
    matrix = liver.grid.affine()
    corners = faces @ matrix[:3, :3].T + matrix[:3, 3]
    low = corners.min(axis=0) - preprocessing.margin_mm
    step = (corners.max(axis=0) + preprocessing.margin_mm - low) / preprocessing.side
    x, y, z = (float(c) for c in low + step / 2)
    return Grid(
        shape=(preprocessing.side,) * 3,
        spacing_mm=(float(step[2]), float(step[1]), float(step[0])),
        origin_mm=(x, y, z),
    )


def network_input(
    volumes: Mapping[Phase, Volume],
    transforms: Mapping[Phase, sitk.Transform],
    liver: Volume,
    preprocessing: Preprocessing = PAPER,
) -> npt.NDArray[np.float16]:
    """Returns the input of the networks, float16, shape (phases, side, side, side), axes (channel, z, y, x), 0..1.

    Each channel is one trilinear interpolation of the native pixels. Nothing is masked: the liver's surroundings stay.

    Args:
        volumes: HU on native grids; every phase of ``preprocessing.phases``.
        transforms: by phase, takes points of the portal venous phase to points of that phase (mm, LPS); the portal venous
            phase itself needs none.
        liver: bool mask on the grid of the portal venous phase.
        preprocessing: the definition.

    Raises:
        InvalidInput: a phase or its transform is missing.
        SegmentationRefused: the mask is empty.
        RegistrationRefused: a phase does not cover the liver.
    """
    grid = network_grid(liver, preprocessing)
    low_hu, high_hu = preprocessing.hu_window
    channels = []
    for phase in preprocessing.phases:
        volume, transform = _phase(phase, volumes, transforms)
        covered = phase_coverage(volume, transform, liver)
        if covered < LEAST_COVERAGE:
            raise RegistrationRefused(
                f"{phase} shows {covered:.1%} of the liver; expected at least {LEAST_COVERAGE:.0%}"
            )
        hu = _sample(volume, transform, grid, smoothed=preprocessing.smoothed)
        channels.append(np.clip((hu - low_hu) / (high_hu - low_hu), 0, 1).astype(np.float16))
    return np.stack(channels)


def phase_coverage(volume: Volume, transform: sitk.Transform, liver: Volume) -> float:
    """Returns the share of the liver's voxels that lie inside the slices of a phase, 0..1.

    Args:
        volume: a phase on its native grid.
        transform: takes points of the mask's grid to points of the phase.
        liver: bool mask, not empty.
    """
    indices = np.argwhere(liver.array)
    indices = indices[:: max(1, len(indices) // 4000)]
    matrix = liver.grid.affine()
    points = indices @ matrix[:3, :3].T + matrix[:3, 3]
    places = _indices_of(np.array([transform.TransformPoint(p.tolist()) for p in points]), volume.grid)
    inside = np.all((places > -0.5 - 1e-6) & (places < np.asarray(volume.grid.shape) - 0.5 + 1e-6), axis=1)
    return float(inside.mean())


def _phase(
    phase: Phase, volumes: Mapping[Phase, Volume], transforms: Mapping[Phase, sitk.Transform]
) -> tuple[Volume, sitk.Transform]:
    """Returns the volume and the transform of a phase.

    Raises:
        InvalidInput: one of them is missing.
    """
    if phase not in volumes:
        raise InvalidInput(
            f"no {phase} volume for the network input; got {', '.join(sorted(volumes)) or 'none'}"
        )
    if phase in transforms:
        return volumes[phase], transforms[phase]
    if phase is REFERENCE_PHASE:
        return volumes[phase], sitk.Transform(3, sitk.sitkIdentity)
    raise InvalidInput(f"no transform from {REFERENCE_PHASE} to {phase}; align the phase first")


def _sample(
    volume: Volume, transform: sitk.Transform, grid: Grid, *, smoothed: bool
) -> npt.NDArray[np.float32]:
    """Returns HU of a volume on the cube; only the slices and pixels around the cube are copied and smoothed."""
    target_mm = np.array(grid.spacing_mm)[[2, 1, 0]]
    along = (
        np.abs(np.asarray(volume.grid.axes)) @ target_mm
    )  # the cube's spacing along the native axes z, y, x
    ratio = along / np.asarray(volume.grid.spacing_mm)
    sigmas = np.where(ratio > 1, (ratio - 1) / 2, 0.0) if smoothed else np.zeros(3)
    lattice = np.stack(
        np.meshgrid(*(np.linspace(0, n - 1, _LATTICE) for n in grid.shape), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    matrix = grid.affine()
    points = lattice @ matrix[:3, :3].T + matrix[:3, 3]
    places = _indices_of(np.array([transform.TransformPoint(p.tolist()) for p in points]), volume.grid)
    room = 3 * sigmas + 3 + 5.0 / np.asarray(volume.grid.spacing_mm)
    first = np.clip(np.floor(places.min(axis=0) - room), 0, np.asarray(volume.grid.shape) - 1).astype(int)
    last = np.clip(np.ceil(places.max(axis=0) + room) + 1, 1, volume.grid.shape).astype(int)
    image = _cut(volume, first, np.maximum(last, first + 1)).to_image()
    image = sitk.Cast(image, sitk.sitkFloat32)
    if np.any(sigmas > 0):
        variances = [float((s * d) ** 2) for s, d in zip(sigmas, volume.grid.spacing_mm, strict=True)]
        image = sitk.DiscreteGaussian(image, variances[::-1], 32, 0.01, True)
    cube = sitk.Resample(image, grid.image(), transform, sitk.sitkLinear, _AIR_HU, sitk.sitkFloat32)
    return np.asarray(sitk.GetArrayFromImage(cube), dtype=np.float32)


def _cut(volume: Volume, first: npt.NDArray[np.int_], last: npt.NDArray[np.int_]) -> Volume:
    """Returns the block of a volume from index ``first`` up to, not including, ``last``."""
    (z0, y0, x0), (z1, y1, x1) = first.tolist(), last.tolist()
    x, y, z = (float(c) for c in (volume.grid.affine() @ [z0, y0, x0, 1])[:3])
    block = volume.array[z0:z1, y0:y1, x0:x1]
    grid = Grid(
        shape=(z1 - z0, y1 - y0, x1 - x0),
        spacing_mm=volume.grid.spacing_mm,
        origin_mm=(x, y, z),
        axes=volume.grid.axes,
    )
    return Volume(array=block, grid=grid)


def _indices_of(points: npt.NDArray[np.float64], grid: Grid) -> npt.NDArray[np.float64]:
    """Returns the fractional indices (z, y, x) of points, shape (n, 3), (x, y, z) LPS mm."""
    inverse = np.linalg.inv(grid.affine())
    indices: npt.NDArray[np.float64] = points @ inverse[:3, :3].T + inverse[:3, 3]
    return indices
