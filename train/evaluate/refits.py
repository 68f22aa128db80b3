"""Refits of the fusion on score level: leave one centre out, and bootstrap samples for the stability of predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.clinical.variables import STANDARD_VARIABLES
from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.calibration import Slope, calibration_slope
from engines.survival.concordance import measure_concordance
from engines.survival.cox import CoxFit, fit_cox, log_hazard, predict_survival
from engines.survival.outcome import BoolArray, FloatArray, IntArray, Outcome
from train.clinical_model import LIGHT_RIDGE
from train.evaluate.document import Row, Table
from train.evaluate.hazards import FEWEST_EVENTS, FEWEST_PATIENTS, list_covariates
from train.evaluate.score_table import EndpointColumns, ScoreTable
from train.evaluate.words import NOT_ESTIMABLE, estimate_text

INSTABILITY_REPEATS = 100
"""Bootstrap refits of the instability plot. Source: Riley & Collins, Biometrical J 2023;65:2200302 (at least 200 for a
paper; 100 show the band)."""

INSTABILITY_MONTH = {"OS": 12.0, "PFS": 6.0, "TTP": 6.0}
"""Horizon of the risks whose stability is shown (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FusionInputs:
    """Inputs of the fusion, one row a complete case.

    Attributes:
        names: of the columns.
        columns: (n, p).
        rows: (n,) rows of the score table.
        outcome: of the same patients.
    """

    names: tuple[str, ...]
    columns: FloatArray
    rows: IntArray
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The fusion refitted without one centre, and how it does there.

    Attributes:
        shown: False for fewer than 10 patients or 5 events on either side, or where the refit is impossible.
        low: of the 95 % interval of C by Noether's standard error.
    """

    endpoint: str
    model: str
    centre: str
    n: int
    events: int
    shown: bool
    c_index: float | None
    low: float | None
    high: float | None
    slope: Slope | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instability:
    """Risks of the same patients by refits on bootstrap samples of the discovery cohort.

    Attributes:
        month: of the risks.
        original: (n,) risk by the fit on the cohort itself.
        refitted: (repeats, n) risk by each refit.
        difference: mean absolute difference of refitted and original risk.
        widest: 95th percentile over patients of the width of the central 95 % of their refitted risks.
    """

    endpoint: str
    month: float
    original: FloatArray
    refitted: FloatArray
    difference: float
    widest: float


def gather_inputs(
    table: ScoreTable, score: str | None, endpoint: EndpointColumns, rows: BoolArray
) -> FusionInputs | None:
    """Returns the inputs of the fusion: the score and the pre-specified variables that the table holds.

    Args:
        table: checked scores.
        score: Ensemble-DL's column, or None for the clinical variables alone.
        endpoint: whose follow-up and score are taken.
        rows: (n,) patients wanted; complete cases with known follow-up among them are returned.
    """
    covariates = [
        covariate
        for covariate in list_covariates(table, score, endpoint.name)
        if covariate.variable is None
        or (covariate.variable in STANDARD_VARIABLES and covariate.key == covariate.variable.value)
    ]
    if not covariates:
        return None
    columns = np.column_stack([covariate.joint for covariate in covariates])
    used = rows & endpoint.known & ~np.isnan(columns).any(axis=1)
    if not used.any():
        return None
    return FusionInputs(
        names=tuple(covariate.key for covariate in covariates),
        columns=columns[used],
        rows=np.flatnonzero(used),
        outcome=endpoint.outcome(used),
    )


def leave_centres_out(
    inputs: FusionInputs, centres: Sequence[str], endpoint: str, model: str
) -> tuple[LeftOut, ...]:
    """Returns the fusion refitted without each centre in turn and measured there.

    Args:
        inputs: complete cases of all centres.
        centres: n words, of the same rows; "" takes no part.
        endpoint: OS, PFS or TTP.
        model: name in the table.
    """
    words = np.array(centres, dtype=np.str_)
    found = []
    for centre in dict.fromkeys(word for word in centres if word):
        held, others = words == centre, (words != centre) & (words != "")
        outcome = inputs.outcome.take(held)
        shown = _enough(inputs.outcome, held) and _enough(inputs.outcome, others)
        fitted = _fit(inputs.columns[others], inputs.outcome.take(others)) if shown else None
        values = None if fitted is None else _apply(fitted, inputs.columns[held])
        c_index = low = high = None
        if values is not None and shown:
            try:
                measured = measure_concordance(values, outcome)
                c_index, error = measured.c_index, measured.standard_error
                low, high = max(0.0, c_index - 1.96 * error), min(1.0, c_index + 1.96 * error)
            except SurvivalRefused:
                c_index = None
        found.append(
            LeftOut(
                endpoint=endpoint,
                model=model,
                centre=centre,
                n=outcome.n,
                events=outcome.events,
                shown=shown and c_index is not None,
                c_index=c_index,
                low=low,
                high=high,
                slope=None if values is None or not shown else calibration_slope(values, outcome),
            )
        )
    return tuple(found)


def measure_instability(
    inputs: FusionInputs, endpoint: str, seed: int, repeats: int = INSTABILITY_REPEATS
) -> Instability | None:
    """Returns the risks of the patients by refits on bootstrap samples; None where the fit is not estimable.

    Args:
        inputs: complete cases of the discovery cohort.
        endpoint: OS, PFS or TTP.
        seed: of the samples.
        repeats: of them.

    Source: Riley & Collins, Biometrical J 2023;65:2200302.
    """
    month = INSTABILITY_MONTH[endpoint]
    fitted = _fit(inputs.columns, inputs.outcome)
    if fitted is None:
        return None
    original = _risk(fitted, inputs.columns, month)
    if np.isnan(original).any():
        return None
    random = np.random.default_rng(seed)
    refitted = []
    for _ in range(repeats):
        rows = random.integers(0, inputs.outcome.n, inputs.outcome.n)
        again = _fit(inputs.columns[rows], inputs.outcome.take(rows))
        risk = None if again is None else _risk(again, inputs.columns, month)
        if risk is not None and not np.isnan(risk).any():
            refitted.append(risk)
    if len(refitted) < repeats / 2:
        return None
    risks = np.stack(refitted)
    width = np.quantile(risks, 0.975, axis=0) - np.quantile(risks, 0.025, axis=0)
    return Instability(
        endpoint=endpoint,
        month=month,
        original=original,
        refitted=risks,
        difference=float(np.abs(risks - original).mean()),
        widest=float(np.quantile(width, 0.95)),
    )


def left_out_table(found: Sequence[LeftOut]) -> Table:
    """Returns the internal-external validation: one row a centre that was left out."""
    rows = []
    for entry in found:
        cells: tuple[str, ...] = ("not shown", "")
        if entry.shown:
            slope = entry.slope
            cells = (
                estimate_text(entry.c_index, entry.low, entry.high),
                NOT_ESTIMABLE if slope is None else estimate_text(slope.value, slope.low, slope.high),
            )
        rows.append(
            Row(cells=(entry.model, entry.endpoint, entry.centre, f"{entry.n} / {entry.events}", *cells))
        )
    return Table(
        name="internal_external_validation",
        title="Internal-external validation: the fusion refitted on the other centres",
        header=(
            "Model",
            "Endpoint",
            "Centre left out",
            "n / events",
            "Harrell's C (95% CI)",
            "Calibration slope (95% CI)",
        ),
        rows=tuple(rows),
        notes=(
            "Cox models with a light ridge on the scores and the pre-specified variables of complete cases; the scores"
            " themselves are not refitted, so that a centre's images may have taught the networks. Intervals by Noether's"
            " standard error. Centres of fewer than 10 patients or 5 events are not shown.",
        ),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    cox: CoxFit
    kept: BoolArray


def _fit(columns: FloatArray, outcome: Outcome) -> _Fitted | None:
    kept: BoolArray = np.ptp(columns, axis=0) > 0
    if not kept.any():
        return None
    try:
        return _Fitted(fit_cox(columns[:, kept], outcome, ridge=LIGHT_RIDGE), kept)
    except (InvalidInput, SurvivalRefused):
        return None


def _enough(outcome: Outcome, rows: BoolArray) -> bool:
    return bool(rows.sum() >= FEWEST_PATIENTS and outcome.event[rows].sum() >= FEWEST_EVENTS)


def _apply(fitted: _Fitted, columns: FloatArray) -> FloatArray:
    return log_hazard(fitted.cox, columns[:, fitted.kept])


def _risk(fitted: _Fitted, columns: FloatArray, month: float) -> FloatArray:
    survival = predict_survival(fitted.cox, columns[:, fitted.kept], (month,)).survival[:, 0]
    return 1 - survival
