"""Judges from headers alone whether the images of one acquisition lie on each other as a regular stack, and how."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.volume import Grid
from node.errors import SeriesRefused
from node.study import CT_STORAGE, Acquisition, Instance

MAX_ROWS_OR_COLUMNS = 2048
"""Twice the largest CT matrix on the market; a larger claim is refused before anything is allocated (OURS)."""
MAX_VOXELS = 700_000_000
"""1.4 GB as int16: more than 2,600 slices of 512 x 512 (OURS)."""

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine between two images of one volume, and of a cosine's length from 1 (OURS)."""
TILT_TOLERANCE_DEGREES = 0.1
"""Largest angle between the line of slice centres and the slice normal: 0.5 mm over 300 mm (OURS)."""
STEP_TOLERANCE_MM = 0.05
"""Positions are written with a limited number of decimals; steps may differ by this (OURS) ..."""
STEP_TOLERANCE_FRACTION = 0.02
"""... or by this part of a step, whichever is larger (OURS)."""
SPACING_TOLERANCE_FRACTION = 1e-4
"""Largest relative difference of pixel spacings within one volume: 0.05 mm over a 512 mm field (OURS)."""

HU_RESCALE_TYPES = frozenset({"", "HU", "US", "HU_MOD"})
"""Rescale Types (0028,1054) whose values may be Hounsfield units (US = unspecified). Source: PS3.3 C.11.1.1.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stacking:
    """How the images of an acquisition lie on each other.

    Attributes:
        order: instances sorted along the slice normal, which is the direction of the volume's z index.
        grid: the grid of the volume.
    """

    order: tuple[Instance, ...]
    grid: Grid


def stack_slices(acquisition: Acquisition) -> Stacking:
    """Returns order and grid of an acquisition's images, from headers alone.

    Any axial, coronal or sagittal orientation, feet or head first, is kept as it is in ``Grid.axes``: z grows along the
    slice normal (row cosine x column cosine), y with the row index, x with the column index.

    Args:
        acquisition: at least two images of one orientation at different positions.

    Raises:
        SeriesRefused: too few images, another size, orientation or spacing in between, duplicate positions, missing
            slices, uneven steps, tilted gantry; the message has the numbers.

    Source: PS3.3 C.7.6.2.1.1 (Image Position and Orientation).
    """
    label, instances = acquisition.label, acquisition.instances
    _check_images(label, instances)
    row, column = _axes(label, instances)
    normal = np.cross(row, column)
    positions = np.array([instance.position_mm for instance in instances], dtype=np.float64)
    along = positions @ normal
    ranks = np.argsort(along, kind="stable")
    _check_duplicates(label, along[ranks])
    _check_tilt(label, positions[ranks], normal, instances[0].gantry_tilt_degrees)
    step = _check_steps(label, along[ranks])
    first = instances[int(ranks[0])]
    spacing = first.pixel_spacing_mm or (1.0, 1.0)
    return Stacking(
        order=tuple(instances[int(rank)] for rank in ranks),
        grid=Grid(
            shape=(len(instances), first.rows, first.columns),
            spacing_mm=(step, spacing[0], spacing[1]),
            origin_mm=_point(positions[int(ranks[0])]),
            axes=(_point(normal), _point(column), _point(row)),
        ),
    )


def _check_images(label: str, instances: tuple[Instance, ...]) -> None:
    """Refuses what is no stack of CT images of one size within the limits."""
    if len(instances) < 2:
        raise SeriesRefused(f"{label}: {len(instances)} image; a volume needs at least 2")
    for instance in instances:
        if instance.sop_class_uid not in CT_STORAGE:
            raise SeriesRefused(
                f"{label}: {instance.sop_instance_uid} is of SOP class {instance.sop_class_uid}, not CT"
            )
        if not instance.frame_number and instance.number_of_frames != 1:
            raise SeriesRefused(
                f"{label}: {instance.sop_instance_uid} holds {instance.number_of_frames} frames; a CT image has one"
            )
        if instance.position_mm is None or instance.orientation is None or instance.pixel_spacing_mm is None:
            raise SeriesRefused(
                f"{label}: {instance.sop_instance_uid} has no position, orientation or pixel spacing"
            )
        if instance.rescale_type.upper() not in HU_RESCALE_TYPES:
            raise SeriesRefused(f"{label}: pixels are in '{instance.rescale_type}', not in Hounsfield units")
    frames = {instance.frame_of_reference_uid for instance in instances}
    if len(frames) > 1:
        raise SeriesRefused(
            f"{label}: images in {len(frames)} Frames of Reference: their positions cannot be compared"
        )
    sizes = Counter((instance.rows, instance.columns) for instance in instances)
    if len(sizes) > 1:
        raise SeriesRefused(f"{label}: images of different size: {_counts(sizes)} (rows, columns)")
    rows, columns = next(iter(sizes))
    if not (1 <= rows <= MAX_ROWS_OR_COLUMNS and 1 <= columns <= MAX_ROWS_OR_COLUMNS):
        raise SeriesRefused(f"{label}: images of {rows} x {columns}; expected 1 to {MAX_ROWS_OR_COLUMNS}")
    if rows * columns * len(instances) > MAX_VOXELS:
        raise SeriesRefused(
            f"{label}: {len(instances)} images of {rows} x {columns} are {rows * columns * len(instances)} voxels; "
            f"the limit is {MAX_VOXELS}"
        )
    spacings = np.array([instance.pixel_spacing_mm for instance in instances])
    if spacings.min() <= 0:
        raise SeriesRefused(f"{label}: pixel spacing {spacings.min():g} mm; expected more than 0")
    if np.ptp(spacings, axis=0).max() > SPACING_TOLERANCE_FRACTION * spacings.min():
        low, high = spacings.min(axis=0).tolist(), spacings.max(axis=0).tolist()
        raise SeriesRefused(f"{label}: pixel spacing differs between images, from {low} to {high} mm")


def _axes(
    label: str, instances: tuple[Instance, ...]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns row and column cosine as orthogonal unit vectors, one orientation for all images."""
    cosines = np.array([instance.orientation for instance in instances], dtype=np.float64)
    spread = float(np.ptp(cosines, axis=0).max())
    if spread > ORIENTATION_TOLERANCE:
        kinds = len({tuple(line) for line in np.round(cosines, 2).tolist()})
        raise SeriesRefused(
            f"{label}: mixed orientation: direction cosines differ by up to {spread:.3f} "
            f"between images ({kinds} orientations)"
        )
    row, column = cosines[0, :3], cosines[0, 3:]
    lengths = (float(np.linalg.norm(row)), float(np.linalg.norm(column)))
    if (
        max(abs(length - 1.0) for length in lengths) > ORIENTATION_TOLERANCE
        or abs(row @ column) > ORIENTATION_TOLERANCE
    ):
        raise SeriesRefused(
            f"{label}: direction cosines {cosines[0].tolist()} are not orthogonal unit vectors"
        )
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _check_duplicates(label: str, along: npt.NDArray[np.float64]) -> None:
    """Refuses positions that occur twice.

    Args:
        label: of the acquisition.
        along: positions along the normal, ascending, mm.
    """
    repeated = int((np.diff(along) <= STEP_TOLERANCE_MM).sum())
    if repeated == len(along) - 1:
        raise SeriesRefused(f"{label}: {len(along)} images at one position {along[0]:.2f} mm: no volume")
    if repeated:
        raise SeriesRefused(
            f"{label}: duplicate positions: {len(along)} images at {len(along) - repeated} positions; "
            "several passes in one series that no attribute separates"
        )


