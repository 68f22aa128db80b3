"""Fits MMF, Benchmark and Ensemble-DL on out-of-fold ensemble scores and clinical variables: Cox models, or a forest."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from engines.clinical.variables import DEFINITIONS, ClinicalVariables, Variable
from engines.endpoint import Endpoint
from engines.ensemble import score_of_mortality
from engines.errors import InvalidInput, VariableSeparates
from engines.mmf import (
    ENSEMBLE_INPUT,
    FOREST_INPUT,
    PRESET_VARIABLES,
    RADIOMIC_INPUT,
    ForestFront,
    ModelName,
    Preset,
    RiskModel,
    log_shares,
)
from engines.models.cox_file import coarsen_baseline
from engines.models.reference import ModelReference, describe_curve, describe_scores
from engines.survival.cox import CoxFit, fit_cox, hazard_ratios, log_hazard
from engines.survival.outcome import Outcome
from train.cutoff import MEDIAN, CutoffChoice, CutoffRule, choose_cutoff
from train.fusion import ForestSettings, fit_forest
from train.out_of_fold import deal_folds

FloatArray = npt.NDArray[np.float64]

LIGHT_RIDGE = 1.0
"""Penalty in units of one event's information on standardised variables: of 300 events it takes 0.3 % (OURS)."""

UNIVARIABLE_P = 0.05
"""Source: method, section 7, preset ``univariable p < 0.05``; tested on the training rows alone."""

MMF_FOREST = ForestSettings(depth=5, smallest_leaf=15, smallest_split=30)
"""Of the option forest: 14 inputs need deeper trees than Ensemble-DL's three (OURS)."""

FRONT_FOLDS = 5
"""The Cox model behind an MMF forest is fitted on forest scores of rows that the forest has not seen (OURS)."""


class Estimator(StrEnum):
    """What MMF is: the Cox model of the method, or the option of a random survival forest (method, section 7)."""

    COX = "cox"
    FOREST = "forest"


