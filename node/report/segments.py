"""The structures as segments: which there are, their masks on each acquisition's own grid, their codes and colours."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from pydicom.sr.coding import Code

from engines.volume import Volume, resample
from node.report import codes
from node.report.record import Report, Structure
from node.report.sources import ReportSources, UsedAcquisition
from node.report.uids import derive_uid

BoolArray = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.unsignedinteger[Any]]

LIVER_NAME: Final = "liver"
TUMOUR_NAME: Final = "tumour"

MOST_LESION_SEGMENTS: Final = 8
"""Lesions with a segment and a measurement group of their own; smaller ones are part of the tumour. Bounds the memory
that a segmentation takes while it is encoded, about 40 MB a segment for 150 slices (OURS)."""

_LIVER_RGB: Final = (0.87, 0.72, 0.24)
_TUMOUR_RGB: Final = (0.86, 0.20, 0.18)
"""Colours that stay apart for the colour-blind, the same in every object and on the page (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One segment of the result.

    Attributes:
        number: segment number in every SEG of this result, from 1.
        structure: the structure of the report.
        rgb: display colour, each 0 to 1.
        tracking_uid: the same in SEG and SR, in every phase.
    """

    number: int
    structure: Structure
    category: Code
    property_type: Code
    rgb: tuple[float, float, float]
    tracking_uid: str

    @property
    def label(self) -> str:
        """Words for the segment: ``Liver``, ``Tumour``, ``Lesion 2``."""
        return self.structure.name.capitalize()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhaseMasks:
    """The structures on the native grid of one acquisition; a segment's own mask is made when it is asked for.

    Attributes:
        segments: the segments of the result.
        shape: of the grid, (z, y, x).
        liver: 0 or 1, uint8 (z, y, x), or None.
        lesions: labels 1..n, uint8 or uint16 (z, y, x), or None.
    """

    segments: tuple[Segment, ...]
    shape: tuple[int, int, int]
    liver: LabelArray | None
    lesions: LabelArray | None

    def of(self, segment: Segment) -> BoolArray:
        """Returns the mask of one segment, bool (z, y, x)."""
        source = self.liver if segment.structure.name == LIVER_NAME else self.lesions
        if source is None:
            return np.zeros(self.shape, dtype=np.bool_)
        return source == segment.structure.label if segment.structure.label else source > 0

    def named(self, name: str) -> BoolArray | None:
        """Returns the mask of the structure ``name``, or None where no segment has that name."""
        segment = next((segment for segment in self.segments if segment.structure.name == name), None)
        return None if segment is None else self.of(segment)

    @property
    def empty(self) -> bool:
        """Whether nothing is drawn on this grid."""
        return not any(array is not None and array.any() for array in (self.liver, self.lesions))


def list_segments(report: Report) -> tuple[Segment, ...]:
    """Returns the segments of the report: liver, tumour, then the largest lesions where there are several.

    Args:
        report: its structures; a single lesion is the tumour and gets no segment of its own.
    """
    lesions = [structure for structure in report.structures if structure.label > 0]
    chosen = [structure for structure in report.structures if structure.label == 0]
    if len(lesions) > 1 or not any(structure.name == TUMOUR_NAME for structure in chosen):
        chosen += lesions[:MOST_LESION_SEGMENTS]
    return tuple(_segment(number, structure, report) for number, structure in enumerate(chosen, start=1))


def list_hidden_lesions(report: Report) -> tuple[Structure, ...]:
    """Returns the lesions that are too many for a segment of their own; they are part of the tumour."""
    return tuple(structure for structure in report.structures if structure.label > 0)[MOST_LESION_SEGMENTS:]


def draw_masks(segments: tuple[Segment, ...], sources: ReportSources, used: UsedAcquisition) -> PhaseMasks:
    """Returns the structures on the native grid of ``used``.

    Args:
        segments: what ``list_segments`` gave.
        sources: masks on the portal-venous grid.
        used: the acquisition; its ``to_reference`` carries the masks to its grid, by nearest neighbour.
    """
    return PhaseMasks(
        segments=segments,
        shape=used.volume.grid.shape,
        liver=_carry(sources.liver, used),
        lesions=_carry(sources.lesions, used),
    )


def _carry(mask: Volume | None, used: UsedAcquisition) -> LabelArray | None:
    if mask is None:
        return None
    labels = mask.array.astype(np.uint8) if mask.array.dtype == np.bool_ else mask.array
    if used.to_reference is None and mask.grid.matches(used.volume.grid):
        return labels
    carried = resample(
        Volume(array=labels, grid=mask.grid),
        used.volume.grid,
        used.to_reference,
        interpolator=sitk.sitkNearestNeighbor,
        outside=0.0,
    )
    result: LabelArray = carried.array
    return result


def _segment(number: int, structure: Structure, report: Report) -> Segment:
    liver = structure.name == LIVER_NAME
    return Segment(
        number=number,
        structure=structure,
        category=codes.ANATOMICAL_STRUCTURE if liver else codes.ABNORMAL_STRUCTURE,
        property_type=codes.LIVER if liver else codes.LESION if structure.label else codes.NEOPLASM,
        rgb=_LIVER_RGB if liver else _TUMOUR_RGB,
        tracking_uid=derive_uid(report.study_instance_uid, "tracking", structure.name, structure.provider),
    )
