"""One region of interest: its voxels cut out of a grid, checked, and refused with a reason where nothing can be measured."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.errors import FeatureRefused, GeometryMismatch, InvalidInput
from engines.volume import Grid, Volume

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Region:
    """The voxels of one label, cropped to their bounding box.

    Attributes:
        mask: bool, shape (z, y, x), True inside; every face of the box touches the region.
        start: index (z, y, x) of the box's first voxel in the grid it was cut from.
        grid: the box's own grid.
    """

    mask: BoolArray
    start: tuple[int, int, int]
    grid: Grid

    @property
    def voxels(self) -> int:
        """Number of voxels inside."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> tuple[slice, slice, slice]:
        """The slices that cut the box out of an array on the original grid."""
        z, y, x = (
            slice(first, first + size) for first, size in zip(self.start, self.mask.shape, strict=True)
        )
        return z, y, x


def cut_region(
    mask: Volume, label: int | None, *, minimum_dimensions: int = 2, minimum_voxels: int | None = None
) -> Region:
    """Returns the region of one label of a mask.

    Args:
        mask: labels (integer) or bool, any grid.
        label: the label to take; None takes every voxel that is not zero.
        minimum_dimensions: 1 to 3, along how many axes the region must be longer than one voxel.
        minimum_voxels: the region must have MORE voxels than this (pyradiomics' ``minimumROISize``); None asks nothing.

    Raises:
        FeatureRefused: the label is absent, or the region is one voxel, has too few dimensions or voxels.
        InvalidInput: the mask is not integer.

    Source: the refusals are those of pyradiomics 3.0.1, imageoperations.checkMask and getMask.
    """
    inside = _pick_label(mask.array, label)
    extents: list[tuple[int, int]] = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        hits = np.flatnonzero(inside.any(axis=others))
        if hits.size == 0:
            raise FeatureRefused(_name_missing_label(mask.array, label))
        extents.append((int(hits[0]), int(hits[-1]) + 1))
    lengths = [stop - first for first, stop in extents]
    dimensions = sum(length > 1 for length in lengths)
    if dimensions == 0:
        raise FeatureRefused("the region is a single voxel; features need at least two voxels")
    if dimensions < minimum_dimensions:
        raise FeatureRefused(
            f"the region has {dimensions} dimension(s), at least {minimum_dimensions} expected"
        )
    start = tuple(first for first, _ in extents)
    cut = np.ascontiguousarray(inside[tuple(slice(first, stop) for first, stop in extents)])
    if minimum_voxels is not None and np.count_nonzero(cut) <= minimum_voxels:
        raise FeatureRefused(
            f"the region has {np.count_nonzero(cut)} voxels, more than {minimum_voxels} expected (minimumROISize)"
        )
    return Region(mask=cut, start=(start[0], start[1], start[2]), grid=crop_grid(mask.grid, start, cut.shape))


def check_geometry(image: Grid, mask: Grid) -> None:
    """Refuses a mask that does not lie on the image's grid.

    Raises:
        GeometryMismatch: shapes or positions differ.
    """
    if image.shape != mask.shape:
        raise GeometryMismatch(f"mask of shape {mask.shape} for an image of shape {image.shape}, (z, y, x)")
    if not image.matches(mask):
        apart_mm = float(np.abs(image.corners_mm() - mask.corners_mm()).max())
        raise GeometryMismatch(f"mask and image have one shape but their corners lie {apart_mm:.3g} mm apart")


def overlap(first: Grid, second: Grid) -> bool:
    """Returns whether the boxes around two grids, along the patient's axes, share any space."""
    a, b = first.corners_mm(), second.corners_mm()
    return bool((a.min(axis=0) <= b.max(axis=0)).all() and (b.min(axis=0) <= a.max(axis=0)).all())


def read_voxels(image: npt.NDArray[Any], region: Region, name: str) -> npt.NDArray[Any]:
    """Returns the values inside the region, shape (voxels,), in (z, y, x) order.

    Args:
        image: array on the grid the region was cut from.
        region: the region.
        name: what the message calls the image.

    Raises:
        FeatureRefused: a value is NaN or infinite.
    """
    values = image[region.box][region.mask]
    if values.dtype.kind == "f":
        broken = values.size - int(np.count_nonzero(np.isfinite(values)))
        if broken:
            raise FeatureRefused(
                f"{broken} of {values.size} voxels of {name} inside the region are not finite"
            )
    return values


def crop_grid(grid: Grid, start: tuple[int, ...], shape: tuple[int, ...]) -> Grid:
    """Returns the part of a grid that begins at index ``start`` (z, y, x) and has ``shape``."""
    origin = grid.affine() @ np.array([*start, 1.0])
    return Grid(
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=grid.spacing_mm,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        axes=grid.axes,
    )


def _pick_label(array: npt.NDArray[Any], label: int | None) -> BoolArray:
    if array.dtype == np.bool_:
        return array if label in (None, 1) else np.zeros(array.shape, dtype=np.bool_)
    if array.dtype.kind not in "iu":
        raise InvalidInput(f"a mask holds integer labels, got {array.dtype}")
    picked: BoolArray = array != 0 if label is None else array == label
    return picked


def _name_missing_label(array: npt.NDArray[Any], label: int | None) -> str:
    present = [int(value) for value in np.unique(array) if value != 0]
    if not present:
        return "the mask is empty; nothing is segmented"
    return f"label {label} is not in the mask; it holds {present[:20]}"
