"""A regular voxel grid in patient space, and a volume of Hounsfield units on it."""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from engines.errors import GeometryMismatch

FloatArray = npt.NDArray[np.floating[Any]]

POSITION_TOLERANCE_MM = 1e-2
"""Two grids are one when no corner differs by more than this (a hundredth of a fine pixel; OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where the voxels of an array (z, y, x) lie in the patient coordinate system of DICOM (LPS, mm).

    Attributes:
        shape: number of voxels along (z, y, x).
        spacing_mm: distance of neighbouring voxel centres along (z, y, x), mm, > 0.
        origin_mm: centre of voxel (0, 0, 0) as (x, y, z) in LPS, mm.
        axes: unit vectors in LPS along which the indices z, y, x grow; three rows of three.

    Source: PS3.3 C.7.6.2 (Image Plane Module).
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]] = (
        (0.0, 0.0, 1.0),
        (0.0, 1.0, 0.0),
        (1.0, 0.0, 0.0),
    )

    def affine(self) -> npt.NDArray[np.float64]:
        """Returns the 4x4 matrix that takes (z, y, x, 1) indices to (x, y, z, 1) in LPS, mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.axes, dtype=np.float64).T * np.asarray(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix

    def corners_mm(self) -> npt.NDArray[np.float64]:
        """Returns the centres of the eight corner voxels, shape (8, 3), (x, y, z) LPS, mm."""
        last = np.asarray(self.shape) - 1
        picks = np.array(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij")).reshape(3, -1).T
        indices = np.hstack([picks * last, np.ones((8, 1))])
        corners: npt.NDArray[np.float64] = (indices @ self.affine().T)[:, :3]
        return corners

    def matches(self, other: "Grid", tolerance_mm: float = POSITION_TOLERANCE_MM) -> bool:
        """Returns whether both grids have the same shape and the same corner positions within ``tolerance_mm``."""
        if self.shape != other.shape:
            return False
        return bool(np.abs(self.corners_mm() - other.corners_mm()).max() <= tolerance_mm)

    def lps_order(self) -> tuple[tuple[int, ...], tuple[bool, ...]]:
        """Returns which index runs along head, back and left, the nearest one, and which of the three run the other way."""
        toward = np.asarray(self.axes)[:, ::-1]  # of each index: components to the head, the back, the left
        order = max(permutations(range(3)), key=lambda rows: np.abs(toward[rows, range(3)]).sum())
        return order, tuple(bool(toward[row, column] < 0) for column, row in enumerate(order))

    def in_lps_order(self) -> "Grid":
        """Returns the grid of the same points with its indices in the order of the patient, as ``Volume.in_lps_order``."""
        order, backwards = self.lps_order()
        z, y, x = order
        first = np.zeros(3)
        first[list(order)] = np.where(backwards, np.asarray(self.shape)[list(order)] - 1, 0)
        axes = np.where(np.reshape(backwards, (3, 1)), -1.0, 1.0) * np.asarray(self.axes)[list(order)]
        head, back, left = axes.tolist()
        return Grid(
            shape=(self.shape[z], self.shape[y], self.shape[x]),
            spacing_mm=(self.spacing_mm[z], self.spacing_mm[y], self.spacing_mm[x]),
            origin_mm=tuple((self.affine() @ [*first, 1])[:3].tolist()),
            axes=(tuple(head), tuple(back), tuple(left)),
        )

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel, mL."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    def image(self) -> sitk.Image:
        """Returns an empty SimpleITK image of this geometry, the reference of a resampling."""
        image = sitk.Image([int(n) for n in self.shape[::-1]], sitk.sitkUInt8)
        self.stamp(image)
        return image

    def stamp(self, image: sitk.Image) -> None:
        """Writes spacing, origin and direction of this grid on a SimpleITK image of the same shape."""
        image.SetSpacing([float(s) for s in self.spacing_mm[::-1]])
        image.SetOrigin([float(c) for c in self.origin_mm])
        image.SetDirection(np.asarray(self.axes, dtype=np.float64)[::-1].T.ravel().tolist())

    @staticmethod
    def of_image(image: sitk.Image) -> "Grid":
        """Returns the grid of a three-dimensional SimpleITK image."""
        z, y, x = np.asarray(image.GetDirection()).reshape(3, 3).T[::-1].tolist()
        return Grid(
            shape=tuple(image.GetSize()[::-1]),
            spacing_mm=tuple(image.GetSpacing()[::-1]),
            origin_mm=tuple(image.GetOrigin()),
            axes=(tuple(z), tuple(y), tuple(x)),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Volume:
    """An array on a grid.

    Attributes:
        array: shape (z, y, x). CT volumes: int16 or float32 Hounsfield units. Masks: bool or uint8 labels.
        grid: position of the array in the patient.

    Raises:
        GeometryMismatch: the array's shape is not the grid's.
    """

    array: npt.NDArray[Any]
    grid: Grid

    def __post_init__(self) -> None:
        if self.array.shape != self.grid.shape:
            raise GeometryMismatch(f"array of shape {self.array.shape} on a grid of shape {self.grid.shape}")

    def in_lps_order(self) -> "Volume":
        """Returns the same voxels at the same places, z nearest to the head, y to the back, x to the left.

        What is worked on in this order does not depend on the one in which a series was stored.
        """
        order, backwards = self.grid.lps_order()
        turned = self.array.transpose(order)[
            tuple(slice(None, None, -1 if back else 1) for back in backwards)
        ]
        return Volume(array=np.ascontiguousarray(turned), grid=self.grid.in_lps_order())

    def to_image(self) -> sitk.Image:
        """Returns a SimpleITK copy (bool becomes uint8)."""
        array = self.array.astype(np.uint8) if self.array.dtype == np.bool_ else self.array
        image = sitk.GetImageFromArray(array)
        self.grid.stamp(image)
        return image

    @staticmethod
    def of_image(image: sitk.Image) -> "Volume":
        """Returns the volume of a SimpleITK image."""
        return Volume(array=sitk.GetArrayFromImage(image), grid=Grid.of_image(image))


def resample(
    volume: Volume,
    grid: Grid,
    transform: sitk.Transform | None = None,
    *,
    interpolator: int = sitk.sitkLinear,
    outside: float = -1024.0,
) -> Volume:
    """Returns ``volume`` interpolated once on ``grid``.

    Args:
        volume: source, any grid.
        grid: target.
        transform: takes points of the target to points of the source (mm, LPS); None is identity.
        interpolator: SimpleITK's constant; nearest neighbour for masks.
        outside: value beyond the source; -1024 HU is air.
    """
    image = sitk.Resample(
        volume.to_image(),
        grid.image(),
        transform if transform is not None else sitk.Transform(),
        interpolator,
        outside,
        sitk.sitkFloat32 if volume.array.dtype.kind == "f" else sitk.sitkUnknown,
    )
    return Volume(array=sitk.GetArrayFromImage(image), grid=grid)
