"""Calibration of predicted risk at a horizon: observed against expected, slope, ICI, and groups for a figure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.cox import fit_cox, predict_survival
from engines.survival.kaplan_meier import estimate_survival, survival_at
from engines.survival.outcome import FloatArray, Outcome
from engines.survival.roc import explain_horizon

KNOT_QUANTILES = (0.05, 0.35, 0.65, 0.95)
"""Knots of the restricted cubic spline. Source: Harrell, Regression Modeling Strategies 2015, Table 2.3 (k = 4)."""

GROUPS = 5
"""Groups of equal size in the calibration figure."""

_EDGE = 1e-12
"""Risks are kept this far from 0 and 1, where log(-log(S)) is infinite."""

_NORMAL_95 = float(special.ndtri(0.975))


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskGroup:
    """Patients of similar predicted risk: mean predicted and observed (Kaplan-Meier) risk with its interval."""

    n: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slope:
    """Log hazard ratio per unit of predicted log hazard: 1 is ideal, below 1 predictions are too extreme."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Agreement of predicted and observed risk at a horizon.

    Attributes:
        time: horizon.
        observed: 1 - Kaplan-Meier.
        expected: mean predicted risk.
        ratio: observed / expected.
        ratio_low: lower bound, from the interval of the Kaplan-Meier estimate.
        ratio_high: upper bound.
        slope: None where it cannot be fitted.
        ici: mean absolute difference of predicted and smoothed observed risk; None where it cannot be fitted.
        e50: median of that difference.
        e90: its 90th percentile.
        groups: for a figure; groups of fewer patients than needed at the horizon are left out.
    """

    time: float
    observed: float
    expected: float
    ratio: float
    ratio_low: float
    ratio_high: float
    slope: Slope | None
    ici: float | None
    e50: float | None
    e90: float | None
    groups: tuple[RiskGroup, ...]


def assess_calibration(risk: npt.ArrayLike, outcome: Outcome, time: float) -> Calibration:
    """Returns the calibration of predicted risk at a horizon.

    Args:
        risk: (n,) predicted probability of the event by ``time``.
        outcome: follow-up of the same patients, none of whom the prediction was fitted on.
        time: horizon.

    Raises:
        InvalidInput: not n probabilities.
        SurvivalRefused: too few patients are at risk at the horizon, or no event is expected; the message says so.

    Source: Royston & Altman 2013 (observed/expected, slope); Austin, Harrell & van Klaveren 2020 (ICI, E50, E90 by a
    Cox model on a restricted cubic spline of log(-log(1 - risk))).
    """
    predicted = check_risk(risk, outcome)
    reason = explain_horizon(outcome, time)
    if reason:
        raise SurvivalRefused(reason)
    point = survival_at(estimate_survival(outcome), time)
    expected = float(predicted.mean())
    if expected < _EDGE:
        raise SurvivalRefused(f"not estimable: the model expects no event by {time:g}")
    difference = _smoothed_difference(predicted, outcome, time)
    return Calibration(
        time=time,
        observed=1 - point.survival,
        expected=expected,
        ratio=(1 - point.survival) / expected,
        ratio_low=(1 - point.high) / expected,
        ratio_high=(1 - point.low) / expected,
        slope=calibration_slope(complementary_log_log(predicted), outcome),
        ici=None if difference is None else float(difference.mean()),
        e50=None if difference is None else float(np.quantile(difference, 0.5)),
        e90=None if difference is None else float(np.quantile(difference, 0.9)),
        groups=_group_by_risk(predicted, outcome, time),
    )


def calibration_slope(log_hazard: FloatArray, outcome: Outcome) -> Slope | None:
    """Returns the Cox coefficient of the predicted log hazard; None where it is constant or separates the events."""
    if np.ptp(log_hazard) == 0:
        return None
    try:
        fit = fit_cox(log_hazard, outcome, ("prediction",))
    except SurvivalRefused:
        return None
    value, width = float(fit.coefficients[0]), _NORMAL_95 * float(np.sqrt(fit.covariance[0, 0]))
    return Slope(value=value, low=value - width, high=value + width)


def complementary_log_log(risk: FloatArray) -> FloatArray:
    """Returns log(-log(1 - risk)), under proportional hazards the log hazard and a constant."""
    result: FloatArray = np.log(-np.log1p(-np.clip(risk, _EDGE, 1 - _EDGE)))
    return result


def check_risk(risk: npt.ArrayLike, outcome: Outcome) -> FloatArray:
    """Returns the risk as float64 after checking it.

    Raises:
        InvalidInput: not one probability for each patient.
    """
    values = np.asarray(risk, dtype=np.float64)
    if values.shape != (outcome.n,) or not ((values >= 0) & (values <= 1)).all():
        raise InvalidInput(
            f"expected {outcome.n} risks between 0 and 1, got shape {values.shape}"
            f" from {values.min(initial=0):g} to {values.max(initial=0):g}"
        )
    return values


def restricted_cubic_spline(values: FloatArray, knots: FloatArray) -> FloatArray:
    """Returns (n, k - 1) basis of a cubic spline that is linear beyond its outer knots; the first column is linear.

    Source: Harrell, Regression Modeling Strategies 2015, section 2.4.5.
    """
    last, before = knots[-1], knots[-2]
    span = (last - knots[0]) ** 2

    def cube(knot: float) -> FloatArray:
        result: FloatArray = np.maximum(values - knot, 0) ** 3
        return result

    columns = [values]
    for knot in knots[:-2]:
        inner = cube(before) * (last - knot) / (last - before)
        outer = cube(last) * (before - knot) / (last - before)
        columns.append((cube(knot) - inner + outer) / span)
    return np.column_stack(columns)


def _smoothed_difference(predicted: FloatArray, outcome: Outcome, time: float) -> FloatArray | None:
    transformed = complementary_log_log(predicted)
    knots = np.unique(np.quantile(transformed, KNOT_QUANTILES))
    if np.ptp(transformed) == 0:
        return None
    smooth = knots.size == len(KNOT_QUANTILES)
    basis = restricted_cubic_spline(transformed, knots) if smooth else transformed[:, None]
    try:
        fit = fit_cox(basis, outcome)
        survival = predict_survival(fit, basis, (time,)).survival[:, 0]
    except (InvalidInput, SurvivalRefused):
        return None
    return np.abs(1 - survival - predicted)


def _group_by_risk(predicted: FloatArray, outcome: Outcome, time: float) -> tuple[RiskGroup, ...]:
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, GROUPS + 1)[1:-1]))
    member = np.searchsorted(edges, predicted, side="left")
    groups = []
    for index in range(edges.size + 1):
        rows = member == index
        if not rows.any():
            continue
        point = survival_at(estimate_survival(outcome.take(rows)), time)
        if not point.estimable or np.isnan(point.low):
            continue
        groups.append(
            RiskGroup(
                n=int(rows.sum()),
                predicted=float(predicted[rows].mean()),
                observed=1 - point.survival,
                low=1 - point.high,
                high=1 - point.low,
            )
        )
    return tuple(groups)
