"""Reads one segment of a DICOM Segmentation as a mask on the grid of the image it was drawn on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset

from engines.errors import GeometryMismatch, InvalidInput
from engines.volume import POSITION_TOLERANCE_MM, Grid, Volume
from node.dicom.headers import READ_FAULTS

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
"""Source: PS3.4 B.5."""
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Source: PS3.4 B.5 (2024e)."""

OCCUPIED_FRACTION = 0.5
"""Share of the maximum fractional value from which a voxel of a FRACTIONAL segmentation counts as inside (OURS)."""

INDEX_TOLERANCE = 0.01
"""Voxels by which a frame may lie beside the image's grid: writers round positions to a few decimals (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentMask:
    """One segment.

    Attributes:
        mask: bool, on the grid of the image.
        provider: the algorithm's name, or the manufacturer's; "" when neither is given.
        version: the software's version; "" when not given.
    """

    mask: Volume
    provider: str
    version: str


def is_dicom(path: Path) -> bool:
    """Returns whether a file begins as a DICOM file does (PS3.10 section 7.1)."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_segment(path: Path, number: int, grid: Grid) -> SegmentMask:
    """Returns one segment of a Segmentation or Label Map Segmentation object.

    Args:
        path: the DICOM file.
        number: Segment Number (0062,0004), from 1.
        grid: of the image; frames are put where they lie, slices without a frame are empty.

    Raises:
        GeometryMismatch: a frame does not lie on the image's grid.
        InvalidInput: the file is no segmentation, holds no such segment, or cannot be decoded.

    Source: PS3.3 C.8.20.2 (Segmentation Image Module), C.8.20.3 (functional group macros).
    """
    try:
        dataset = dcmread(path)
        sop_class = str(dataset.SOPClassUID)
        if sop_class not in (SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE):
            raise InvalidInput(f"{path.name} is of SOP class {dataset.SOPClassUID.name}, not a segmentation")
        segment = _find_segment(dataset, number, path)
        mask = _place_frames(dataset, number, grid)
    except READ_FAULTS as fault:
        raise InvalidInput(
            f"{path.name} cannot be read as a segmentation: {type(fault).__name__}: {fault}"
        ) from fault
    provider = str(segment.get("SegmentAlgorithmName") or dataset.get("Manufacturer") or "")
    version = dataset.get("SoftwareVersions") or ""
    return SegmentMask(
        mask=Volume(array=mask, grid=grid),
        provider=provider,
        version=version if isinstance(version, str) else "\\".join(str(part) for part in version),
    )


def _find_segment(dataset: Dataset, number: int, path: Path) -> Dataset:
    known = {int(segment.SegmentNumber): segment for segment in dataset.SegmentSequence}
    if number not in known:
        raise InvalidInput(f"{path.name} holds the segments {sorted(known)}, not {number}")
    return known[number]


def _place_frames(dataset: Dataset, number: int, grid: Grid) -> npt.NDArray[np.bool_]:
    per_frame = dataset.PerFrameFunctionalGroupsSequence
    frames = int(dataset.NumberOfFrames)
    if frames != len(per_frame):
        raise InvalidInput(f"the segmentation claims {frames} frames and describes {len(per_frame)}")
    most = grid.shape[0] * len(dataset.SegmentSequence)
    if frames > most:
        raise GeometryMismatch(
            f"the segmentation has {frames} frames, its segments in the image at most {most}"
        )
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows > grid.shape[1] or columns > grid.shape[2]:
        raise GeometryMismatch(
            f"the segmentation has {rows} x {columns} pixels, the image {grid.shape[1]} x {grid.shape[2]}"
        )
    shared = dataset.SharedFunctionalGroupsSequence[0]
    label_map = str(dataset.SOPClassUID) == LABEL_MAP_SEGMENTATION_STORAGE
    wanted = [
        index for index, groups in enumerate(per_frame) if label_map or _segment_of(groups, shared) == number
    ]
    mask = np.zeros(grid.shape, dtype=np.bool_)
    if not wanted:
        return mask
    pixels = dataset.pixel_array.reshape(frames, rows, columns)
    lowest = _lowest_value(dataset)
    for index in wanted:
        z, y, x = _find_place(per_frame[index], shared, grid)
        if not (
            0 <= z < grid.shape[0] and 0 <= y <= grid.shape[1] - rows and 0 <= x <= grid.shape[2] - columns
        ):
            raise GeometryMismatch(f"frame {index + 1} of the segmentation lies outside the image")
        inside = pixels[index] == number if label_map else pixels[index] >= lowest
        mask[z, y : y + rows, x : x + columns] |= inside
    return mask


def _lowest_value(dataset: Dataset) -> float:
    """Returns the smallest pixel value that is inside."""
    if str(dataset.get("SegmentationType", "BINARY")) == "FRACTIONAL":
        return OCCUPIED_FRACTION * int(dataset.MaximumFractionalValue)
    return 1.0


def _segment_of(groups: Dataset, shared: Dataset) -> int:
    return int(_group(groups, shared, "SegmentIdentificationSequence").ReferencedSegmentNumber)


def _find_place(groups: Dataset, shared: Dataset, grid: Grid) -> tuple[int, int, int]:
    """Returns the index (z, y, x) in the image of a frame's first pixel.

    Raises:
        GeometryMismatch: the frame's axes or spacing are not the image's, or it lies between its voxels.
    """
    orientation = np.asarray(
        [float(value) for value in _group(groups, shared, "PlaneOrientationSequence").ImageOrientationPatient]
    )
    spacing = [float(value) for value in _group(groups, shared, "PixelMeasuresSequence").PixelSpacing]
    position = [
        float(value) for value in _group(groups, shared, "PlanePositionSequence").ImagePositionPatient
    ]
    axes = np.concatenate([grid.axes[2], grid.axes[1]])
    if np.abs(orientation - axes).max() > INDEX_TOLERANCE / max(grid.shape):
        raise GeometryMismatch(
            f"the segmentation's rows run along {orientation.tolist()}, the image's {axes.tolist()}"
        )
    apart = np.abs(np.asarray(spacing) - np.asarray(grid.spacing_mm[1:])) * np.asarray(grid.shape[1:])
    if apart.max() > POSITION_TOLERANCE_MM:
        raise GeometryMismatch(
            f"the segmentation's pixels are {spacing} mm apart, the image's {grid.spacing_mm[1:]}"
        )
    index = np.linalg.inv(grid.affine()) @ np.array([*position, 1.0])
    nearest = np.rint(index[:3])
    if np.abs(index[:3] - nearest).max() > INDEX_TOLERANCE:
        raise GeometryMismatch(
            f"a frame of the segmentation lies between the image's voxels, at {index[:3].tolist()}"
        )
    z, y, x = (int(value) for value in nearest)
    return z, y, x


def _group(groups: Dataset, shared: Dataset, name: str) -> Dataset:
    """Returns a functional group of one frame, its own or the shared one (PS3.3 C.7.6.16)."""
    sequence = groups.get(name) or shared[name].value
    item: Dataset = sequence[0]
    return item
