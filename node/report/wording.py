"""The sentences that every result says in the same words, in the SR and on the page."""

from typing import Final

from engines.phase import ASSESSED_PHASES
from node.report.record import FeatureEntry, ModelEntry, PhaseEntry, ReasonCode, Report, Risk, SurvivalPoint

RESEARCH_SENTENCE: Final = "Research use only. Unverified and preliminary. Not for diagnosis, treatment decisions or advice to a patient."
DEMONSTRATION_SENTENCE: Final = (
    "Demonstration model, trained on synthetic phantoms: the figures have no clinical meaning."
)
SYNTHETIC_SENTENCE: Final = "Synthetic study: there is no patient."

POPULATION_SENTENCE: Final = (
    "Intended population: unresectable hepatocellular carcinoma, Child-Pugh A or B, ECOG 0 or 1, BCLC B or C, before an "
    "immune checkpoint inhibitor with molecular targeted therapy; arterial, portal venous and delayed CT taken at most "
    "8 weeks before the first dose."
)
"""Source: Xu et al., npj Precis Oncol 2025;9:185 (method, section 1)."""

LIMITS: Final = (
    "Survival is counted from the first dose of the immune checkpoint inhibitor.",
    "Intervals (95 %) are about the model's average for patients with these inputs, not about this patient: the time of "
    "one patient's event varies far more.",
    "Prognostic, not predictive: no untreated patients were studied, so the figures do not say who benefits from a "
    "treatment.",
    "Scores, cut-offs and percentiles belong to the named model version and are never compared with those of another.",
    "Liver and tumours were outlined by software and not corrected by a person.",
)
"""Source: validity notes, sections Noise and Traps 6, 7."""

ENDPOINT_TITLES: Final = {"OS": "Overall survival", "PFS": "Progression-free survival"}

_REMEDIES: Final = {
    ReasonCode.NO_CT: "Send the CT series of this examination.",
    ReasonCode.MISSING_PHASE: (
        "Send the missing phase, or name it when it is there but was not recognised "
        "(mmf-node run DIR --phase delayed=SERIES_UID)."
    ),
    ReasonCode.AMBIGUOUS_PHASE: "Name the series of each phase (mmf-node run DIR --phase arterial=SERIES_UID).",
    ReasonCode.VOLUME_REFUSED: "Fetch the missing slices from the archive, or send another reconstruction.",
    ReasonCode.FRAME_OF_REFERENCE_DIFFERS: "Send phases of one examination, taken without moving the patient off the table.",
    ReasonCode.POOR_REGISTRATION: "Check that the phases show the same patient and the same breathing position.",
    ReasonCode.NO_LIVER: "Check that the series covers the upper abdomen.",
    ReasonCode.IMPLAUSIBLE_LIVER: "Check the coverage of the liver; a liver mask drawn by a person may be given instead.",
    ReasonCode.NO_TUMOUR: "If a tumour is visible, give a mask drawn by a person.",
    ReasonCode.SEVERAL_PATIENTS: "Correct the patient identifiers in the archive and send the study again.",
    ReasonCode.CONFLICTING_INSTANCES: "Find out in the archive which of the two versions of the instance is true.",
    ReasonCode.NOT_REQUESTED: "Request the assessment: a row of the clinical table, a procedure rule, or mmf-node run.",
    ReasonCode.OUTSIDE_POPULATION: "None: the model was not made for this patient.",
    ReasonCode.AFTER_TREATMENT_START: "Send the last CT before the first dose.",
    ReasonCode.CLINICAL_ROW_CONTRADICTS: "Correct the row of the clinical table, or the identifiers of the study.",
    ReasonCode.CLINICAL_ROW_INVALID: "Correct the cell of the clinical table, then ask for the study again (mmf-node jobs retry).",
    ReasonCode.MODEL_NOT_ALLOWED: "Install a released model; models trained on phantoms need the operator's leave.",
    ReasonCode.PROCESSING_FAILED: "Report the message to the operator of the node; the images are kept.",
}


def remedy(reason: ReasonCode) -> str:
    """Returns what would help, in a sentence for the reader."""
    return _REMEDIES[reason]


def warnings_of(report: Report) -> tuple[str, ...]:
    """Returns the sentences that must stand on every page and in the SR: research use, and what is artificial."""
    sentences = [RESEARCH_SENTENCE]
    if report.demonstration:
        sentences.append(DEMONSTRATION_SENTENCE)
    if report.synthetic:
        sentences.append(SYNTHETIC_SENTENCE)
    return tuple(sentences)


def describe_feature(entry: FeatureEntry) -> str:
    """Returns one radiomic feature by region, phase and pyradiomics' name."""
    phase = "" if entry.phase is None else entry.phase.value
    return " ".join(word for word in (entry.region, phase, entry.feature) if word)


def describe_phase(entry: PhaseEntry) -> str:
    """Returns one acquisition in a sentence: which, what it is, whether it was used, and why."""
    number = "?" if entry.series_number is None else str(entry.series_number)
    part = f" part {entry.part}" if entry.part else ""
    words = "not determined" if entry.phase is None else entry.phase.value
    sure = "" if entry.probability is None else f" (probability {entry.probability:.2f})"
    name = f' "{entry.series_description}"' if entry.series_description else ""
    reasons = "; ".join(reason.removeprefix("not used: ") for reason in entry.reasons) or "no reason recorded"
    return f"Series {number}{part}{name}, {entry.slices} slices: {words}{sure}, {'used' if entry.used else 'not used'}: {reasons}"


def describe_model(model: ModelEntry) -> str:
    """Returns a model in a sentence: name, version, hash, cohort, C-index."""
    parts = [f"{model.name} version {model.version}", f"SHA-256 {model.sha256}"]
    if model.trained_on:
        parts.append(f"trained on {model.trained_on}")
    if model.c_index:
        parts.append(f"C-index {model.c_index}")
    return "; ".join(parts)


def describe_point(point: SurvivalPoint) -> str:
    """Returns a survival probability with its interval in words, percent."""
    return (
        f"{100 * point.probability:.0f} % (95 % interval {100 * point.low:.0f} to {100 * point.high:.0f} %)"
    )


def risk_of(report: Report, endpoint: str) -> Risk | None:
    """Returns the risk of ``endpoint`` (OS or PFS), or None."""
    return next((risk for risk in report.risks if risk.endpoint == endpoint), None)


def missing_phases(report: Report) -> tuple[str, ...]:
    """Returns the assessed phases of which no acquisition was used, as words."""
    used = {entry.phase for entry in report.phases if entry.used}
    return tuple(phase.value for phase in ASSESSED_PHASES if phase not in used)
