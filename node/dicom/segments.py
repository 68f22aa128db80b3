"""One segment of a DICOM Segmentation for measuring: who drew it, and only if it lies on the image's own voxels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from engines.errors import GeometryMismatch, InvalidInput
from engines.volume import POSITION_TOLERANCE_MM, Grid, Volume
from node.dicom.headers import READ_FAULTS
from node.dicom.masks import read_segmentation

INDEX_TOLERANCE = 0.01
"""Voxels by which a frame may lie beside the image's grid: writers round positions to a few decimals (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnSegment:
    """One segment and its maker.

    Attributes:
        mask: bool, on the grid of the image.
        provider: the algorithm's name, else the manufacturer's; "" when neither is given.
        version: of the algorithm, else of the object's software; "" when not given.
    """

    mask: Volume
    provider: str
    version: str


def is_dicom(path: Path) -> bool:
    """Returns whether a file begins as a DICOM file does (PS3.10 section 7.1)."""
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_segment(path: Path, number: int, grid: Grid) -> DrawnSegment:
    """Returns one segment of a Segmentation object whose frames are slices of the image.

    Args:
        path: the DICOM file.
        number: Segment Number (0062,0004), from 1.
        grid: of the image. A mask on another grid would have to be interpolated, which changes features.

    Raises:
        GeometryMismatch: a frame does not lie on the image's grid.
        InvalidInput: the object holds no such segment, or its header cannot be decoded.
        InstanceRefused: the file is no segmentation, or its frames cannot be read.

    Source: PS3.3 C.8.20.2 (Segmentation Image Module), C.7.6.16 (functional groups).
    """
    segments = {segment.number: segment for segment in read_segmentation(path, grid)}
    if number not in segments:
        raise InvalidInput(f"{path.name} holds the segments {sorted(segments)}, not {number}")
    try:
        header = dcmread(path, stop_before_pixels=True)
        shared = header.SharedFunctionalGroupsSequence[0]
        for frame in header.PerFrameFunctionalGroupsSequence:
            _check_place(frame, shared, (int(header.Rows), int(header.Columns)), grid)
        provider, version = _read_maker(header, number)
    except READ_FAULTS as fault:
        raise InvalidInput(
            f"{path.name} cannot be read as a segmentation: {type(fault).__name__}: {fault}"
        ) from fault
    return DrawnSegment(mask=segments[number].mask, provider=provider, version=version)


def _read_maker(header: Dataset, number: int) -> tuple[str, str]:
    segment = next(item for item in header.SegmentSequence if int(item.SegmentNumber) == number)
    algorithm = (segment.get("SegmentationAlgorithmIdentificationSequence") or [Dataset()])[0]
    provider = (
        algorithm.get("AlgorithmName")
        or segment.get("SegmentAlgorithmName")
        or header.get("Manufacturer")
        or ""
    )
    version = algorithm.get("AlgorithmVersion") or header.get("SoftwareVersions") or ""
    return str(provider), version if isinstance(version, str) else "\\".join(str(part) for part in version)


def _check_place(frame: Dataset, shared: Dataset, size: tuple[int, int], grid: Grid) -> None:
    """Refuses a frame that is not a slice of the image.

    Raises:
        GeometryMismatch: its axes or spacing are not the image's, or it lies between or beside its voxels.
    """
    orientation = np.asarray(
        [float(value) for value in _group(frame, shared, "PlaneOrientationSequence").ImageOrientationPatient]
    )
    spacing = [float(value) for value in _group(frame, shared, "PixelMeasuresSequence").PixelSpacing]
    position = [float(value) for value in _group(frame, shared, "PlanePositionSequence").ImagePositionPatient]
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
    index = (np.linalg.inv(grid.affine()) @ np.array([*position, 1.0]))[:3]
    nearest = np.rint(index)
    if np.abs(index - nearest).max() > INDEX_TOLERANCE:
        raise GeometryMismatch(
            f"a frame of the segmentation lies between the image's voxels, at {index.tolist()}"
        )
    room = np.asarray(grid.shape) - np.array([1, *size])
    if (nearest < 0).any() or (nearest > room).any():
        raise GeometryMismatch(f"a frame of the segmentation lies outside the image, at {nearest.tolist()}")


def _group(frame: Dataset, shared: Dataset, name: str) -> Dataset:
    """Returns a functional group of one frame, its own or the shared one (PS3.3 C.7.6.16)."""
    sequence = frame.get(name) or shared[name].value
    item: Dataset = sequence[0]
    return item
