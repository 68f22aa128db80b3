"""From what the engines found to what the report says: each entry of the report, made from one finding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from engines.clinical.table import ClinicalRow
from engines.clinical.variables import ALL_VARIABLES, DEFINITIONS, ClinicalVariables, Variable
from engines.mmf import ENSEMBLE_INPUT, RADIOMIC_INPUT, Group, ModelName
from engines.models.card import ModelCard
from engines.models.comparator import read_feature_column
from engines.models.model import EndpointScores, Model, Scores
from engines.phase import ASSESSED_PHASES, Phase
from engines.plots import SurvivalCurve
from engines.registration import AlignmentQuality
from engines.segmentation.lesions import Lesion
from node.report.record import (
    ClinicalEntry,
    Contribution,
    FeatureEntry,
    ModelEntry,
    PhaseEntry,
    Risk,
    Structure,
    SurvivalPoint,
)
from node.report.sources import CohortCurve, PatientCurve
from node.study import Instance, PhaseFinding


def describe_phases(findings: Sequence[PhaseFinding]) -> tuple[PhaseEntry, ...]:
    """Returns one entry per acquisition; the reason it was not used comes first among its reasons.

    The native phase is recognised, but the method does not take it: it counts as not used.
    """
    return tuple(
        PhaseEntry(
            phase=finding.phase,
            series_instance_uid=finding.acquisition.series_instance_uid,
            part=finding.acquisition.part,
            series_number=finding.acquisition.first.series_number,
            series_description=finding.acquisition.first.series_description,
            slices=len(finding.acquisition.instances),
            seconds_after_injection=finding.seconds_after_injection,
            probability=finding.probability,
            used=finding.used and finding.phase in ASSESSED_PHASES,
            reasons=(*_why_not(finding), *finding.reasons),
        )
        for finding in findings
    )


def _why_not(finding: PhaseFinding) -> tuple[str, ...]:
    if finding.excluded:
        return (finding.excluded,)
    return () if finding.phase != Phase.PRE_CONTRAST else ("the method takes no native phase",)


MM_PER_CM = 10.0
DIAMETER_TOLERANCE_CM = 2.0
DIAMETER_TOLERANCE_SHARE = 0.5
"""Diameters that differ by more than either are said to contradict each other (OURS; readers differ by less)."""

RADIOMIC_TITLE = "Radiomic score"

LONGEST_CURVE_MONTHS = 48.0
"""Curves are drawn up to here; the paper's follow-up ends there (validity, event rates)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedLiver:
    """What the segmentation found, without the arrays.

    Attributes:
        provider: who drew the masks.
        version: of the provider.
        lesions: largest first; their labels in the lesion mask are 1, 2, ...
    """

    provider: str
    version: str
    liver_ml: float
    lesions: tuple[Lesion, ...]


def describe_structures(segmented: SegmentedLiver) -> tuple[Structure, ...]:
    """Returns liver, all tumours together, and each lesion, largest first."""
    provider = f"{segmented.provider} {segmented.version}".strip()
    liver = Structure(name="liver", volume_ml=segmented.liver_ml, longest_diameter_mm=None, provider=provider)
    if not segmented.lesions:
        return (liver,)
    tumour = Structure(
        name="tumour",
        volume_ml=sum(lesion.volume_ml for lesion in segmented.lesions),
        longest_diameter_mm=max(lesion.longest_diameter_mm for lesion in segmented.lesions),
        provider=provider,
    )
    lesions = tuple(
        Structure(
            name=f"lesion {lesion.label}",
            volume_ml=lesion.volume_ml,
            longest_diameter_mm=lesion.longest_diameter_mm,
            provider=provider,
            label=lesion.label,
        )
        for lesion in segmented.lesions
    )
    return (liver, tumour, *lesions)


def describe_registration(quality: Mapping[Phase, AlignmentQuality]) -> tuple[tuple[str, float], ...]:
    """Returns the figures of both alignments that a reader may want, by name."""
    figures: list[tuple[str, float]] = []
    for phase, one in quality.items():
        figures += [
            (f"{phase.value} mean shift, mm", one.shift_mm),
            (f"{phase.value} normalised mutual information", one.information_after),
            (f"{phase.value} body overlap (Dice)", one.body_overlap),
        ]
    return tuple(figures)


