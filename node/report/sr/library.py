"""The image library: the acquisitions used, each with the few slices that show liver and tumours best."""

from highdicom.sr import ContentItem, ImageContentItem

from node.report import codes
from node.report.record import Report
from node.report.segments import PhaseMasks
from node.report.slices import SourceSlice, largest_plane
from node.report.sources import UsedAcquisition
from node.report.sr.items import CONTAINS, HAS_ACQ_CONTEXT, code, container, number, text


def list_key_slices(slices: tuple[SourceSlice, ...], masks: PhaseMasks | None) -> tuple[SourceSlice, ...]:
    """Returns the slices on which a structure is largest, each once; the middle one where nothing was drawn.

    Args:
        slices: the acquisition's slices, ascending.
        masks: the structures on the acquisition's grid, or None.
    """
    planes = set() if masks is None else {largest_plane(masks.of(segment)) for segment in masks.segments}
    chosen = tuple(source for source in slices if source.z in planes)
    return chosen or (slices[len(slices) // 2],)


def catalogue(
    report: Report, acquisitions: list[tuple[UsedAcquisition, tuple[SourceSlice, ...]]]
) -> ContentItem | None:
    """Returns the image library with one group per acquisition; None without acquisitions.

    Args:
        report: its phases tell the seconds after injection.
        acquisitions: the acquisitions used, each with its key slices.

    Source: PS3.16 TID 1600, 1601, 1602.
    """
    groups = [_group(report, used, slices) for used, slices in acquisitions]
    return container(codes.IMAGE_LIBRARY, groups, template="1600") if groups else None


def _group(report: Report, used: UsedAcquisition, slices: tuple[SourceSlice, ...]) -> ContentItem:
    items: list[ContentItem] = [
        code(codes.MODALITY, codes.CT_MODALITY, HAS_ACQ_CONTEXT),
        code(codes.TARGET_REGION, codes.ABDOMEN, HAS_ACQ_CONTEXT),
        text(codes.CONTRAST_PHASE, used.phase.value, HAS_ACQ_CONTEXT),
    ]
    seconds = _seconds_after_injection(report, used)
    if seconds is not None:
        items.append(number(codes.INJECTION_INTERVAL, seconds, codes.SECOND, HAS_ACQ_CONTEXT))
    for source in slices:
        frame = source.instance.frame_number
        items.append(
            ImageContentItem(
                name=codes.SOURCE,
                referenced_sop_class_uid=source.instance.sop_class_uid,
                referenced_sop_instance_uid=source.instance.sop_instance_uid,
                referenced_frame_numbers=[frame] if frame else None,
                relationship_type=CONTAINS,
            )
        )
    return container(codes.IMAGE_LIBRARY_GROUP, items)


def _seconds_after_injection(report: Report, used: UsedAcquisition) -> float | None:
    for entry in report.phases:
        place = (entry.series_instance_uid, entry.part)
        if place == (used.acquisition.series_instance_uid, used.acquisition.part):
            return entry.seconds_after_injection
    return None