@dataclass(frozen=True, slots=True, kw_only=True)
class CoxSettings:
    """How the models are fitted.

    Attributes:
        preset: candidates among the clinical variables.
        ridge: weight of the penalty, >= 0; see ``engines.survival.cox.fit_cox``.
        estimator: of MMF alone.
        forest: size of an MMF forest.
        with_radiomic: whether MMF takes the Radiomic score as an input.
        cutoff: rule of the cut-offs.
    """

    preset: Preset = Preset.STANDARD13
    ridge: float = LIGHT_RIDGE
    estimator: Estimator = Estimator.COX
    forest: ForestSettings = MMF_FOREST
    with_radiomic: bool = False
    cutoff: CutoffChoice = MEDIAN


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingRows:
    """The rows a risk model is fitted on.

    Attributes:
        endpoint: OS or PFS.
        ensemble_scores: (n,), log(mortality / event times), out-of-fold.
        patients: n clinical records; what is missing there is missing.
        outcome: of the same n patients, in months.
        description: which rows these are, for the reference data, e.g. "out-of-fold, 5 folds".
        radiomic_scores: (n,), log hazard of the Radiomic model, out-of-fold, NaN where missing; None without features.
    """

    endpoint: Endpoint
    ensemble_scores: FloatArray
    patients: Sequence[ClinicalVariables]
    outcome: Outcome
    description: str
    radiomic_scores: FloatArray | None = None

    def __post_init__(self) -> None:
        sizes = (self.ensemble_scores.shape, len(self.patients), self.outcome.n)
        if sizes != ((self.outcome.n,), self.outcome.n, self.outcome.n):
            raise InvalidInput(
                f"{self.endpoint}: scores {sizes[0]}, {sizes[1]} patients, {sizes[2]} outcomes"
            )

    def table(self, names: Sequence[str]) -> FloatArray:
        """Returns the named inputs, (n, inputs), NaN where missing or outside the population."""
        return input_table(names, self.patients, self.ensemble_scores, self.radiomic_scores)

    def take(self, rows: npt.NDArray[np.int64]) -> "TrainingRows":
        """Returns some of the rows."""
        radiomic = self.radiomic_scores
        return TrainingRows(
            endpoint=self.endpoint,
            ensemble_scores=self.ensemble_scores[rows],
            patients=[self.patients[row] for row in rows],
            outcome=self.outcome.take(rows),
            description=self.description,
            radiomic_scores=None if radiomic is None else radiomic[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HazardFit:
    """A fitted model without what a release adds.

    Attributes:
        names: inputs.
        used: rows without a missing input (complete case).
        cox: with its baseline at every event time.
        front: of an MMF forest.
        limits: what a reader must know of this fit, one sentence each.
    """

    names: tuple[str, ...]
    used: npt.NDArray[np.int64]
    cox: CoxFit
    front: ForestFront | None
    limits: tuple[str, ...]

    def log_hazards(self, table: FloatArray) -> FloatArray:
        """Returns the log hazard of inputs (n, inputs), (n,), NaN where an input is missing."""
        found = np.full(len(table), np.nan)
        complete = np.isfinite(table).all(axis=1)
        if complete.any():
            rows = table[complete]
            rows = rows if self.front is None else self.front.scores(rows)[:, np.newaxis]
            found[complete] = log_hazard(self.cox, rows)
        return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RiskFit:
    """A fitted risk model with the reference data that is released beside it.

    Attributes:
        used: rows of the training table without a missing value (complete case).
        full: the Cox model with its baseline at every event time; the released one is coarser.
        log_hazards: (used,), of the training rows.
        limits: what a reader must know of this fit, one sentence each.
    """

    model: RiskModel
    reference: ModelReference
    used: npt.NDArray[np.int64]
    full: CoxFit
    log_hazards: FloatArray
    limits: tuple[str, ...] = ()


def fit_risk_model(
    name: ModelName,
    rows: TrainingRows,
    settings: CoxSettings | None = None,
    *,
    out_of_fold: FloatArray | None = None,
) -> RiskFit:
    """Returns one model of one endpoint, with its cut-off and reference data from these rows alone.

    Rows with a missing input are left out (complete case); how many is in ``used``. A cut-off fixed by hand that has nobody
    on one side gives way to the median, which is said in the limits.

    Args:
        name: MMF, Ensemble-DL or Benchmark.
        rows: the training cohort.
        settings: preset, estimator, ridge, cut-off.
        out_of_fold: (n,), log hazards of the rows by models that have not seen them, NaN where missing; cut-offs come
            from these. None takes the model's own log hazards at the out-of-fold ensemble scores.

    Raises:
        InvalidInput: no complete row, no variable that differs between them, or the same log hazard for everyone.
        SurvivalRefused: no event among the complete rows.
    """
    chosen = settings if settings is not None else CoxSettings()
    fit = fit_hazard(name, rows, chosen)
    outcome = rows.outcome.take(fit.used)
    log_hazards = fit.log_hazards(rows.table(fit.names)[fit.used])
    judged, known = (log_hazards, outcome) if out_of_fold is None else _known(out_of_fold, rows.outcome)
    cutoff, words = choose_cutoff(chosen.cutoff.of(name), judged, known, rows.description)
    high = log_hazards > cutoff
    limits = fit.limits
    if chosen.cutoff.of(name).rule is CutoffRule.FIXED and (high.all() or not high.any()):
        limits += (
            f"{name} {rows.endpoint}: the cut-off {cutoff:g} fixed by hand has no patient {'below' if high.all() else 'above'}"
            f" it (log hazards {log_hazards.min():.2f} to {log_hazards.max():.2f}); the median of the training cohort serves.",
        )
        cutoff, words = choose_cutoff(MEDIAN, judged, known, rows.description)
        high = log_hazards > cutoff
    if high.all() or not high.any():
        raise InvalidInput(f"{name} {rows.endpoint}: no patient lies on one side of the cut-off {cutoff:g}")
    quantiles = describe_scores(log_hazards)
    model = RiskModel(
        name=name,
        endpoint=rows.endpoint,
        cox=coarsen_baseline(fit.cox),
        cutoff=cutoff,
        cutoff_rule=words,
        quantiles=quantiles,
        front=fit.front,
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
    return RiskFit(
        model=model,
        reference=reference,
        used=fit.used,
        full=fit.cox,
        log_hazards=log_hazards,
        limits=limits,
    )


def fit_hazard(name: ModelName, rows: TrainingRows, settings: CoxSettings) -> HazardFit:
    """Returns one model of one endpoint, from these rows alone.

    A candidate that is the same in all complete rows tells nothing and is left out, which is said; a variable that
    separates the events keeps a finite coefficient by the ridge, which is said too.

    Args:
        name: MMF, Ensemble-DL or Benchmark.
        rows: what may be seen.
        settings: preset, estimator, ridge.

    Raises:
        InvalidInput: no complete row, or no input that differs between them.
        SurvivalRefused: no event among the complete rows.
    """
    candidates = () if name == ModelName.ENSEMBLE_DL else PRESET_VARIABLES[settings.preset]
    scores: tuple[str, ...] = () if name == ModelName.BENCHMARK else (ENSEMBLE_INPUT,)
    if name == ModelName.MMF and settings.with_radiomic:
        scores += (RADIOMIC_INPUT,)
    names = (*scores, *(variable.value for variable in candidates))
    table = rows.table(names)
    used = np.flatnonzero(np.isfinite(table).all(axis=1))
    if used.size == 0:
        raise InvalidInput(f"{name} {rows.endpoint}: no patient has all of {', '.join(names)}")
    table, outcome = table[used], rows.outcome.take(used)
    varies = np.ptp(table, axis=0) > 0
    limits = _constants(name, rows, [one for one, differs in zip(names, varies, strict=True) if not differs])
    kept = varies.copy()
    if settings.preset == Preset.UNIVARIABLE:
        kept[len(scores) :] &= _univariable(table[:, len(scores) :], outcome)
    chosen = tuple(one for one, keep in zip(names, kept, strict=True) if keep)
    if not chosen:
        raise InvalidInput(
            f"{name} {rows.endpoint}: no input differs between the {used.size} complete rows, or none has p < {UNIVARIABLE_P}"
        )
    inputs = table[:, kept]
    if name == ModelName.MMF and settings.estimator is Estimator.FOREST:
        front, behind = _fit_front(chosen, inputs, outcome, settings)
        cox = fit_cox(behind, outcome, (FOREST_INPUT,), ridge=settings.ridge)
        front = _centre(front, cox)
        return HazardFit(names=chosen, used=used, cox=cox, front=front, limits=limits)
    cox = fit_cox(inputs, outcome, chosen, ridge=settings.ridge)
    limits += _separating(name, rows.endpoint, inputs, outcome, chosen)
    return HazardFit(names=chosen, used=used, cox=cox, front=None, limits=limits)


def input_table(
    names: Sequence[str],
    patients: Sequence[ClinicalVariables],
    ensemble_scores: FloatArray,
    radiomic_scores: FloatArray | None,
) -> FloatArray:
    """Returns the named inputs of patients, (n, inputs), NaN where missing or outside the population."""
    missing = np.full(len(patients), np.nan)
    scores = {
        ENSEMBLE_INPUT: ensemble_scores,
        RADIOMIC_INPUT: missing if radiomic_scores is None else radiomic_scores,
    }
    columns = [
        scores[name]
        if name in scores
        else np.array(
            [np.nan if (one := p.indicator(Variable(name))) is None else one for p in patients], dtype=float
        )
        for name in names
    ]
    return np.column_stack(columns) if columns else np.empty((len(patients), 0))


def score_table(model: RiskModel, table: FloatArray) -> FloatArray:
    """Returns the log hazard of inputs (n, p), (n,), NaN where an input is missing."""
    found = np.full(len(table), np.nan)
    complete = np.isfinite(table).all(axis=1)
    if complete.any():
        found[complete] = model.log_hazards(table[complete])
    return found


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


def _known(scores: FloatArray, outcome: Outcome) -> tuple[FloatArray, Outcome]:
    there = np.isfinite(scores)
    return scores[there], outcome.take(there)


def _univariable(clinical: FloatArray, outcome: Outcome) -> npt.NDArray[np.bool_]:
    """Whether each column alone has p < 0.05; a column without variation or that separates has not."""
    kept = np.zeros(clinical.shape[1], dtype=np.bool_)
    for column in range(clinical.shape[1]):
        values = clinical[:, column]
        if np.ptp(values) > 0:
            (ratio,) = hazard_ratios(fit_cox(values, outcome, ridge=LIGHT_RIDGE))
            kept[column] = ratio.p_value < UNIVARIABLE_P
    return kept


def _constants(name: ModelName, rows: TrainingRows, constant: Sequence[str]) -> tuple[str, ...]:
    if not constant:
        return ()
    words = ", ".join(_title(one) for one in constant)
    return (
        f"{name} {rows.endpoint} was fitted without {words}: the same in all complete rows ({rows.description}).",
    )


def _separating(
    name: ModelName, endpoint: Endpoint, inputs: FloatArray, outcome: Outcome, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Says which variables have an infinite hazard ratio without the ridge."""
    try:
        fit_cox(inputs, outcome, names)
    except VariableSeparates as error:
        words = ", ".join(_title(one) for one in error.variables)
        return (
            f"{name} {endpoint}: {words} separates the events; its coefficient is finite by the ridge alone.",
        )
    except InvalidInput:
        return (
            f"{name} {endpoint}: two inputs are nearly the same; the ridge shares the effect between them.",
        )
    return ()


def _title(name: str) -> str:
    return DEFINITIONS[Variable(name)].title if name in set(Variable) else name


def _fit_front(
    names: tuple[str, ...], inputs: FloatArray, outcome: Outcome, settings: CoxSettings
) -> tuple[ForestFront, FloatArray]:
    """The forest of all rows, and the score of each row by a forest that has not seen it."""
    fold = deal_folds(outcome.event.astype(np.int64), FRONT_FOLDS, settings.forest.seed)
    behind = np.empty(outcome.n)
    for number in range(FRONT_FOLDS):
        seen, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        part = fit_forest(inputs[seen], outcome.time[seen], outcome.event[seen], settings.forest)
        behind[held] = score_of_mortality(part.mortalities(inputs[held]), part.event_times)
    forest = fit_forest(inputs, outcome.time, outcome.event, settings.forest)
    return (
        ForestFront(names=names, forest=forest, mean_contributions=log_shares(forest, inputs).mean(axis=0)),
        behind,
    )


def _centre(front: ForestFront, cox: CoxFit) -> ForestFront:
    """The front whose mean contributions sum to the Cox model's mean score: shares then sum to the log hazard exactly."""
    wanted = float(cox.means[0]) - float(np.log(front.forest.root_mortality / front.forest.event_times))
    mean = front.mean_contributions
    return ForestFront(
        names=front.names,
        forest=front.forest,
        mean_contributions=mean + (wanted - mean.sum()) / mean.size,
    )
