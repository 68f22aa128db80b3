"""Time-dependent area under the ROC curve, cumulative cases against dynamic controls, weighted for censoring."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.errors import InvalidInput
from engines.survival.kaplan_meier import censoring_survival
from engines.survival.outcome import BoolArray, FloatArray, Outcome, check_score

FEWEST_AT_RISK = 10
"""Patients still under observation beyond the horizon, below which nothing is estimated. Source: method, section 8."""


_ROWS_AT_ONCE = 100
"""Resamples handled together; bounds censoring curves and prefix sums at 100 x n."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicAuc:
    """Area under the curve at one horizon.

    Attributes:
        time: horizon.
        auc: None when not estimable.
        cases: patients with the event by the horizon.
        at_risk: patients observed beyond the horizon (the controls).
        reason: why it is not estimable, else "".
    """

    time: float
    auc: float | None
    cases: int
    at_risk: int
    reason: str = ""


def measure_auc(score: npt.ArrayLike, outcome: Outcome, time: float) -> DynamicAuc:
    """Returns the cumulative/dynamic AUC at a horizon.

    A case's weight is 1 / G(t-), the inverse of the probability of not being censored before its event; equal scores
    count one half.

    Args:
        score: (n,) higher = higher risk.
        outcome: follow-up of the same patients.
        time: horizon > 0.

    Source: Uno et al. 2007; Hung & Chiang 2010; R timeROC and riskRegression (marginal Kaplan-Meier weights).
    """
    values = check_score(score, outcome)
    case, control = _split(outcome, time)
    reason = explain_horizon(outcome, time)
    if reason:
        return DynamicAuc(
            time=time, auc=None, cases=int(case.sum()), at_risk=int(control.sum()), reason=reason
        )
    weight = 1 / censoring_survival(outcome, outcome.time[case], before=True)
    ranked = np.sort(values[control])
    below = np.searchsorted(ranked, values[case], side="left")
    equal = np.searchsorted(ranked, values[case], side="right") - below
    auc = float(weight @ (below + equal / 2) / (weight.sum() * ranked.size))
    return DynamicAuc(time=time, auc=auc, cases=int(case.sum()), at_risk=int(control.sum()))


def bootstrap_auc(
    scores: FloatArray, outcome: Outcome, time: float, resamples: npt.NDArray[np.float32]
) -> FloatArray:
    """Returns (repeats, k) AUC of each score on each resample, censoring weights estimated anew; NaN where undefined.

    Args:
        scores: (k, n) higher = higher risk.
        outcome: follow-up of the n patients.
        time: horizon.
        resamples: (repeats, n) how often each patient is drawn.

    Raises:
        InvalidInput: shapes do not fit.
    """
    values = np.stack([check_score(row, outcome) for row in np.atleast_2d(scores)])
    if resamples.ndim != 2 or resamples.shape[1] != outcome.n:
        raise InvalidInput(f"resamples of {outcome.n} patients expected, got shape {resamples.shape}")
    case, control = _split(outcome, time)
    result = np.full((resamples.shape[0], values.shape[0]), np.nan)
    if not case.any() or not control.any():
        return result
    for start in range(0, resamples.shape[0], _ROWS_AT_ONCE):
        drawn = resamples[start : start + _ROWS_AT_ONCE]
        weighted = drawn[:, case] / _resampled_censoring(outcome, case, drawn)
        controls = drawn[:, control]
        total = weighted.sum(axis=1) * controls.sum(axis=1, dtype=np.float64)
        for column, score in enumerate(values):
            won = _weigh_wins(score[case], score[control], weighted, controls)
            place = result[start : start + _ROWS_AT_ONCE, column]
            np.divide(won, total, out=place, where=total > 0)
    return result


def explain_horizon(outcome: Outcome, time: float) -> str:
    """Returns why nothing can be estimated at a horizon, or "" when it can.

    Raises:
        InvalidInput: the horizon is not positive.
    """
    if not (np.isfinite(time) and time > 0):
        raise InvalidInput(f"a horizon must be positive, got {time}")
    case, control = _split(outcome, time)
    if time > outcome.time.max():
        return f"not estimable: the last follow-up is at {outcome.time.max():.1f}, before {time:g}"
    if control.sum() < FEWEST_AT_RISK:
        return f"not estimable: {control.sum()} at risk beyond {time:g}, at least {FEWEST_AT_RISK} are needed"
    if not case.any():
        return f"not estimable: no event by {time:g}"
    return ""


def _split(outcome: Outcome, time: float) -> tuple[BoolArray, BoolArray]:
    return outcome.event & (outcome.time <= time), outcome.time > time


def _weigh_wins(
    case: FloatArray, control: FloatArray, weighted: FloatArray, controls: npt.NDArray[np.float32]
) -> FloatArray:
    """(repeats,) weighted pairs that the cases win, by prefix sums over the controls in order of their scores.

    The sums are exact: whole numbers below 2^24.
    """
    order = np.argsort(control)
    ranked = control[order]
    below = np.zeros((controls.shape[0], control.size + 1), dtype=np.float32)
    np.cumsum(controls.take(order, axis=1), axis=1, out=below[:, 1:])
    won = below.take(np.searchsorted(ranked, case, side="left"), axis=1)
    won += below.take(np.searchsorted(ranked, case, side="right"), axis=1)
    summed: FloatArray = (won * weighted).sum(axis=1) / 2
    return summed


def _resampled_censoring(outcome: Outcome, case: BoolArray, resamples: npt.NDArray[np.float32]) -> FloatArray:
    """(repeats, cases) probability, in each resample, of not being censored before each case's event."""
    horizon = outcome.time[case].max()
    order = np.argsort(outcome.time, kind="stable")
    counts = resamples.T[order]
    distinct, first = np.unique(outcome.time[order], return_index=True)
    leaving = np.add.reduceat(counts, first, axis=0)
    died = np.add.reduceat(counts * outcome.event[order, None], first, axis=0)
    at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
    used = distinct <= horizon
    exposed, censored = (at_risk - died)[used], (leaving - died)[used]
    share = np.divide(censored, exposed, out=np.zeros(exposed.shape), where=exposed > 0)
    curve = np.vstack((np.ones((1, share.shape[1])), np.cumprod(1 - share, axis=0)))
    place = np.searchsorted(distinct, outcome.time[case], side="left")
    result = curve[place].T
    # A patient drawn in this resample is observed until the event, so the probability there is positive.
    return np.where(result > 0, result, 1.0)
