"""Makes one volume of Hounsfield units from the images of one acquisition, or refuses with the numbers."""

import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import iter_pixels

from engines.volume import Grid, Volume
from node.dicom.headers import CT_STORAGE, READ_FAULTS
from node.errors import SeriesRefused
from node.study import Acquisition, Instance

AIR_HU = -1024
"""What padding becomes, and the lowest value kept: nothing in a CT is less dense than air (-1000 HU by definition)."""
HIGHEST_HU = 32767
"""Largest value of the int16 volumes; only metal on an extended scale lies above it, and is clipped to it."""

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


def read_volume(acquisition: Acquisition) -> Volume:
    """Returns the acquisition's pixels as int16 Hounsfield units on its native grid.

    Rescale slope and intercept are applied image by image; padding and values below air become -1024 HU. Compressed
    transfer syntaxes (RLE, JPEG lossless, JPEG-LS, JPEG 2000) are decoded. Nothing is interpolated.

    Args:
        acquisition: as split by ``node.phases.acquisitions``.

    Raises:
        SeriesRefused: the images do not make a volume (see ``stack_slices``), are too large, are not Hounsfield units,
            or their pixels cannot be decoded.
    """
    stacking = stack_slices(acquisition)
    array = np.empty(stacking.grid.shape, dtype=np.int16)
    rank_of_frame: dict[Path, list[tuple[int, Instance]]] = {}
    for rank, instance in enumerate(stacking.order):
        rank_of_frame.setdefault(instance.path, []).append((rank, instance))
    for path, members in rank_of_frame.items():
        try:
            _read_file(path, members, array)
        except (SeriesRefused, *READ_FAULTS, RuntimeError) as fault:
            if isinstance(fault, SeriesRefused):
                raise
            raise SeriesRefused(
                f"{acquisition.label}: pixels of {members[0][1].sop_instance_uid} cannot be decoded: "
                f"{type(fault).__name__}: {fault}"
            ) from fault
    return Volume(array=array, grid=stacking.grid)


def _check_images(label: str, instances: tuple[Instance, ...]) -> None:
    """Refuses what is no stack of CT images of one size within the limits."""
    if len(instances) < 2:
        raise SeriesRefused(f"{label}: {len(instances)} image; a volume needs at least 2")
    for instance in instances:
        if instance.sop_class_uid not in CT_STORAGE:
            raise SeriesRefused(
                f"{label}: {instance.sop_instance_uid} is of SOP class {instance.sop_class_uid}, not CT"
            )
        if instance.position_mm is None or instance.orientation is None or instance.pixel_spacing_mm is None:
            raise SeriesRefused(
                f"{label}: {instance.sop_instance_uid} has no position, orientation or pixel spacing"
            )
        if instance.rescale_type.upper() not in HU_RESCALE_TYPES:
            raise SeriesRefused(f"{label}: pixels are in '{instance.rescale_type}', not in Hounsfield units")
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
    if spacings.min() <= 0 or np.ptp(spacings, axis=0).max() > SPACING_TOLERANCE_FRACTION * spacings.min():
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


def _read_file(path: Path, members: list[tuple[int, Instance]], array: npt.NDArray[np.int16]) -> None:
    """Decodes the wanted frames of one file into their places of the volume."""
    with path.open("rb") as stream:
        dataset = dcmread(stream)
        _check_pixels(dataset, members[0][1])
        _check_codestreams(dataset, members[0][1])
        whole = members[0][1].frame_number == 0
        wanted = [0] if whole else [instance.frame_number - 1 for _, instance in members]
        frames = iter_pixels(dataset, indices=wanted, raw=True)
        for (rank, instance), stored in zip(members, frames, strict=True):
            array[rank] = _hounsfield(stored, _scaling(dataset, instance), instance)


def _check_pixels(dataset: Dataset, instance: Instance) -> None:
    """Refuses a pixel description that differs from the header read at first, or is no grey CT image."""
    uid = instance.sop_instance_uid
    if (int(dataset.Rows), int(dataset.Columns)) != (instance.rows, instance.columns):
        raise SeriesRefused(f"{uid}: the file changed since its header was read")
    if int(dataset.SamplesPerPixel) != 1 or dataset.PhotometricInterpretation != "MONOCHROME2":
        raise SeriesRefused(
            f"{uid}: {dataset.SamplesPerPixel} samples of {dataset.PhotometricInterpretation}; expected 1 of MONOCHROME2"
        )
    if int(dataset.BitsAllocated) not in (8, 16) or int(dataset.HighBit) != int(dataset.BitsStored) - 1:
        raise SeriesRefused(
            f"{uid}: {dataset.BitsStored} bits with high bit {dataset.HighBit} in {dataset.BitsAllocated}; "
            "expected 8 or 16 allocated bits and the high bit at the end of the stored ones"
        )


