"""The report of one study as a record: what report.json holds and what every result object is built from."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from engines.phase import Phase

SCHEMA_VERSION = 1


class Status(StrEnum):
    """Outcome of an assessment."""

    ASSESSED = "assessed"
    NOT_ASSESSABLE = "not_assessable"
    FAILED = "failed"


class ReasonCode(StrEnum):
    """Why a study has no risk: a closed list, part of the schema of report.json."""

    NO_CT = "no_ct"
    MISSING_PHASE = "missing_phase"
    AMBIGUOUS_PHASE = "ambiguous_phase"
    VOLUME_REFUSED = "volume_refused"
    FRAME_OF_REFERENCE_DIFFERS = "frame_of_reference_differs"
    POOR_REGISTRATION = "poor_registration"
    NO_LIVER = "no_liver"
    IMPLAUSIBLE_LIVER = "implausible_liver"
    NO_TUMOUR = "no_tumour"
    SEVERAL_PATIENTS = "several_patients"
    CONFLICTING_INSTANCES = "conflicting_instances"
    NOT_REQUESTED = "not_requested"
    OUTSIDE_POPULATION = "outside_population"
    AFTER_TREATMENT_START = "after_treatment_start"
    CLINICAL_ROW_CONTRADICTS = "clinical_row_contradicts"
    CLINICAL_ROW_INVALID = "clinical_row_invalid"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    PROCESSING_FAILED = "processing_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAssessable:
    """Why there is no risk: a value that any stage may give instead of its result."""

    code: ReasonCode
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEntry:
    """One acquisition and what became of it."""

    phase: Phase | None
    series_instance_uid: str
    part: int
    series_number: int | None
    series_description: str
    slices: int
    seconds_after_injection: float | None
    probability: float | None
    used: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One segmented structure on the portal-venous grid.

    Attributes:
        name: ``liver``, ``tumour`` (all lesions together) or ``lesion N`` (N from 1, largest first).
        longest_diameter_mm: largest in-plane (axial) diameter, mm; None for the liver.
        label: value of the structure in the lesion mask (0 for liver and tumour).
    """

    name: str
    volume_ml: float
    longest_diameter_mm: float | None
    provider: str
    label: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalPoint:
    """Predicted survival probability at one time with the model's 95 % interval (about the average, not the patient)."""

    months: float
    probability: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one input adds to the log hazard, relative to the reference category or the training mean."""

    name: str
    value: str
    log_hazard: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureEntry:
    """One radiomic feature that entered the Radiomic score.

    Attributes:
        region: ``liver`` or ``tumour`` (the largest lesion).
        phase: None for shape.
        feature: pyradiomics' name.
        value: unrounded, in pyradiomics' unit.
    """

    region: str
    phase: Phase | None
    feature: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """The estimate for one endpoint.

    Attributes:
        model: ``MMF`` or ``Ensemble-DL``.
        log_hazard: relative to the model's training mean (natural logarithm).
        group: ``low`` or ``high``: the score against the cut-off of the discovery cohort.
        percentile: share of the training cohort with a lower score, 0 to 100.
        radiomic_features: behind the Radiomic score, where the model takes it; else empty.
    """

    endpoint: str
    model: str
    log_hazard: float
    low: float
    high: float
    group: str
    cutoff: float
    percentile: float | None
    survival: tuple[SurvivalPoint, ...]
    contributions: tuple[Contribution, ...] = ()
    network_scores: tuple[tuple[str, float], ...] = ()
    radiomic_features: tuple[FeatureEntry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """A model that took part. ``demonstration``: trained on phantoms, of no clinical meaning at all."""

    name: str
    version: str
    sha256: str
    demonstration: bool = False
    trained_on: str = ""
    c_index: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectEntry:
    """One DICOM object of the result. ``kind`` is SEG, SR, PDF or SC; ``path`` is relative to the output folder."""

    kind: str
    sop_class_uid: str
    sop_instance_uid: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalEntry:
    """One clinical variable as used, with its unit in words; ``value`` None = missing, never imputed."""

    name: str
    value: str | None
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a result says. The same record makes report.json, SR, SEG and PDF.

    Attributes:
        concluded_at: aware UTC, recorded once; every date and time of the result objects comes from it.
        reason_code: None when assessed.
        reason: the reason in a sentence; "" when assessed.
        missing: clinical variables or inputs that were not there.
        flags: warnings a reader must see (demonstration model, out of distribution, contradictions).
        seconds_per_step: wall time by step name, for the log and the demo's table; not part of the objects.
    """

    study_instance_uid: str
    status: Status
    concluded_at: datetime
    reason_code: ReasonCode | None = None
    reason: str = ""
    phases: tuple[PhaseEntry, ...] = ()
    structures: tuple[Structure, ...] = ()
    risks: tuple[Risk, ...] = ()
    models: tuple[ModelEntry, ...] = ()
    clinical: tuple[ClinicalEntry, ...] = ()
    objects: tuple[ObjectEntry, ...] = ()
    missing: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    registration: tuple[tuple[str, float], ...] = ()
    software_version: str = ""
    synthetic: bool = False
    seconds_per_step: tuple[tuple[str, float], ...] = field(default=(), compare=False)

    @property
    def demonstration(self) -> bool:
        """Whether a model trained on phantoms took part."""
        return any(model.demonstration for model in self.models)
