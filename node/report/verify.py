"""Compares the objects of a result with its report.json: what a reader of the objects sees is what was concluded."""

import math
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage, EncapsulatedPDFStorage, SegmentationStorage

from engines.errors import InvalidInput
from node.report import codes
from node.report.ibsi import feature_concept
from node.report.json_form import read_json
from node.report.record import FeatureEntry, Report, Risk, Structure
from node.report.segments import list_segments
from node.report.wording import describe_feature

_TOLERANCE = 1e-9
"""Relative difference that the conversion to percent and back may leave."""


def verify_result(out: Path) -> tuple[str, ...]:
    """Returns every contradiction between report.json and the objects beside it; empty when there is none.

    Args:
        out: folder that ``write_objects`` filled.

    Raises:
        InvalidInput: there is no report.json, or it does not fit its schema.
    """
    path = out / "report.json"
    if not path.is_file():
        raise InvalidInput(f"{out} holds no report.json")
    report = read_json(path.read_text(encoding="utf-8"))
    return tuple(_list_contradictions(report, out))


def _list_contradictions(report: Report, out: Path) -> Iterator[str]:
    for entry in report.objects:
        path = (out / entry.path).resolve()
        if out.resolve() not in path.parents:
            yield f"{entry.path} lies outside the result's folder"
            continue
        if not path.is_file():
            yield f"{entry.path} is listed but not there"
            continue
        dataset = pydicom.dcmread(path)
        if dataset.SOPInstanceUID != entry.sop_instance_uid or dataset.SOPClassUID != entry.sop_class_uid:
            yield f"{entry.path} is another object: {dataset.SOPInstanceUID}"
        if dataset.StudyInstanceUID != report.study_instance_uid:
            yield f"{entry.path} belongs to study {dataset.StudyInstanceUID}"
        if dataset.SOPClassUID == Comprehensive3DSRStorage:
            yield from _report_contradictions(report, dataset)
        elif dataset.SOPClassUID == SegmentationStorage:
            yield from _segmentation_contradictions(report, dataset, entry.path)
        elif dataset.SOPClassUID == EncapsulatedPDFStorage:
            yield from _document_contradictions(dataset, out)


def _report_contradictions(report: Report, dataset: Dataset) -> Iterator[str]:
    outcome = [item.ConceptCodeSequence[0].CodeValue for item in _items(dataset, codes.ASSESSMENT)]
    if outcome != [report.status.value.upper()]:
        yield f"SR: outcome {outcome}, report {report.status.value}"
    reasons = [
        item.ConceptCodeSequence[0].CodeValue
        for item in _items(dataset, codes.REASON)
        if item.ValueType == "CODE"
    ]
    expected = [] if report.reason_code is None else [codes.reason_concept(report.reason_code).value]
    if reasons != expected:
        yield f"SR: reason {reasons}, report {expected}"
    for risk in report.risks:
        yield from _risk_contradictions(risk, dataset)
    if len(list(_items(dataset, codes.HORIZON))) != sum(len(risk.survival) for risk in report.risks):
        yield "SR: more or fewer survival probabilities than in the report"
    for structure in report.structures:
        yield from _structure_contradictions(structure, dataset)


def _risk_contradictions(risk: Risk, dataset: Dataset) -> Iterator[str]:
    found = [_value(item) / 100.0 for item in _items(dataset, codes.probability_concept(risk.endpoint))]
    if not _same(found, [point.probability for point in risk.survival]):
        yield f"SR: {risk.endpoint} probabilities {found}"
    hazards = [_value(item) for item in _items(dataset, codes.log_hazard_concept(risk.endpoint))]
    if not _same(hazards, [risk.log_hazard]):
        yield f"SR: {risk.endpoint} log hazard {hazards}, report {risk.log_hazard}"
    for feature in risk.radiomic_features:
        said = _feature_values(feature, dataset)
        if not said or not all(_same([value], [feature.value]) for value in said):
            yield f"SR: {describe_feature(feature)} {said}, report {feature.value}"
    levels = [
        item.ConceptCodeSequence[0].CodeValue
        for item in _items(dataset, codes.risk_group_concept(risk.endpoint))
    ]
    if levels != [(codes.HIGH_RISK if risk.group == "high" else codes.LOW_RISK).value]:
        yield f"SR: {risk.endpoint} group {levels}, report {risk.group}"


def _feature_values(feature: FeatureEntry, dataset: Dataset) -> list[float]:
    """What the document says of a feature, wherever it says it."""
    return [
        _value(item)
        for item in _items(dataset, feature_concept(feature.feature))
        if any(child.get("TextValue") == describe_feature(feature) for child in item.ContentSequence)
    ]


def _structure_contradictions(structure: Structure, dataset: Dataset) -> Iterator[str]:
    """The volume of a structure that has a measurement group is the report's."""
    for group in _items(dataset, codes.MEASUREMENT_GROUP):
        names = [item.TextValue for item in group.ContentSequence if item.ValueType == "TEXT"]
        if structure.name.capitalize() not in names:
            continue
        volumes = [_value(item) for item in group.ContentSequence if _is(item, codes.VOLUME)]
        if volumes and not _same(volumes, [structure.volume_ml]):
            yield f"SR: {structure.name} volume {volumes} mL, report {structure.volume_ml}"


def _segmentation_contradictions(report: Report, dataset: Dataset, name: str) -> Iterator[str]:
    expected = [(segment.number, segment.label, segment.tracking_uid) for segment in list_segments(report)]
    found = [
        (int(item.SegmentNumber), item.SegmentLabel, item.TrackingUID) for item in dataset.SegmentSequence
    ]
    if found != expected:
        yield f"{name}: segments {found}, report {expected}"


def _document_contradictions(dataset: Dataset, out: Path) -> Iterator[str]:
    beside = out / "report.pdf"
    document = dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength]
    if beside.is_file() and beside.read_bytes() != document:
        yield "PDF: the encapsulated document is not report.pdf"


def _items(item: Dataset, concept: Code) -> Iterator[Dataset]:
    """Content items of a concept, at any depth."""
    for child in item.get("ContentSequence", None) or ():
        if _is(child, concept):
            yield child
        yield from _items(child, concept)


def _is(item: Dataset, concept: Code) -> bool:
    named = item.get("ConceptNameCodeSequence", None)
    if not named:
        return False
    return bool(
        named[0].CodeValue == concept.value and named[0].CodingSchemeDesignator == concept.scheme_designator
    )


def _value(item: Dataset) -> float:
    measured = item.MeasuredValueSequence[0]
    return float(measured.get("FloatingPointValue", measured.NumericValue))


def _same(found: list[float], expected: list[float]) -> bool:
    return len(found) == len(expected) and all(
        math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
        for one, other in zip(found, expected, strict=True)
    )
