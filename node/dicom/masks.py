"""Reads segmentations made by others (DICOM SEG) onto the grid of a volume."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels

from engines.volume import Grid, Volume, resample
from node.dicom.headers import READ_FAULTS
from node.errors import InstanceRefused
from node.stacking import MAX_ROWS_OR_COLUMNS, MAX_VOXELS, ORIENTATION_TOLERANCE

SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
"""Source: PS3.4 B.5."""
FRACTION_INSIDE = 0.5
"""A voxel of a FRACTIONAL segmentation belongs to the segment from half of the maximum fractional value on (OURS)."""
OFF_PLANE_FRACTION = 0.1
"""Frames may lie off their regular planes by this part of the plane distance (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    """A coded entry (PS3.3 8.8)."""

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentMask:
    """One segment on the grid asked for.

    Attributes:
        number: Segment Number.
        label: Segment Label as its maker wrote it.
        category: Segmented Property Category, None when absent.
        property_type: Segmented Property Type, e.g. (10200004, SCT, Liver); None when absent.
        algorithm_type: MANUAL, SEMIAUTOMATIC or AUTOMATIC; "" when absent.
        tracking_uid: "" when absent.
        mask: bool on the grid.
    """

    number: int
    label: str
    category: Code | None
    property_type: Code | None
    algorithm_type: str
    tracking_uid: str
    mask: Volume


def read_segmentation(path: Path, grid: Grid, frame_of_reference_uid: str = "") -> tuple[SegmentMask, ...]:
    """Returns every segment of a SEG object on a grid, by nearest neighbour, in the order of the Segment Sequence.

    Args:
        path: an encoded SEG: BINARY, FRACTIONAL or LABELMAP.
        grid: of the volume that the masks shall lie on; it need not be that of the segmentation.
        frame_of_reference_uid: of the volume; another one in the object is refused, "" is not compared.

    Raises:
        InstanceRefused: no SEG, of another Frame of Reference, too large, or its frames are no regular planes.

    Source: PS3.3 A.51, C.8.20.2 (Segmentation Image Module).
    """
    try:
        dataset = dcmread(path)
        _check_object(dataset, path, frame_of_reference_uid)
        planes = _read_planes(dataset)
        own = _own_grid(dataset, planes)
        arrays = _read_arrays(dataset, planes, own)
        return tuple(
            _describe(item, arrays[int(item.SegmentNumber)], own, grid) for item in _segments(dataset)
        )
    except READ_FAULTS as fault:
        raise InstanceRefused(
            f"{path.name} cannot be read as a segmentation: {type(fault).__name__}: {fault}"
        ) from fault


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plane:
    """Where one frame lies and which segment it is; segment 0 = a label map."""

    position_mm: tuple[float, float, float]
    orientation: tuple[float, ...]
    segment: int


def _check_object(dataset: Dataset, path: Path, frame_of_reference_uid: str) -> None:
    """Refuses another object, another patient space and a size beyond the limits."""
    if dataset.SOPClassUID not in (SEGMENTATION_STORAGE, LABEL_MAP_SEGMENTATION_STORAGE):
        raise InstanceRefused(f"{path.name} is of SOP class {dataset.SOPClassUID}, not a segmentation")
    own = str(dataset.get("FrameOfReferenceUID", ""))
    if frame_of_reference_uid and own and own != frame_of_reference_uid:
        raise InstanceRefused(
            f"{path.name} lies in Frame of Reference {own}, the volume in {frame_of_reference_uid}"
        )
    rows, columns, frames = int(dataset.Rows), int(dataset.Columns), int(dataset.NumberOfFrames)
    if max(rows, columns) > MAX_ROWS_OR_COLUMNS or rows * columns * frames > MAX_VOXELS:
        raise InstanceRefused(
            f"{path.name} claims {frames} frames of {rows} x {columns}; the limit is {MAX_VOXELS} voxels"
        )
    if len(dataset.PerFrameFunctionalGroupsSequence) != frames:
        raise InstanceRefused(
            f"{path.name} claims {frames} frames and describes {len(dataset.PerFrameFunctionalGroupsSequence)}"
        )


def _segments(dataset: Dataset) -> Iterator[Dataset]:
    """The described segments; a label map may describe its background as segment 0."""
    for item in dataset.SegmentSequence:
        if int(item.SegmentNumber) > 0:
            yield item


def _read_planes(dataset: Dataset) -> list[_Plane]:
    """Position, orientation and segment of every frame."""
    (shared,) = dataset.SharedFunctionalGroupsSequence
    planes = []
    for group in dataset.PerFrameFunctionalGroupsSequence:
        oriented = group if "PlaneOrientationSequence" in group else shared
        placed = group if "PlanePositionSequence" in group else shared
        named = group if "SegmentIdentificationSequence" in group else shared
        segment = 0
        if "SegmentIdentificationSequence" in named:
            segment = int(named.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        x, y, z = (float(part) for part in placed.PlanePositionSequence[0].ImagePositionPatient)
        orientation = tuple(float(p) for p in oriented.PlaneOrientationSequence[0].ImageOrientationPatient)
        planes.append(_Plane(position_mm=(x, y, z), orientation=orientation, segment=segment))
    return planes


def _own_grid(dataset: Dataset, planes: list[_Plane]) -> Grid:
    """The smallest regular grid that holds every frame."""
    cosines = np.array([plane.orientation for plane in planes])
    if float(np.ptp(cosines, axis=0).max()) > ORIENTATION_TOLERANCE:
        raise InstanceRefused("frames of the segmentation differ in orientation")
    row, column = cosines[0, :3], cosines[0, 3:]
    normal = np.cross(row, column)
    groups = [*dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence[0]]
    measures = next(group.PixelMeasuresSequence[0] for group in groups if "PixelMeasuresSequence" in group)
    along = np.unique(np.round([np.dot(plane.position_mm, normal) for plane in planes], 3))
    step = _plane_distance(np.diff(along), measures)
    places = (along - along[0]) / step
    if np.abs(places - np.rint(places)).max() > OFF_PLANE_FRACTION:
        raise InstanceRefused(
            f"frames of the segmentation are no regular planes: distances {np.unique(np.diff(along))} mm"
        )
    lowest = min(planes, key=lambda plane: float(np.dot(plane.position_mm, normal)))
    count = round(float(places[-1])) + 1
    if count * int(dataset.Rows) * int(dataset.Columns) > MAX_VOXELS:
        raise InstanceRefused(f"the segmentation spans {count} planes; the limit is {MAX_VOXELS} voxels")
    spacing = [float(part) for part in measures.PixelSpacing]
    z, y, x = (tuple(float(part) for part in axis) for axis in (normal, column, row))
    return Grid(
        shape=(count, int(dataset.Rows), int(dataset.Columns)),
        spacing_mm=(step, spacing[0], spacing[1]),
        origin_mm=lowest.position_mm,
        axes=((z[0], z[1], z[2]), (y[0], y[1], y[2]), (x[0], x[1], x[2])),
    )


def _plane_distance(steps: npt.NDArray[np.float64], measures: Dataset) -> float:
    """The distance of neighbouring planes, mm: the declared one where it fits, for planes without a segment are left out."""
    declared = [float(measures.get(name) or 0.0) for name in ("SpacingBetweenSlices", "SliceThickness")]
    for distance in declared:
        if distance <= 0:
            continue
        planes = steps / distance
        if np.all(np.rint(planes) >= 1) and np.all(np.abs(planes - np.rint(planes)) <= OFF_PLANE_FRACTION):
            return distance
    return float(steps.min()) if len(steps) else max(*declared, 1.0)


def _read_arrays(dataset: Dataset, planes: list[_Plane], own: Grid) -> dict[int, npt.NDArray[np.bool_]]:
    """Decodes the frames into one mask per segment."""
    numbers = [int(item.SegmentNumber) for item in _segments(dataset)]
    arrays = {number: np.zeros(own.shape, dtype=np.bool_) for number in numbers}
    fractional = str(dataset.get("SegmentationType", "BINARY")) == "FRACTIONAL"
    least = FRACTION_INSIDE * int(dataset.get("MaximumFractionalValue", 255)) if fractional else 1
    normal, origin = np.array(own.axes[0]), np.array(own.origin_mm)
    for plane, frame in zip(planes, iter_pixels(dataset, raw=True), strict=True):
        place = round(float((np.array(plane.position_mm) - origin) @ normal) / own.spacing_mm[0])
        if plane.segment:
            arrays[plane.segment][place] |= frame >= least
            continue
        for number in numbers:
            arrays[number][place] |= frame == number
    return arrays


def _describe(item: Dataset, array: npt.NDArray[np.bool_], own: Grid, grid: Grid) -> SegmentMask:
    """Makes the record of one segment, its mask brought to the grid."""
    made = Volume(array=array, grid=own)
    if not own.matches(grid):
        moved = resample(made, grid, interpolator=sitk.sitkNearestNeighbor, outside=0)
        made = Volume(array=moved.array.astype(np.bool_), grid=grid)
    return SegmentMask(
        number=int(item.SegmentNumber),
        label=str(item.get("SegmentLabel", "")),
        category=_code(item, "SegmentedPropertyCategoryCodeSequence"),
        property_type=_code(item, "SegmentedPropertyTypeCodeSequence"),
        algorithm_type=str(item.get("SegmentAlgorithmType", "")),
        tracking_uid=str(item.get("TrackingUID", "")),
        mask=made,
    )


def _code(item: Dataset, keyword: str) -> Code | None:
    """The first code of a sequence, None when there is none."""
    if not item.get(keyword):
        return None
    entry = item[keyword].value[0]
    return Code(
        value=str(entry.get("CodeValue", "")),
        scheme=str(entry.get("CodingSchemeDesignator", "")),
        meaning=str(entry.get("CodeMeaning", "")),
    )
