"""Brier score of predicted survival under censoring, alone, integrated, and against Kaplan-Meier."""

from dataclasses import dataclass

import numpy as np

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.kaplan_meier import censoring_survival, estimate_survival
from engines.survival.outcome import FloatArray, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegratedBrier:
    """Integrated Brier score over a span of follow-up.

    Attributes:
        start: first time of the grid.
        end: last time.
        score: of the model; smaller is better.
        reference: of the cohort's own Kaplan-Meier curve, which knows no patient's variables.
        explained: 1 - score / reference.
    """

    start: float
    end: float
    score: float
    reference: float
    explained: float


def brier_score(survival: FloatArray, outcome: Outcome, time: float) -> float:
    """Returns the mean squared error of predicted survival at a time, weighted for censoring.

    Args:
        survival: (n,) predicted probability of no event up to ``time``.
        outcome: follow-up of the same patients.
        time: horizon within follow-up.

    Raises:
        InvalidInput: not n probabilities.
        SurvivalRefused: nobody is observed beyond the horizon.

    Source: Graf et al. 1999, with G(t-) for events and G(t) for survivors; R riskRegression Score.
    """
    predicted = _check_probability(survival, outcome)
    return float(_brier_scores(predicted[:, None], outcome, np.array([time]))[0])


def kaplan_meier_brier(outcome: Outcome, time: float) -> float:
    """Returns the Brier score of the cohort's own Kaplan-Meier estimate, the same for every patient."""
    times = np.array([time])
    return float(_brier_scores(_kaplan_meier(outcome, times), outcome, times)[0])


def integrate_brier(survival: FloatArray, outcome: Outcome, times: FloatArray) -> IntegratedBrier:
    """Returns the Brier score integrated over a grid of times by the trapezoidal rule, divided by the span.

    Args:
        survival: (n, k) predicted probability of no event up to each time.
        outcome: follow-up of the same patients.
        times: (k,) ascending, at least two, within follow-up.

    Raises:
        InvalidInput: a grid that is not ascending, or shapes that do not fit.
        SurvivalRefused: nobody is observed beyond the last time.
    """
    if times.ndim != 1 or times.size < 2 or not (np.diff(times) > 0).all():
        raise InvalidInput("an integrated Brier score needs at least two ascending times")
    if survival.shape != (outcome.n, times.size):
        raise InvalidInput(f"expected survival of shape {(outcome.n, times.size)}, got {survival.shape}")
    span = float(times[-1] - times[0])
    own = _brier_scores(survival, outcome, times)
    reference = _brier_scores(_kaplan_meier(outcome, times), outcome, times)
    score, baseline = (float(np.trapezoid(values, times)) / span for values in (own, reference))
    return IntegratedBrier(
        start=float(times[0]),
        end=float(times[-1]),
        score=score,
        reference=baseline,
        explained=1 - score / baseline,
    )


def _brier_scores(survival: FloatArray, outcome: Outcome, times: FloatArray) -> FloatArray:
    """(k,) scores of (n, k), or for everyone the same (1, k), survival probabilities."""
    later = outcome.time[:, None] > times[None, :]
    if not later[:, -1].any():
        raise SurvivalRefused(f"nobody is observed beyond {times[-1]:g}: no Brier score")
    case = outcome.event[:, None] & ~later
    # Only events up to the last time carry a weight: after the last censoring G(t-) may be 0.
    used = case[:, -1]
    of_case = np.zeros(outcome.n)
    of_case[used] = 1 / censoring_survival(outcome, outcome.time[used], before=True)
    of_later = 1 / censoring_survival(outcome, times, before=False)
    error = case * of_case[:, None] * survival**2 + later * of_later[None, :] * (1 - survival) ** 2
    scores: FloatArray = error.mean(axis=0)
    return scores


def _kaplan_meier(outcome: Outcome, times: FloatArray) -> FloatArray:
    curve = estimate_survival(outcome)
    values = np.append(1.0, curve.survival)[np.searchsorted(curve.time, times, side="right")]
    result: FloatArray = values[None, :]
    return result


def _check_probability(values: FloatArray, outcome: Outcome) -> FloatArray:
    if values.shape != (outcome.n,) or not ((values >= 0) & (values <= 1)).all():
        raise InvalidInput(f"expected {outcome.n} probabilities between 0 and 1, got shape {values.shape}")
    return values