def _check_codestreams(dataset: Dataset, instance: Instance) -> None:
    """Refuses a compressed image whose own header claims another size: its decoder would allocate that."""
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    for frame in generate_frames(dataset.PixelData, number_of_frames=count):
        size = _codestream_size(frame)
        if size is not None and size != (instance.rows, instance.columns):
            raise SeriesRefused(
                f"{instance.sop_instance_uid}: compressed image of {size[0]} x {size[1]}, header says "
                f"{instance.rows} x {instance.columns}"
            )


def _codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Returns (rows, columns) of a JPEG 2000 or JPEG family codestream, None for RLE (which has no size of its own).

    Source: ITU-T T.800 A.5.1 (SIZ), ITU-T T.81 B.2.2 (SOF), ITU-T T.87 C.2.2 (SOF55).
    """
    if frame[:4] == b"\xff\x4f\xff\x51":
        width, height, left, top = struct.unpack(">IIII", frame[8:24])
        return height - top, width - left
    if frame[:2] != b"\xff\xd8":
        return None
    place = 2
    while place + 9 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        length = int.from_bytes(frame[place + 2 : place + 4], "big")
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">HH", frame[place + 5 : place + 9])
            return rows, columns
        place += 2 + length
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scaling:
    """How stored values become Hounsfield units."""

    slope: float
    intercept: float
    padding: tuple[int, int] | None


def _scaling(dataset: Dataset, instance: Instance) -> _Scaling:
    """Reads rescale slope, intercept and padding of an image or a frame."""
    holder: Any = dataset
    if instance.frame_number:
        groups = [dataset.PerFrameFunctionalGroupsSequence[instance.frame_number - 1]]
        groups += list(dataset.get("SharedFunctionalGroupsSequence", []))
        holder = next(
            (
                g.PixelValueTransformationSequence[0]
                for g in groups
                if "PixelValueTransformationSequence" in g
            ),
            dataset,
        )
    slope, intercept = holder.get("RescaleSlope"), holder.get("RescaleIntercept")
    if slope is None or intercept is None or not math.isfinite(float(slope)) or float(slope) == 0:
        raise SeriesRefused(
            f"{instance.sop_instance_uid}: rescale slope {slope} and intercept {intercept}; a CT image needs both"
        )
    padding = dataset.get("PixelPaddingValue")
    limit = dataset.get("PixelPaddingRangeLimit", padding)
    pad = (min(int(padding), int(limit)), max(int(padding), int(limit))) if padding is not None else None
    return _Scaling(slope=float(slope), intercept=float(intercept), padding=pad)


def _hounsfield(stored: npt.NDArray[Any], scaling: _Scaling, instance: Instance) -> npt.NDArray[np.int16]:
    """Returns one image in Hounsfield units.

    Source: PS3.3 C.11.1 (modality transform), C.7.5.1.1.2 (pixel padding).
    """
    if stored.shape != (instance.rows, instance.columns):
        raise SeriesRefused(
            f"{instance.sop_instance_uid}: decoded {stored.shape}, header says {instance.rows} x {instance.columns}"
        )
    if scaling.slope == int(scaling.slope) and scaling.intercept == int(scaling.intercept):
        values = stored.astype(np.int32) * int(scaling.slope) + int(scaling.intercept)
    else:
        values = np.rint(stored * scaling.slope + scaling.intercept).astype(np.int32)
    if scaling.padding is not None:
        values[(stored >= scaling.padding[0]) & (stored <= scaling.padding[1])] = AIR_HU
    clipped: npt.NDArray[np.int16] = np.clip(values, AIR_HU, HIGHEST_HU).astype(np.int16)
    return clipped


def _counts(counter: Counter[tuple[int, int]]) -> str:
    """A counter in words."""
    return ", ".join(f"{count} of {value}" for value, count in counter.most_common())


def _point(vector: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """A vector as a tuple (with -0.0 made 0.0)."""
    x, y, z = (float(part) + 0.0 for part in vector)
    return (x, y, z)
