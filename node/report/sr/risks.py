"""What was derived about the patient: survival probabilities, hazards and risk groups, or why there are none."""

from highdicom.sr import AlgorithmIdentification, ContentItem, TrackingIdentifier
from pydicom.sr.coding import Code

from node.report import codes
from node.report.header import Envelope
from node.report.ibsi import feature_concept, feature_unit
from node.report.record import ReasonCode, Report, Risk, Status, SurvivalPoint
from node.report.segments import list_hidden_lesions
from node.report.sr.items import (
    HAS_CONCEPT_MOD,
    INFERRED_FROM,
    code,
    container,
    interval,
    number,
    risk_algorithm,
    text,
)
from node.report.wording import (
    LIMITS,
    POPULATION_SENTENCE,
    describe_feature,
    describe_model,
    describe_phase,
    remedy,
    warnings_of,
)

_QUALITY_ISSUES = {ReasonCode.AMBIGUOUS_PHASE: codes.POOR_CONTRAST_TIMING}
"""What an image-quality reader would call the reason, where a standard term fits (CID 6315)."""


def derive_measurements(envelope: Envelope) -> ContentItem | None:
    """Returns the container of derived measurements with one group per endpoint; None without a risk.

    Source: PS3.16 TID 1500 row (126011, DCM), TID 1420, TID 300. A survival probability belongs to the patient, so it
    never stands in a group that is anchored on an image.
    """
    report = envelope.report
    groups = [_risk_group(envelope, risk) for risk in report.risks]
    return container(codes.DERIVED_IMAGING_MEASUREMENTS, groups) if groups else None


def evaluate(report: Report) -> ContentItem:
    """Returns the container of qualitative evaluations: outcome, risk groups or reason, phases, warnings, limits.

    Source: PS3.16 TID 1500 row (C0034375, UMLS), whose children are CODE and TEXT items; CID 6047, 6315, 3118.
    """
    items: list[ContentItem] = [
        code(codes.ASSESSMENT, codes.outcome_code(report.status.value)),
        code(codes.PROCESSING_SUMMARY, _processing_summary(report)),
    ]
    items += [text(codes.FLAG, sentence) for sentence in warnings_of(report)]
    if report.reason_code is not None:
        items.append(code(codes.REASON, codes.reason_concept(report.reason_code)))
        if report.reason_code in _QUALITY_ISSUES:
            items.append(code(codes.QUALITY_ISSUE, _QUALITY_ISSUES[report.reason_code]))
        items.append(text(codes.REASON, report.reason))
        items.append(text(codes.REMEDY, remedy(report.reason_code)))
    for risk in report.risks:
        level = codes.HIGH_RISK if risk.group == "high" else codes.LOW_RISK
        items.append(code(codes.risk_group_concept(risk.endpoint), level))
    hidden = len(list_hidden_lesions(report))
    if hidden:
        sentence = f"{hidden} smaller lesions are part of the tumour and have no segment of their own"
        items.append(text(codes.FLAG, sentence))
    items += [text(codes.ACQUISITION, describe_phase(entry)) for entry in report.phases]
    items += [text(codes.MISSING, sentence) for sentence in report.missing]
    items += [text(codes.FLAG, sentence) for sentence in report.flags]
    for variable in report.clinical:
        value = "missing" if variable.value is None else f"{variable.value} {variable.unit}".strip()
        items.append(text(codes.CLINICAL_INPUT, f"{variable.name}: {value}"))
    items += [text(codes.ALIGNMENT, f"{name}: {value:.3f}") for name, value in report.registration]
    items += [text(codes.MODEL, describe_model(model)) for model in report.models]
    items += [text(codes.LIMITS, sentence) for sentence in (POPULATION_SENTENCE, *LIMITS)]
    return container(codes.QUALITATIVE_EVALUATIONS, items)


def _processing_summary(report: Report) -> Code:
    if report.status == Status.ASSESSED:
        return codes.ALL_SUCCEEDED_WITH_FINDINGS
    if report.structures:
        return codes.SOME_SUCCEEDED_WITH_FINDINGS
    return codes.SOME_SUCCEEDED_WITHOUT_FINDINGS if report.phases else codes.NONE_SUCCEEDED


def _risk_group(envelope: Envelope, risk: Risk) -> ContentItem:
    report = envelope.report
    algorithm = risk_algorithm(report, risk.model)
    name = f"{risk.model} {risk.endpoint}"
    items: list[ContentItem] = list(
        TrackingIdentifier(uid=envelope.uid("risk", risk.endpoint), identifier=name)
    )
    items += [_survival(risk.endpoint, point, algorithm) for point in risk.survival]
    items.append(
        number(
            codes.log_hazard_concept(risk.endpoint),
            risk.log_hazard,
            codes.NO_UNITS,
            children=[*interval(risk.log_hazard, risk.low, risk.high, codes.NO_UNITS), *algorithm],
        )
    )
    items.append(number(codes.CUTOFF, risk.cutoff, codes.NO_UNITS, children=list(algorithm)))
    if risk.percentile is not None:
        items.append(number(codes.PERCENTILE, risk.percentile, codes.PERCENT, children=list(algorithm)))
    for part in risk.contributions:
        what = text(codes.MODEL_INPUT, f"{part.name}: {part.value}", HAS_CONCEPT_MOD)
        items.append(number(codes.CONTRIBUTION, part.log_hazard, codes.NO_UNITS, children=[what, *algorithm]))
    for network, score in risk.network_scores:
        what = text(codes.MODEL_INPUT, network, HAS_CONCEPT_MOD)
        items.append(number(codes.NETWORK_SCORE, score, codes.NO_UNITS, children=[what, *algorithm]))
    for feature in risk.radiomic_features:
        what = text(codes.MODEL_INPUT, describe_feature(feature), HAS_CONCEPT_MOD)
        unit = feature_unit(feature.feature)
        children: list[ContentItem] = [what, *algorithm]
        items.append(number(feature_concept(feature.feature), feature.value, unit, children=children))
    return container(codes.MEASUREMENT_GROUP, items, template="1420")


def _survival(endpoint: str, point: SurvivalPoint, algorithm: AlgorithmIdentification) -> ContentItem:
    """The time is the derivation parameter of the probability (TID 300, row INFERRED FROM NUM)."""
    value, low, high = (100.0 * part for part in (point.probability, point.low, point.high))
    return number(
        codes.probability_concept(endpoint),
        value,
        codes.PERCENT,
        children=[
            *algorithm,
            *interval(value, low, high, codes.PERCENT),
            number(codes.HORIZON, point.months, codes.MONTH, INFERRED_FROM),
        ],
    )
