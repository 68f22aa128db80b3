"""Absolute risk of a score, the released one or that of a Cox model of the score: calibration, Brier score, net benefit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from engines.endpoint import Endpoint
from engines.errors import InvalidInput, SurvivalRefused
from engines.mmf import ModelName, RiskModel
from engines.survival.brier import IntegratedBrier, brier_score, integrate_brier, kaplan_meier_brier
from engines.survival.calibration import Calibration, assess_calibration
from engines.survival.cox import CoxFit, fit_cox, predict_survival
from engines.survival.decision import NetBenefit, decision_curve
from engines.survival.outcome import BoolArray, FloatArray, Outcome
from engines.survival.roc import explain_horizon
from train.evaluate.measures import AUC_MONTHS
from train.evaluate.score_table import FIT_COPIES, EndpointColumns, ScoreTable

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Threshold probabilities of the decision curve (OURS)."""

BRIER_STEPS = 30
"""Times of the integrated Brier score, from the first to the last estimable horizon (OURS)."""


Released = Mapping[tuple[Endpoint, ModelName], RiskModel]


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
        apparent: the baseline of the risk was fitted on these patients; with the score's own Cox model, calibration is
            then perfect by construction.
        integrated: Brier score from the first to the last estimable month; None with fewer than two.
        released: the risk is that of the model folder; else of a Cox model of the score alone.
    """

    cohort: str
    endpoint: str
    model: str
    apparent: bool
    horizons: tuple[HorizonRisk, ...]
    integrated: IntegratedBrier | None
    released: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreFit:
    """The Cox model that turns one score into an absolute risk.

    Attributes:
        cox: takes the score as the table gives it.
        released: the baseline and coefficients of the model folder; else fitted to the score alone on the cut-off cohort.
    """

    endpoint: str
    model: str
    cox: CoxFit
    released: bool = False


def fit_scores(table: ScoreTable, released: Released = MappingProxyType({})) -> tuple[ScoreFit, ...]:
    """Returns what gives each score an absolute risk; scores that cannot be fitted are left out.

    MMF, Benchmark and Ensemble-DL take the released baseline, so that what is measured is the risk a report states. Other
    scores, and all of them without a released model, take a Cox model of the score alone on the cut-off cohort.

    Args:
        table: checked scores; with released models those of their fit.
        released: Cox models of the model folder.
    """
    fits = []
    for endpoint in table.endpoints:
        discovery = table.rows(table.cutoff_cohort) & endpoint.known
        own = {
            name.value: release_risk(risk)
            for (of, name), risk in released.items()
            if of.value == endpoint.name
        }
        for title, by_endpoint in table.scores.items():
            score = by_endpoint[endpoint.name]
            if title in own:
                fits.append(ScoreFit(endpoint=endpoint.name, model=title, cox=own[title], released=True))
                continue
            cox = _fit_score(score, endpoint, discovery & ~np.isnan(score), title)
            if cox is not None:
                fits.append(ScoreFit(endpoint=endpoint.name, model=title, cox=cox))
    return tuple(fits)


def release_risk(risk: RiskModel) -> CoxFit:
    """Returns the Cox model by which a column of a fit's tables gives the released absolute risk.

    The columns of MMF and Benchmark are log hazards: coefficient 1 upon the released baseline, which is that of log hazard
    0. The column of Ensemble-DL is the input of its Cox model, which serves as it is. For points alone: the spread of the
    baseline is that of the events, the coefficient has none.

    Args:
        risk: of the model folder.
    """
    if risk.name is ModelName.ENSEMBLE_DL:
        return risk.cox
    base = risk.cox.baseline
    return replace(
        risk.cox,
        names=(risk.name.value,),
        coefficients=np.ones(1),
        covariance=np.zeros((1, 1)),
        means=np.zeros(1),
        baseline=replace(base, mean_hazard=np.zeros((base.time.size, 1))),
    )


def measure_risk(table: ScoreTable, fits: Sequence[ScoreFit] | None = None) -> tuple[RiskRecord, ...]:
    """Returns the performance of each model's absolute risk in each cohort.

    Args:
        table: checked scores.
        fits: from ``fit_scores``, where the caller has them; else without a released model.
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
                    apparent=cohort in FIT_COPIES.values() or bool((discovery & rows).any()),
                    horizons=tuple(_at_month(fit.cox, score[rows], outcome, month) for month in months),
                    integrated=_integrate(fit.cox, score[rows], outcome, months),
                    released=fit.released,
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