def _check_steps(label: str, along: npt.NDArray[np.float64]) -> float:
    """Returns the distance of neighbouring slices, mm; refuses gaps and uneven steps (arguments as above)."""
    steps = np.diff(along)
    median = float(np.median(steps))
    tolerance = max(STEP_TOLERANCE_MM, STEP_TOLERANCE_FRACTION * median)
    off = np.abs(steps - median) > tolerance
    if off.any():
        worst = int(np.argmax(np.abs(steps - median)))
        multiples = np.round(steps[off] / median)
        whole = bool(
            np.all((multiples >= 2) & (np.abs(steps[off] - multiples * median) <= tolerance * multiples))
        )
        what = f"missing slices: {int((multiples - 1).sum())}" if whole else "uneven slice increment"
        raise SeriesRefused(
            f"{label}: {what}; {int(off.sum())} of {len(steps)} steps differ from {median:.3f} mm, "
            f"the largest difference is {steps[worst]:.3f} mm at {along[worst]:.2f} mm"
        )
    return float((along[-1] - along[0]) / len(steps))


def _check_tilt(
    label: str, positions: npt.NDArray[np.float64], normal: npt.NDArray[np.float64], tag_degrees: float | None
) -> None:
    """Refuses slices whose centres do not lie along their normal, and a tilt that the orientation denies."""
    way = positions[-1] - positions[0]
    forward = float(way @ normal)
    sideways = float(np.linalg.norm(way - forward * normal))
    degrees = math.degrees(math.atan2(sideways, forward))
    if degrees > TILT_TOLERANCE_DEGREES:
        raise SeriesRefused(
            f"{label}: gantry tilt: slices shift by {sideways:.1f} mm over {forward:.1f} mm, {degrees:.1f} degrees; "
            f"the header says {tag_degrees if tag_degrees is not None else 'nothing'}"
        )
    single = positions - positions[0]
    drift = float(np.linalg.norm(single - np.outer(single @ normal, normal), axis=1).max())
    if drift > 1.0:
        raise SeriesRefused(f"{label}: slice centres leave their line by up to {drift:.1f} mm")
    from_axial = math.degrees(math.acos(min(1.0, abs(float(normal[2])))))
    if tag_degrees is not None and abs(tag_degrees) > 1.0 and from_axial < 0.5:
        raise SeriesRefused(
            f"{label}: the header says a gantry tilt of {tag_degrees:.1f} degrees, the orientation says "
            f"{from_axial:.1f}; they contradict each other"
        )


def _counts(counter: Counter[tuple[int, int]]) -> str:
    """A counter in words."""
    return ", ".join(f"{count} of {value}" for value, count in counter.most_common())


def _point(vector: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """A vector as a tuple (with -0.0 made 0.0)."""
    x, y, z = (float(part) + 0.0 for part in vector)
    return (x, y, z)
