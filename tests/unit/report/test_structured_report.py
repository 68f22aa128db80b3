"""The SR says in codes what the report says, in the structure that viewers can read."""

from dataclasses import replace

import numpy as np
import pytest
from highdicom.sr import Comprehensive3DSR, MeasurementReport

from engines.phase import Phase
from node.report import codes
from node.report.ibsi import feature_concept, feature_unit
from node.report.record import ReasonCode
from node.report.sources import ReportSources
from node.report.sr.document import build_document, restate_as_comprehensive
from node.report.uids import digest_report
from tests.report_study import ANNEX_K_NAME, make_failure


@pytest.fixture(scope="module")
def document(envelope, sources, masks, segmentations):
    return build_document(envelope, sources, masks, segmentations)


@pytest.fixture(scope="module")
def failure(envelope, sources):
    report = make_failure()
    sealed = replace(envelope, report=report, digest=digest_report(report))
    return build_document(sealed, ReportSources(instance=sources.instance), {}, {})


def children(item, code=None, value_type=None):
    """Content items below ``item``, of one concept and one value type where given."""
    return [
        child
        for child in item.get("ContentSequence", ())
        if (value_type is None or child.ValueType == value_type)
        and (code is None or child.ConceptNameCodeSequence[0].CodeValue == code.value)
    ]


def walk(item):
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def test_measurement_groups_read_back_through_highdicom(document, segments, segmentations):
    content = Comprehensive3DSR.from_dataset(document).content
    assert isinstance(content, MeasurementReport)
    volumetric = content.get_volumetric_roi_measurement_groups()
    planar = content.get_planar_roi_measurement_groups()
    assert [g.tracking_uid for g in volumetric] == [s.tracking_uid for s in segments]
    assert [g.tracking_uid for g in planar] == [s.tracking_uid for s in segments]
    liver = volumetric[0]
    assert liver.get_measurements(name=codes.VOLUME)[0].value == 1183.36
    reference = liver.referenced_segment
    assert reference.referenced_sop_instance_uid == segmentations[Phase.PORTAL_VENOUS].SOPInstanceUID


def test_outline_lies_on_the_largest_slice_of_the_lesion(document, sources, masks):
    planar = Comprehensive3DSR.from_dataset(document).content.get_planar_roi_measurement_groups()
    mask = masks[Phase.PORTAL_VENOUS].named("lesion 1")
    z = int(mask.sum(axis=(1, 2)).argmax())
    region = planar[2].roi
    image = region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert image == sources.acquisition(Phase.PORTAL_VENOUS).acquisition.instances[z].sop_instance_uid
    columns, rows = region.value[:, 0], region.value[:, 1]
    inside = np.argwhere(mask[z])
    assert rows.min() == inside[:, 0].min()
    assert rows.max() == inside[:, 0].max() + 1
    area = planar[2].get_measurements(name=codes.AREA)[0].value
    assert area == pytest.approx(
        len(inside) * 16.0, rel=0.1
    )  # voxels of 4 x 4 mm; the outline cuts their corners
    assert columns.min() <= inside[:, 1].min() + 0.5


def test_every_number_of_a_group_names_its_algorithm(document):
    for item in walk(document):
        if item.ValueType == "NUM" and item.RelationshipType == "CONTAINS":
            if item.ConceptNameCodeSequence[0].CodeValue == codes.HORIZON.value:
                continue
            names = [c.ConceptNameCodeSequence[0].CodeValue for c in item.ContentSequence]
            assert "111001" in names
            assert "111003" in names


def test_probabilities_stand_with_their_time_and_interval(document, envelope):
    derived = children(document, codes.DERIVED_IMAGING_MEASUREMENTS)[0]
    groups = children(derived, codes.MEASUREMENT_GROUP)
    assert len(groups) == 2
    for group, risk in zip(groups, envelope.report.risks, strict=True):
        found = children(group, codes.probability_concept(risk.endpoint))
        assert len(found) == len(risk.survival)
        for item, point in zip(found, risk.survival, strict=True):
            value = item.MeasuredValueSequence[0].FloatingPointValue
            assert value == pytest.approx(100 * point.probability, abs=1e-12)
            months = children(item, codes.HORIZON)[0].MeasuredValueSequence[0].FloatingPointValue
            assert months == point.months
            up = children(item, codes.UPPER_UNCERTAINTY)[0].MeasuredValueSequence[0].FloatingPointValue
            assert value + up == pytest.approx(100 * point.high)
        assert {"Tracking Identifier", "Tracking Unique Identifier"} <= {
            c.ConceptNameCodeSequence[0].CodeMeaning for c in group.ContentSequence
        }


def test_no_patient_risk_stands_among_image_measurements(document):
    measured = children(document, codes.IMAGING_MEASUREMENTS)[0]
    schemes = {
        item.ConceptNameCodeSequence[0].CodingSchemeDesignator
        for item in walk(measured)
        if "ConceptNameCodeSequence" in item
    }
    assert codes.SCHEME not in schemes


