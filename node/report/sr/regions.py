"""Measurements of liver and tumours: a volumetric group for each, and an outline on one slice that viewers can draw."""

from typing import Final

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    ContentItem,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    ReferencedSegment,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset

from engines.contours import enclosed_area, trace_outlines
from node.report import codes
from node.report.seg import split_provider
from node.report.segments import BoolArray, Segment
from node.report.slices import SourceSlice, largest_plane
from node.report.sources import UsedAcquisition

_PIXEL_CENTRE: Final = 0.5
"""SCOORD counts from the corner of the first pixel: its centre is at 0.5, 0.5. Source: PS3.3 C.18.6.1.2."""


def measure_region(
    segment: Segment,
    mask: BoolArray,
    used: UsedAcquisition,
    slices: tuple[SourceSlice, ...],
    segmentation: Dataset,
) -> list[ContentItem]:
    """Returns the measurement groups of one segment: TID 1411, then TID 1410 on its largest plane.

    Args:
        segment: the segment; both groups carry its tracking UID, because OHIF merges groups by it.
        mask: bool (z, y, x) on the portal-venous grid; an empty one gets no outline.
        used: the portal-venous acquisition.
        slices: its slices.
        segmentation: the SEG of the portal-venous acquisition.

    Source: PS3.16 TID 1411, 1410, 4019.
    """
    name, version = split_provider(segment.structure.provider)
    algorithm = AlgorithmIdentification(name=name, version=version, family=codes.ARTIFICIAL_INTELLIGENCE)
    groups = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(segment),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=segment.number,
            source_series=SourceSeriesForSegmentation(used.acquisition.series_instance_uid),
        ),
        finding_type=segment.property_type,
        finding_sites=[FindingSite(codes.LIVER)],
        measurements=_volume_measurements(segment, algorithm),
    )
    items: list[ContentItem] = list(groups)
    anchor = _outline(segment, mask, used, slices, algorithm)
    return items if anchor is None else [*items, *anchor]


def _volume_measurements(segment: Segment, algorithm: AlgorithmIdentification) -> list[Measurement]:
    structure = segment.structure
    found = [
        Measurement(
            name=codes.VOLUME, value=float(structure.volume_ml), unit=codes.MILLILITRE, algorithm_id=algorithm
        )
    ]
    if structure.longest_diameter_mm is not None:
        diameter = float(structure.longest_diameter_mm)
        found.append(
            Measurement(name=codes.LONG_AXIS, value=diameter, unit=codes.MILLIMETRE, algorithm_id=algorithm)
        )
    return found


def _outline(
    segment: Segment,
    mask: BoolArray,
    used: UsedAcquisition,
    slices: tuple[SourceSlice, ...],
    algorithm: AlgorithmIdentification,
) -> PlanarROIMeasurementsAndQualitativeEvaluations | None:
    plane = largest_plane(mask)
    source = next((source for source in slices if source.z == plane), None)
    if plane is None or source is None:
        return None
    polygon = trace_outlines(mask[plane])[0] + _PIXEL_CENTRE
    spacing_mm = used.volume.grid.spacing_mm
    area_mm2 = enclosed_area(polygon) * spacing_mm[1] * spacing_mm[2]
    instance = source.instance
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(segment),
        referenced_region=ImageRegion(
            graphic_type=GraphicTypeValues.POLYLINE,
            graphic_data=polygon.astype(np.float32),
            source_image=SourceImageForRegion(
                referenced_sop_class_uid=instance.sop_class_uid,
                referenced_sop_instance_uid=instance.sop_instance_uid,
                referenced_frame_numbers=[instance.frame_number] if instance.frame_number else None,
            ),
        ),
        finding_type=segment.property_type,
        finding_sites=[FindingSite(codes.LIVER)],
        measurements=[
            Measurement(name=codes.AREA, value=area_mm2, unit=codes.SQUARE_MILLIMETRE, algorithm_id=algorithm)
        ],
    )


def _tracking(segment: Segment) -> TrackingIdentifier:
    return TrackingIdentifier(uid=segment.tracking_uid, identifier=segment.label)
