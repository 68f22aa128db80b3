"""Absolute risk from a score: a Cox model of the score on discovery, then calibration, Brier score and net benefit elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.brier import IntegratedBrier, brier_score, integrate_brier, kaplan_meier_brier
from engines.survival.calibration import Calibration, assess_calibration
from engines.survival.cox import CoxFit, fit_cox, predict_survival
from engines.survival.decision import NetBenefit, decision_curve
from engines.survival.outcome import BoolArray, FloatArray, Outcome
from engines.survival.roc import explain_horizon
from train.evaluate.measures import AUC_MONTHS
from train.evaluate.score_table import COPIES, EndpointColumns, ScoreTable

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Threshold probabilities of the decision curve (OURS)."""

BRIER_STEPS = 30
"""Times of the integrated Brier score, from the first to the last estimable horizon (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HorizonRisk:
    """Performance of predicted risk at one month; None with a reason where not estimable."""

    month: float
    calibration: Calibration | None
    brier: float | None
    brier_reference: float | None
    net_benefit: tuple[NetBenefit, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRecord:
    """Performance of one model's predicted risk in one cohort for one endpoint.

    Attributes:
        apparent: the risk was fitted on these patients; calibration is then perfect by construction.
        integrated: Brier score from the first to the last estimable month; None with fewer than two.
    """

    cohort: str
    endpoint: str
    model: str
    apparent: bool
    horizons: tuple[HorizonRisk, ...]
    integrated: IntegratedBrier | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreFit:
    """The Cox model of one score alone on the cut-off cohort, from which its absolute risk comes."""

    endpoint: str
    model: str
    cox: CoxFit


def fit_scores(table: ScoreTable) -> tuple[ScoreFit, ...]:
    """Returns the Cox model of each score alone on the cut-off cohort; scores that cannot be fitted are left out.

    Args:
        table: checked scores.
    """
    fits = []
    for endpoint in table.endpoints:
        discovery = table.rows(table.cutoff_cohort) & endpoint.known
        for model, by_endpoint in table.scores.items():
            score = by_endpoint[endpoint.name]
            cox = _fit_score(score, endpoint, discovery & ~np.isnan(score), model)
            if cox is not None:
                fits.append(ScoreFit(endpoint=endpoint.name, model=model, cox=cox))
    return tuple(fits)


def measure_risk(table: ScoreTable, fits: Sequence[ScoreFit] | None = None) -> tuple[RiskRecord, ...]:
    """Returns the performance of each model's absolute risk in each cohort.

    The risk is that of a Cox model of the score alone, fitted on the cut-off cohort: a score has no probability of
    its own.

    Args:
        table: checked scores.
        fits: from ``fit_scores``, where the caller has them.
    """
    records = []
    by_name = {endpoint.name: endpoint for endpoint in table.endpoints}
    for fit in fit_scores(table) if fits is None else fits:
        endpoint, score = by_name[fit.endpoint], table.scores[fit.model][fit.endpoint]
        discovery = table.rows(table.cutoff_cohort) & endpoint.known
        for cohort in table.cohorts:
            rows = table.rows(cohort) & endpoint.known & ~np.isnan(score)
            if not rows.any():
                continue
            months = AUC_MONTHS[endpoint.name]
            outcome = endpoint.outcome(rows)
            records.append(
                RiskRecord(
                    cohort=cohort,
                    endpoint=endpoint.name,
                    model=fit.model,
                    apparent=cohort in COPIES.values() or bool((discovery & rows).any()),
                    horizons=tuple(_at_month(fit.cox, score[rows], outcome, month) for month in months),
                    integrated=_integrate(fit.cox, score[rows], outcome, months),
                )
            )
    return tuple(records)


def _fit_score(score: FloatArray, endpoint: EndpointColumns, rows: BoolArray, model: str) -> CoxFit | None:
    if not rows.any():
        return None
    try:
        return fit_cox(score[rows], endpoint.outcome(rows), (model,))
    except (InvalidInput, SurvivalRefused):
        return None


def _at_month(fit: CoxFit, score: FloatArray, outcome: Outcome, month: float) -> HorizonRisk:
    survival = predict_survival(fit, score[:, None], (month,)).survival[:, 0]
    reason = ""
    if np.isnan(survival).any():
        reason = f"not estimable: discovery follow-up ends before {month:g}"
    else:
        try:
            return HorizonRisk(
                month=month,
                calibration=assess_calibration(1 - survival, outcome, month),
                brier=brier_score(survival, outcome, month),
                brier_reference=kaplan_meier_brier(outcome, month),
                net_benefit=decision_curve(1 - survival, outcome, month, THRESHOLDS),
                reason="",
            )
        except SurvivalRefused as error:
            reason = str(error)
    return HorizonRisk(
        month=month, calibration=None, brier=None, brier_reference=None, net_benefit=(), reason=reason
    )


def _integrate(
    fit: CoxFit, score: FloatArray, outcome: Outcome, months: tuple[float, ...]
) -> IntegratedBrier | None:
    estimable = [
        month for month in months if not explain_horizon(outcome, month) and month <= fit.baseline.last_time
    ]
    if len(estimable) < 2:
        return None
    times = np.linspace(estimable[0], estimable[-1], BRIER_STEPS)
    return integrate_brier(predict_survival(fit, score[:, None], times).survival, outcome, times)