def test_features_behind_the_radiomic_score_are_coded_with_region_and_phase(document, envelope):
    (derived,) = children(document, codes.DERIVED_IMAGING_MEASUREMENTS)
    risk_group = children(derived, codes.MEASUREMENT_GROUP)[0]
    for entry in envelope.report.risks[0].radiomic_features:
        phase = entry.phase.value if entry.phase else ""
        place = " ".join(word for word in (entry.region, phase, entry.feature) if word)
        (item,) = [
            one
            for one in children(risk_group, feature_concept(entry.feature), "NUM")
            if children(one, codes.MODEL_INPUT)[0].TextValue == place
        ]
        measured = item.MeasuredValueSequence[0]
        assert measured.FloatingPointValue == entry.value
        assert measured.MeasurementUnitsCodeSequence[0].CodeValue == feature_unit(entry.feature).value


def test_risk_groups_are_coded(document):
    evaluations = children(document, codes.QUALITATIVE_EVALUATIONS)[0]
    high = children(evaluations, codes.risk_group_concept("OS"))[0].ConceptCodeSequence[0]
    low = children(evaluations, codes.risk_group_concept("PFS"))[0].ConceptCodeSequence[0]
    assert (high.CodeValue, low.CodeValue) == ("15508007", "75976002")


def test_flags_and_warnings_are_said(document, envelope):
    evaluations = children(document, codes.QUALITATIVE_EVALUATIONS)[0]
    said = {item.TextValue for item in children(evaluations, codes.FLAG)}
    assert set(envelope.report.flags) <= said
    assert any("Research use only" in sentence for sentence in said)
    assert any("synthetic phantoms" in sentence for sentence in said)


def test_evidence_lists_all_slices_and_segmentations(document, sources, segmentations):
    listed = {
        reference.ReferencedSOPInstanceUID
        for study in document.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for reference in series.ReferencedSOPSequence
    }
    slices = {i.sop_instance_uid for used in sources.used for i in used.acquisition.instances}
    assert listed == slices | {seg.SOPInstanceUID for seg in segmentations.values()}


def test_flags_of_the_document_claim_no_verification(document, failure):
    assert (document.CompletionFlag, document.VerificationFlag, document.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert failure.CompletionFlag == "PARTIAL"


def test_failure_has_a_reason_and_no_measurement_container(failure):
    assert not children(failure, codes.IMAGING_MEASUREMENTS)
    assert not children(failure, codes.DERIVED_IMAGING_MEASUREMENTS)
    evaluations = children(failure, codes.QUALITATIVE_EVALUATIONS)[0]
    reason = children(evaluations, codes.REASON, "CODE")[0].ConceptCodeSequence[0]
    assert reason.CodeValue == "MISSING_PHASE"
    assert children(evaluations, codes.PROCESSING_SUMMARY)[0].ConceptCodeSequence[0].CodeValue == "111243"
    assert str(failure.PatientName) == ANNEX_K_NAME


def test_every_private_code_fits_its_value_representation():
    for reason in ReasonCode:
        code = codes.reason_concept(reason)
        assert len(code.value) <= 16
        assert len(code.meaning) <= 64
    for name, value in vars(codes).items():
        if isinstance(value, codes.Code):
            assert len(value.value) <= 16, name
            assert len(value.meaning) <= 64, name
    assert len({codes.reason_concept(reason).value for reason in ReasonCode}) == len(ReasonCode)


def test_comprehensive_sr_holds_the_same_content(document):
    restated = restate_as_comprehensive(document)
    assert restated.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.33"
    assert restated.file_meta.MediaStorageSOPClassUID == restated.SOPClassUID
    assert restated.ContentSequence == document.ContentSequence
    assert document.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"


def test_a_corrected_result_names_what_it_replaces(envelope, sources):
    corrected = replace(
        ReportSources(instance=sources.instance), predecessors=(("1.2.3", "1.2.4"), ("1.2.5", "1.2.6"))
    )
    document = build_document(envelope, corrected, {}, {})
    (study,) = document.PredecessorDocumentsSequence
    assert [
        (series.SeriesInstanceUID, series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        for series in study.ReferencedSeriesSequence
    ] == [("1.2.4", "1.2.3"), ("1.2.6", "1.2.5")]


def test_a_document_that_stays_valid_is_named_as_evidence_and_never_as_predecessor(envelope, sources):
    beside = replace(ReportSources(instance=sources.instance), standing=("1.2.3", "1.2.4"))
    document = build_document(envelope, beside, {}, {})
    assert "PredecessorDocumentsSequence" not in document
    (study,) = document.PertinentOtherEvidenceSequence
    assert study.StudyInstanceUID == envelope.report.study_instance_uid
    (series,) = study.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.4"
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