def draw_cohort_curves(model: Model, scores: Scores) -> tuple[CohortCurve, ...]:
    """Returns the training cohort's Kaplan-Meier curves of both risk groups, for the models that the report shows."""
    curves: list[CohortCurve] = []
    for endpoint in scores.endpoints:
        reference = model.reference.of(endpoint.endpoint, endpoint.risk.model)
        for group in Group:
            curve = reference.curve(group)
            curves.append(
                CohortCurve(
                    endpoint=endpoint.endpoint.value,
                    group=group.value,
                    curve=SurvivalCurve(
                        months=np.array(curve.months),
                        probability=np.array(curve.survival),
                        low=np.array(curve.low),
                        high=np.array(curve.high),
                    ),
                )
            )
    return tuple(curves)


def draw_patient_curves(
    model: Model, scores: Scores, clinical: ClinicalVariables | None
) -> tuple[PatientCurve, ...]:
    """Returns the survival curve of each risk shown, month by month up to the end of the training follow-up."""
    curves: list[PatientCurve] = []
    known = clinical if clinical is not None else ClinicalVariables(values={})
    for endpoint in scores.endpoints:
        fitted = model.risk_models[endpoint.endpoint, endpoint.risk.model]
        last = fitted.cox.baseline.last_time
        months = tuple(float(month) for month in range(1, int(min(last, LONGEST_CURVE_MONTHS)) + 1))
        radiomic = None if endpoint.radiomic is None else endpoint.radiomic.log_hazard
        points = fitted.survival(fitted.inputs(endpoint.ensemble_score, known, radiomic), months)
        curves.append(
            PatientCurve(
                endpoint=endpoint.endpoint.value,
                curve=SurvivalCurve(
                    months=np.array([0.0, *(point.months for point in points)]),
                    probability=np.array([1.0, *(point.probability for point in points)]),
                    low=np.array([1.0, *(point.low for point in points)]),
                    high=np.array([1.0, *(point.high for point in points)]),
                ),
            )
        )
    return tuple(curves)


def describe_risk(scores: EndpointScores) -> Risk:
    """Returns the risk that the report shows for one endpoint: MMF where it could be computed, else Ensemble-DL."""
    risk = scores.risk
    return Risk(
        endpoint=scores.endpoint.value,
        model=risk.model.value,
        log_hazard=risk.log_hazard,
        low=risk.low,
        high=risk.high,
        group=risk.group.value,
        cutoff=risk.cutoff,
        percentile=risk.percentile,
        survival=tuple(
            SurvivalPoint(months=point.months, probability=point.probability, low=point.low, high=point.high)
            for point in risk.survival
        ),
        contributions=tuple(
            Contribution(name=_title_of_input(one.name), value=one.value, log_hazard=one.log_hazard)
            for one in risk.contributions
        ),
        network_scores=(
            *((name.replace("network", "Network "), value) for name, value in scores.log_risks),
            ("Ensemble-DL", scores.ensemble_score),
        ),
        radiomic_features=_describe_features(scores),
    )


def _describe_features(scores: EndpointScores) -> tuple[FeatureEntry, ...]:
    """The features behind the Radiomic score, where the model shown takes it."""
    shown = any(one.name == RADIOMIC_INPUT for one in scores.risk.contributions)
    if scores.radiomic is None or not shown:
        return ()
    places = [(read_feature_column(one.name), one.value) for one in scores.radiomic.features]
    return tuple(
        FeatureEntry(region=place.region, phase=place.phase, feature=place.feature, value=value)
        for place, value in places
    )


def describe_model(card: ModelCard, sha256: str) -> ModelEntry:
    """Returns the model as the report names it."""
    return ModelEntry(
        name=card.name,
        version=card.version,
        sha256=sha256,
        demonstration=card.demonstration,
        trained_on=card.training.trained_on,
        c_index=card.c_index_sentence(),
    )


