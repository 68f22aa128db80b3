"""Which slice of an acquisition is which plane of its volume, and which slices show a structure best."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.errors import GeometryMismatch
from engines.volume import POSITION_TOLERANCE_MM
from node.report.segments import BoolArray
from node.report.sources import UsedAcquisition
from node.study import Instance

_ORIENTATION_TOLERANCE: Final = 1e-3
"""Largest difference of a direction cosine between slices and grid (dicom notes, section 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSlice:
    """One slice: the plane of the volume it fills, and the instance (with its frame) that holds it."""

    z: int
    instance: Instance


def locate_slices(used: UsedAcquisition) -> tuple[SourceSlice, ...]:
    """Returns the acquisition's slices in ascending order of their plane in the volume.

    Args:
        used: the acquisition and its native volume.

    Raises:
        GeometryMismatch: a slice has no position, another orientation, or lies beside the volume's planes.
    """
    grid = used.volume.grid
    inverse = np.linalg.inv(grid.affine())
    axes = np.asarray([*grid.axes[2], *grid.axes[1]])
    where = f"series {used.acquisition.label}"
    found: list[SourceSlice] = []
    for instance in used.acquisition.instances:
        if instance.position_mm is None or instance.orientation is None:
            raise GeometryMismatch(
                f"{where}: instance {instance.sop_instance_uid} has no position or orientation"
            )
        turn = np.abs(np.asarray(instance.orientation) - axes).max()
        if turn > _ORIENTATION_TOLERANCE:
            raise GeometryMismatch(f"{where}: slices and volume differ by {turn:.4f} in a direction cosine")
        index = (inverse @ [*instance.position_mm, 1.0])[:3]
        z = round(float(index[0]))
        away = np.abs((index - [z, 0.0, 0.0]) * grid.spacing_mm).max()
        if not 0 <= z < grid.shape[0] or away > max(POSITION_TOLERANCE_MM, 0.01 * grid.spacing_mm[0]):
            raise GeometryMismatch(
                f"{where}: slice at {instance.position_mm} mm lies {away:.3f} mm beside the volume's {grid.shape} grid"
            )
        found.append(SourceSlice(z=z, instance=instance))
    return tuple(sorted(found, key=lambda source: source.z))


def largest_plane(mask: BoolArray) -> int | None:
    """Returns the index along z of the plane with most voxels of ``mask``; None when it is empty.

    Args:
        mask: bool (z, y, x).
    """
    areas: npt.NDArray[np.int64] = mask.sum(axis=(1, 2))
    return int(areas.argmax()) if areas.any() else None
