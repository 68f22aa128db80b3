"""Decision curve: net benefit of acting on a predicted risk at each threshold, under censoring."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy.typing as npt

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.calibration import check_risk
from engines.survival.kaplan_meier import estimate_survival, survival_at
from engines.survival.outcome import BoolArray, Outcome
from engines.survival.roc import explain_horizon


@dataclass(frozen=True, slots=True, kw_only=True)
class NetBenefit:
    """Net benefit at one threshold probability; acting on nobody has 0.

    Attributes:
        threshold: risk from which one would act.
        model: acting where the predicted risk is at or above it; None when its patients' risk is not estimable.
        everyone: acting on all patients.
    """

    threshold: float
    model: float | None
    everyone: float


def decision_curve(
    risk: npt.ArrayLike, outcome: Outcome, time: float, thresholds: Sequence[float]
) -> tuple[NetBenefit, ...]:
    """Returns the net benefit of a predicted risk at a horizon for each threshold.

    Args:
        risk: (n,) predicted probability of the event by ``time``.
        outcome: follow-up of the same patients.
        time: horizon.
        thresholds: each between 0 and 1.

    Raises:
        InvalidInput: a threshold or risk that is not a probability.
        SurvivalRefused: too few patients are at risk at the horizon.

    Source: Vickers & Elkin 2006; Vickers et al. 2008 for censoring (Kaplan-Meier risk among those acted on).
    """
    predicted = check_risk(risk, outcome)
    if not all(0 < threshold < 1 for threshold in thresholds):
        raise InvalidInput(f"thresholds lie between 0 and 1, got {tuple(thresholds)}")
    reason = explain_horizon(outcome, time)
    if reason:
        raise SurvivalRefused(reason)
    survival_of_all = survival_at(estimate_survival(outcome), time).survival
    curve = []
    for threshold in thresholds:
        acted = predicted >= threshold
        curve.append(
            NetBenefit(
                threshold=threshold,
                model=_benefit_of(acted, outcome, time, threshold, survival_of_all),
                everyone=_benefit(survival_of_all, 1.0, threshold),
            )
        )
    return tuple(curve)


def _benefit_of(
    acted: BoolArray, outcome: Outcome, time: float, threshold: float, survival_of_all: float
) -> float | None:
    if not acted.any():
        return 0.0
    if acted.all():
        return _benefit(survival_of_all, 1.0, threshold)
    point = survival_at(estimate_survival(outcome.take(acted)), time)
    return _benefit(point.survival, float(acted.mean()), threshold) if point.estimable else None


def _benefit(survival: float, share: float, threshold: float) -> float:
    return (1 - survival) * share - survival * share * threshold / (1 - threshold)