def describe_clinical(row: ClinicalRow | None) -> tuple[ClinicalEntry, ...]:
    """Returns the 16 variables in their order, those that are missing with None; nothing when there is no row."""
    if row is None:
        return ()
    return tuple(
        ClinicalEntry(
            name=DEFINITIONS[variable].title,
            value=value.text() if (value := row.variables.get(variable)) is not None else None,
            unit=DEFINITIONS[variable].unit,
        )
        for variable in ALL_VARIABLES
    )


def describe_missing(row: ClinicalRow | None, scores: Scores | None) -> tuple[str, ...]:
    """Returns what was not there: the variables that MMF needed or the whole clinical row, and the Radiomic score."""
    radiomic = () if scores is None else _lacking_radiomic(scores)
    if row is None:
        return ("clinical variables: no row for this patient", *radiomic)
    if scores is None:
        return tuple(DEFINITIONS[variable].title for variable in row.variables.missing())
    return (*(DEFINITIONS[variable].title for variable in scores.missing), *radiomic)


def flag_scores(scores: Scores) -> tuple[str, ...]:
    """Returns what a reader must know of the scores besides their values."""
    flags: list[str] = []
    if scores.demonstration:
        flags.append("demonstration model trained on phantoms: the numbers have no clinical meaning")
    if any(endpoint.risk.model != ModelName.MMF for endpoint in scores.endpoints):
        names = [DEFINITIONS[variable].title for variable in scores.missing]
        names += _lacking_radiomic(scores)
        flags.append(f"MMF was not computed, Ensemble-DL is shown instead; missing: {', '.join(names)}")
    for endpoint in scores.endpoints:
        if endpoint.risk.not_estimable:
            months = ", ".join(f"{month:g}" for month in endpoint.risk.not_estimable)
            flags.append(
                f"{endpoint.endpoint} at {months} months lies beyond the follow-up of the training cohort"
            )
    return tuple(flags)


def _lacking_radiomic(scores: Scores) -> tuple[str, ...]:
    """The Radiomic score where MMF needs it and it could not be computed, with the reason; once where both agree."""
    reasons = {
        one.endpoint.value: one.radiomic.reason
        for one in scores.endpoints
        if one.radiomic is not None and one.radiomic.log_hazard is None
    }
    by_reason: dict[str, list[str]] = {}
    for endpoint, reason in reasons.items():
        by_reason.setdefault(reason, []).append(endpoint)
    return tuple(
        f"Radiomic score of {' and '.join(endpoints)} ({reason})" for reason, endpoints in by_reason.items()
    )


def flag_diameter(row: ClinicalRow | None, segmented: SegmentedLiver) -> tuple[str, ...]:
    """Returns a warning when the clinical table and the mask disagree about the largest tumour."""
    given = None if row is None else row.variables.get(Variable.MAX_TUMOUR_DIAMETER)
    if given is None or given.number is None or not segmented.lesions:
        return ()
    measured_cm = max(lesion.longest_diameter_mm for lesion in segmented.lesions) / MM_PER_CM
    if abs(measured_cm - given.number) <= max(DIAMETER_TOLERANCE_CM, DIAMETER_TOLERANCE_SHARE * given.number):
        return ()
    return (
        f"the clinical table says {given.number:g} cm for the largest tumour, the outline measures {measured_cm:.1f} cm",
    )


def examined_on(instances: Sequence[Instance]) -> date | None:
    """Returns the day of the examination by the CT images: acquisition, else series, else study; None when not known."""
    acquired = [instance.acquired_at for instance in instances]
    made = [instance.series_at for instance in instances]
    begun = [instance.study_at for instance in instances]
    for moments in (acquired, made, begun):
        days = [moment.date() for moment in moments if moment is not None]
        if days:
            return min(days)
    return None


def _title_of_input(name: str) -> str:
    titles = {ENSEMBLE_INPUT: "Ensemble-DL", RADIOMIC_INPUT: RADIOMIC_TITLE}
    return titles[name] if name in titles else DEFINITIONS[Variable(name)].title
