"""The structures as segments: which there are, their masks on each acquisition's own grid, their codes and colours."""

from dataclasses import dataclass
from typing import Final

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


def list_segments(report: Report) -> tuple[Segment, ...]:
    """Returns the segments of the report: liver, tumour, then each lesion where there are several.

    Args:
        report: its structures; a single lesion is the tumour and gets no segment of its own.
    """
    lesions = [structure for structure in report.structures if structure.label > 0]
    chosen = [structure for structure in report.structures if structure.label == 0]
    if len(lesions) > 1 or not any(structure.name == "tumour" for structure in chosen):
        chosen += lesions
    return tuple(_segment(number, structure, report) for number, structure in enumerate(chosen, start=1))


def draw_masks(
    segments: tuple[Segment, ...], sources: ReportSources, used: UsedAcquisition
) -> tuple[BoolArray, ...]:
    """Returns each segment's mask on the native grid of ``used``, bool (z, y, x), in the order of ``segments``.

    Args:
        segments: what ``list_segments`` gave.
        sources: masks on the portal-venous grid.
        used: the acquisition; its ``to_reference`` carries the masks to its grid, by nearest neighbour.
    """
    liver, lesions = (_carry(mask, used) for mask in (sources.liver, sources.lesions))
    empty = np.zeros(used.volume.grid.shape, dtype=np.bool_)
    masks: list[BoolArray] = []
    for segment in segments:
        name, label = segment.structure.name, segment.structure.label
        if name == "liver":
            masks.append(empty if liver is None else liver > 0)
        elif label > 0:
            masks.append(empty if lesions is None else lesions == label)
        else:
            masks.append(empty if lesions is None else lesions > 0)
    return tuple(masks)


def _carry(mask: Volume | None, used: UsedAcquisition) -> npt.NDArray[np.uint8] | None:
    if mask is None:
        return None
    labels = Volume(array=mask.array.astype(np.uint8), grid=mask.grid)
    if used.to_reference is None and mask.grid.matches(used.volume.grid):
        array: npt.NDArray[np.uint8] = labels.array
        return array
    carried = resample(
        labels, used.volume.grid, used.to_reference, interpolator=sitk.sitkNearestNeighbor, outside=0.0
    )
    result: npt.NDArray[np.uint8] = carried.array
    return result


def _segment(number: int, structure: Structure, report: Report) -> Segment:
    liver = structure.name == "liver"
    return Segment(
        number=number,
        structure=structure,
        category=codes.ANATOMICAL_STRUCTURE if liver else codes.ABNORMAL_STRUCTURE,
        property_type=codes.LIVER if liver else codes.LESION if structure.label else codes.NEOPLASM,
        rgb=_LIVER_RGB if liver else _TUMOUR_RGB,
        tracking_uid=derive_uid(report.study_instance_uid, "tracking", structure.name, structure.provider),
    )
