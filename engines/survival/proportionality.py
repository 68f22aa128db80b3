"""Test of proportional hazards: does any coefficient of a Cox model change with time?"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.cox import CoxFit
from engines.survival.kaplan_meier import estimate_survival
from engines.survival.outcome import FloatArray, Outcome
from engines.survival.risk_sets import RiskSets, arrange_risk_sets, partial_likelihood, risk_set_sums


class TimeScale(StrEnum):
    """Function of time that the coefficients are tested against."""

    KAPLAN_MEIER = "km"
    IDENTITY = "identity"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProportionalityTest:
    """Score test of one variable, or of all together under the name GLOBAL."""

    name: str
    statistic: float
    degrees: int
    p_value: float


def assess_proportionality(
    fit: CoxFit,
    variables: npt.ArrayLike,
    outcome: Outcome,
    scale: TimeScale = TimeScale.KAPLAN_MEIER,
) -> tuple[ProportionalityTest, ...]:
    """Returns the score test that each coefficient is constant in time, the joint test last.

    Args:
        fit: Cox model without a ridge of these patients.
        variables: (n, p) it was fitted on.
        outcome: it was fitted on.
        scale: function of time.

    Raises:
        InvalidInput: other patients, or a ridge.
        SurvivalRefused: fewer than two event times.

    Source: Grambsch & Therneau 1994; the exact score test of R survival >= 3.0, cox.zph.
    """
    x = np.asarray(variables, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if fit.ridge:
        raise InvalidInput("the test of proportional hazards needs a fit without a ridge")
    if x.shape != (outcome.n, len(fit.names)) or (fit.n, fit.events) != (outcome.n, outcome.events):
        raise InvalidInput("the test of proportional hazards needs the patients of the fit")
    spread = x.std(axis=0)  # the test does not depend on units; its matrices do
    beta = fit.coefficients * spread
    data = arrange_risk_sets((x - fit.means) / spread, outcome, fit.ties)
    if data.time.size < 2:
        raise SurvivalRefused("all events lie at one time: change over time cannot be tested")
    state = partial_likelihood(data, beta)
    clock = _clock(outcome, data.time, scale)[data.group]
    clock = clock - clock.mean()
    residual = data.x[data.event] - state.mean
    covariances = _risk_set_covariances(data, beta, state.mean)
    score = clock @ residual
    within = covariances.sum(axis=0)
    across = np.einsum("d,dpq->pq", clock, covariances)
    squared = np.einsum("d,dpq->pq", clock**2, covariances)
    variance = squared - across @ linalg.solve(within, across, assume_a="sym")
    tests = [_chi_squared(name, float(score[k] ** 2 / variance[k, k]), 1) for k, name in enumerate(fit.names)]
    joint = float(score @ linalg.solve(variance, score, assume_a="sym"))
    return (*tests, _chi_squared("GLOBAL", joint, len(fit.names)))


def _clock(outcome: Outcome, times: FloatArray, scale: TimeScale) -> FloatArray:
    if scale == TimeScale.IDENTITY:
        return times
    if scale == TimeScale.LOG:
        if times[0] <= 0:
            raise InvalidInput("an event at time 0 has no logarithm; choose another scale of time")
        return np.log(times)
    curve = estimate_survival(outcome)
    before = np.concatenate(([1.0], curve.survival))[np.searchsorted(curve.time, times, side="left")]
    result: FloatArray = 1 - before
    return result


def _risk_set_covariances(data: RiskSets, beta: FloatArray, mean: FloatArray) -> FloatArray:
    """(d, p, p) weighted covariance of the variables in the risk set of each death row."""
    eta = data.x @ beta
    weight = np.exp(eta - eta.max())
    products = weight[:, None, None] * data.x[:, :, None] * data.x[:, None, :]
    sum0 = risk_set_sums(weight, data.start)[data.group]
    sum2 = risk_set_sums(products, data.start)[data.group]
    sum0 = sum0 - data.share * data.tied_sums(weight)[data.group]
    sum2 = sum2 - data.share[:, None, None] * data.tied_sums(products)[data.group]
    result: FloatArray = sum2 / sum0[:, None, None] - mean[:, :, None] * mean[:, None, :]
    return result


def _chi_squared(name: str, statistic: float, degrees: int) -> ProportionalityTest:
    return ProportionalityTest(
        name=name, statistic=statistic, degrees=degrees, p_value=float(special.chdtrc(degrees, statistic))
    )
