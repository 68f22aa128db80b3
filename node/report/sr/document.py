"""The structured report as a whole: root, observer, procedure, measurements, evaluations and evidence."""

import copy
from typing import Final

from highdicom.sr import (
    Comprehensive3DSR,
    ContainerContentItem,
    ContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    ObserverContext,
)
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.tag import Tag
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, ExplicitVRLittleEndian

from engines.phase import REFERENCE_PHASE, Phase
from node.report import codes
from node.report.header import Envelope, SeriesPlace, stamp
from node.report.record import Status
from node.report.seg import blank_reference
from node.report.segments import PhaseMasks
from node.report.slices import SourceSlice, locate_slices
from node.report.sources import ReportSources, UsedAcquisition
from node.report.sr.items import HAS_CONCEPT_MOD, code, container
from node.report.sr.library import catalogue, list_key_slices
from node.report.sr.regions import measure_region
from node.report.sr.risks import derive_measurements, evaluate

PLACE: Final = SeriesPlace(kind="SR", modality="SR", series_number=9810, title="MMF measurements")
"""Where the structured report stands in the study (number OURS)."""

_SOP_CLASS_UID: Final = Tag("SOPClassUID")

_ENGLISH: Final = Code("en", "RFC5646", "English")
"""Source: PS3.16 TID 1204, CID 5000."""


def build_document(
    envelope: Envelope,
    sources: ReportSources,
    masks: dict[Phase, PhaseMasks],
    segmentations: dict[Phase, Dataset],
) -> Dataset:
    """Returns the Comprehensive 3D SR of the report.

    Args:
        envelope: what the result's objects share.
        sources: the acquisitions used and the instance that stands for the study.
        masks: the structures that were outlined, by phase; may be empty.
        segmentations: the SEG objects by phase.

    Raises:
        GeometryMismatch: the volume's grid is not that of the slices.

    Source: PS3.3 A.35.13 (Comprehensive 3D SR IOD); PS3.16 TID 1500. A report without measurements has no container
    (126010, DCM), which OHIF cannot show without coordinates.
    """
    slices = {used.phase: locate_slices(used) for used in sources.used}
    root = ContainerContentItem(name=codes.IMAGING_MEASUREMENT_REPORT, template_id="1500")
    root.ContentSequence = ContentSequence()
    root.ContentSequence.extend(_context(envelope))
    for item in _body(envelope, sources, masks, segmentations, slices):
        if item is not None:
            root.ContentSequence.append(item)
    evidence = [blank_reference(instance) for used in sources.used for instance in used.acquisition.instances]
    evidence += list(segmentations.values())
    document: Dataset = Comprehensive3DSR(
        evidence=evidence or [blank_reference(sources.instance)],
        content=root,
        series_instance_uid=envelope.uid("series", PLACE.kind),
        series_number=PLACE.series_number,
        sop_instance_uid=envelope.uid("instance", PLACE.kind),
        instance_number=1,
        manufacturer=codes.MANUFACTURER,
        is_complete=envelope.report.status == Status.ASSESSED,
        is_final=False,
        is_verified=False,
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    stamp(document, envelope, PLACE, sop_instance_uid=envelope.uid("instance", PLACE.kind))
    document.PreliminaryFlag = "PRELIMINARY"
    if sources.predecessors:
        places = [_refer_document(*place) for place in sources.predecessors]
        document.PredecessorDocumentsSequence = Sequence([_refer_study(envelope, places)])
    if sources.standing is not None:
        # other evidence, for a predecessor would be replaced; all images of ours are evidence of the current procedure
        study = _refer_study(envelope, [_refer_document(*sources.standing)])
        document.PertinentOtherEvidenceSequence = Sequence([study])
    return document


def restate_as_comprehensive(document: Dataset) -> Dataset:
    """Returns the same report as Comprehensive SR, for a peer that refuses Comprehensive 3D SR at negotiation.

    Args:
        document: what ``build_document`` gave; it holds no three-dimensional coordinates.

    Source: PS3.3 A.35.3 (Comprehensive SR IOD).
    """
    restated = Dataset()
    restated.update({element.tag: element for element in document if element.tag != _SOP_CLASS_UID})
    restated.SOPClassUID = ComprehensiveSRStorage
    restated.file_meta = copy.deepcopy(document.file_meta)
    restated.file_meta.MediaStorageSOPClassUID = ComprehensiveSRStorage
    return restated


def _context(envelope: Envelope) -> list[ContentItem]:
    """Language (TID 1204), device observer (TID 1001, 1004) and the imaging procedure that was reported."""
    observer = ObserverContext(
        observer_type=Code("121007", "DCM", "Device"),
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=envelope.device_uid,
            name=codes.PRODUCT,
            manufacturer_name=codes.MANUFACTURER,
            model_name=codes.PRODUCT,
            serial_number=envelope.serial_number,
        ),
    )
    return [
        *LanguageOfContentItemAndDescendants(_ENGLISH),
        *observer,
        code(codes.PROCEDURE_REPORTED, _procedure(envelope.source), HAS_CONCEPT_MOD),
    ]


def _procedure(source: Dataset) -> Code:
    """The study's own procedure code where it has a complete one, else computed tomography."""
    for item in source.get("ProcedureCodeSequence", None) or ():
        parts = [
            str(item.get(keyword, "")) for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        ]
        if all(parts):
            return Code(*parts)
    return codes.COMPUTED_TOMOGRAPHY


def _body(
    envelope: Envelope,
    sources: ReportSources,
    masks: dict[Phase, PhaseMasks],
    segmentations: dict[Phase, Dataset],
    slices: dict[Phase, tuple[SourceSlice, ...]],
) -> list[ContentItem | None]:
    shown: list[tuple[UsedAcquisition, tuple[SourceSlice, ...]]] = [
        (used, list_key_slices(slices[used.phase], masks.get(used.phase))) for used in sources.used
    ]
    regions: list[ContentItem] = []
    reference = sources.acquisition(REFERENCE_PHASE)
    if reference is not None and REFERENCE_PHASE in segmentations:
        drawn = masks[REFERENCE_PHASE]
        for segment in drawn.segments:
            regions += measure_region(
                segment, drawn.of(segment), reference, slices[REFERENCE_PHASE], segmentations[REFERENCE_PHASE]
            )
    return [
        catalogue(envelope.report, shown),
        container(codes.IMAGING_MEASUREMENTS, regions) if regions else None,
        derive_measurements(envelope),
        evaluate(envelope.report),
    ]


def _refer_study(envelope: Envelope, series: list[Dataset]) -> Dataset:
    """Source: PS3.3 C.17.2.3 (Predecessor Documents, Pertinent Other Evidence) and Table C.17-3, one item a study."""
    study = Dataset()
    study.StudyInstanceUID = envelope.report.study_instance_uid
    study.ReferencedSeriesSequence = Sequence(series)
    return study


def _refer_document(sop_instance_uid: str, series_instance_uid: str) -> Dataset:
    instance = Dataset()
    instance.ReferencedSOPClassUID = Comprehensive3DSRStorage
    instance.ReferencedSOPInstanceUID = sop_instance_uid
    series = Dataset()
    series.SeriesInstanceUID = series_instance_uid
    series.ReferencedSOPSequence = Sequence([instance])
    return series
