"""Fits MMF, Benchmark and Ensemble-DL: Cox models on out-of-fold ensemble scores and clinical variables."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.clinical.variables import ClinicalVariables, Variable
from engines.endpoint import Endpoint
from engines.errors import InvalidInput
from engines.mmf import ENSEMBLE_INPUT, PRESET_VARIABLES, ModelName, Preset, RiskModel
from engines.models.cox_file import coarsen_baseline
from engines.models.reference import ModelReference, describe_curve, describe_scores
from engines.survival.cox import CoxFit, fit_cox, hazard_ratios, log_hazard
from engines.survival.outcome import Outcome

FloatArray = npt.NDArray[np.float64]

LIGHT_RIDGE = 1.0
"""Penalty in units of one event's information on standardised variables: of 300 events it takes 0.3 % (OURS)."""

UNIVARIABLE_P = 0.05
"""Source: method, section 7, preset ``univariable p < 0.05``; tested on the training rows alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoxSettings:
    """How the Cox models are fitted.

    Attributes:
        preset: candidates among the clinical variables.
        ridge: weight of the penalty, >= 0; see ``engines.survival.cox.fit_cox``.
    """

    preset: Preset = Preset.STANDARD13
    ridge: float = LIGHT_RIDGE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingRows:
    """What the Cox models of one endpoint are fitted on, one row a patient.

    Attributes:
        ensemble_scores: (n,), Ensemble-DL, out-of-fold: the in-sample scores are optimistic.
        patients: n clinical variables.
        outcome: of the same n patients, in months.
        description: which rows these are, for the reference data, e.g. "out-of-fold, 5 folds".
    """

    endpoint: Endpoint
    ensemble_scores: FloatArray
    patients: Sequence[ClinicalVariables]
    outcome: Outcome
    description: str

    def __post_init__(self) -> None:
        sizes = (self.ensemble_scores.shape, len(self.patients), self.outcome.n)
        if sizes != ((self.outcome.n,), self.outcome.n, self.outcome.n):
            raise InvalidInput(
                f"{self.endpoint}: scores {sizes[0]}, {sizes[1]} patients, {sizes[2]} outcomes"
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RiskFit:
    """A fitted risk model with the reference data that is released beside it.

    Attributes:
        used: rows of the training table without a missing value (complete case).
        full: the Cox model with its baseline at every event time; the released one is coarser.
        log_hazards: (used,), of the training rows.
    """

    model: RiskModel
    reference: ModelReference
    used: npt.NDArray[np.int64]
    full: CoxFit
    log_hazards: FloatArray


def fit_risk_model(name: ModelName, rows: TrainingRows, settings: CoxSettings | None = None) -> RiskFit:
    """Returns one model of one endpoint, with its cut-off and reference data from these rows alone.

    Rows with a missing variable are left out (complete case); how many is in ``used``.

    Args:
        name: MMF, Ensemble-DL or Benchmark.
        rows: the training cohort.
        settings: preset and ridge.

    Raises:
        InvalidInput: no complete row, or a variable that is the same in all of them.
        SurvivalRefused: no event among the complete rows.
    """
    chosen = settings if settings is not None else CoxSettings()
    candidates = () if name == ModelName.ENSEMBLE_DL else PRESET_VARIABLES[chosen.preset]
    used = complete_rows(rows.patients, candidates)
    if used.size == 0:
        raise InvalidInput(f"{name} {rows.endpoint}: no patient has all of {', '.join(candidates)}")
    outcome = rows.outcome.take(used)
    clinical = indicators([rows.patients[row] for row in used], candidates)
    if chosen.preset == Preset.UNIVARIABLE and candidates:
        kept = _univariable(clinical, outcome)
        candidates = tuple(variable for variable, keep in zip(candidates, kept, strict=True) if keep)
        clinical = clinical[:, kept]
    names = tuple(variable.value for variable in candidates)
    inputs = clinical
    if name != ModelName.BENCHMARK:
        inputs = np.column_stack([rows.ensemble_scores[used], clinical])
        names = (ENSEMBLE_INPUT, *names)
    full = fit_cox(inputs, outcome, names, ridge=chosen.ridge)
    log_hazards = log_hazard(full, inputs)
    cutoff = float(np.median(log_hazards))
    quantiles = describe_scores(log_hazards)
    high = log_hazards > cutoff
    model = RiskModel(
        name=name,
        endpoint=rows.endpoint,
        cox=coarsen_baseline(full),
        cutoff=cutoff,
        cutoff_rule=f"median of the training cohort ({rows.description})",
        quantiles=quantiles,
    )
    reference = ModelReference(
        endpoint=rows.endpoint,
        model=name,
        rows=rows.description,
        patients=outcome.n,
        events=outcome.events,
        quantiles=tuple(quantiles.tolist()),
        low_curve=describe_curve(outcome.take(~high)),
        high_curve=describe_curve(outcome.take(high)),
    )
    return RiskFit(model=model, reference=reference, used=used, full=full, log_hazards=log_hazards)


def complete_rows(
    patients: Sequence[ClinicalVariables], variables: Sequence[Variable]
) -> npt.NDArray[np.int64]:
    """Returns the indices of the patients who have every one of ``variables`` within the population."""
    complete = [
        row
        for row, patient in enumerate(patients)
        if all(patient.indicator(variable) is not None for variable in variables)
    ]
    return np.asarray(complete, dtype=np.int64)


def indicators(patients: Sequence[ClinicalVariables], variables: Sequence[Variable]) -> FloatArray:
    """Returns the 0/1 indicators of complete patients, shape (n, variables); the reference category is 0.

    Raises:
        InvalidInput: a value is missing; ``complete_rows`` says where none is.
    """
    table = [[patient.indicator(variable) for variable in variables] for patient in patients]
    if any(value is None for row in table for value in row):
        raise InvalidInput("a clinical variable is missing; leave the row out or impute it first")
    return np.asarray(table, dtype=np.float64).reshape(len(patients), len(variables))


def _univariable(clinical: FloatArray, outcome: Outcome) -> npt.NDArray[np.bool_]:
    """Whether each column alone has p < 0.05; a column without variation has not."""
    kept = np.zeros(clinical.shape[1], dtype=np.bool_)
    for column in range(clinical.shape[1]):
        values = clinical[:, column]
        if np.ptp(values) > 0:
            (ratio,) = hazard_ratios(fit_cox(values, outcome))
            kept[column] = ratio.p_value < UNIVARIABLE_P
    return kept
