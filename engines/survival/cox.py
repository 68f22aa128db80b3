"""Cox proportional hazards: fit with Efron or Breslow ties, predict survival with an interval, compare nested fits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from engines.errors import InvalidInput, SurvivalRefused, VariableSeparates
from engines.survival.outcome import BoolArray, FloatArray, Outcome
from engines.survival.risk_sets import Likelihood, RiskSets, Ties, arrange_risk_sets, partial_likelihood

__all__ = [
    "Baseline",
    "CoxFit",
    "HazardRatio",
    "LikelihoodRatio",
    "SurvivalPrediction",
    "Ties",
    "compare_nested",
    "fit_cox",
    "hazard_multiple",
    "hazard_ratios",
    "log_hazard",
    "predict_survival",
]

MAX_ITERATIONS = 60
"""Newton steps; a regular fit takes 4 to 8, a separating variable about one per unit of its growing coefficient."""

_CONVERGED_DECREMENT = 1e-13
"""Half the squared Newton step in the metric of the information: the gain in log-likelihood that is still possible."""

_SEPARATING_STEP = 1e-3
"""At convergence a regular coefficient moves by less than 1e-6 standard deviations of its variable."""

_MAX_HALVINGS = 40

_ROUNDING = 1e-12
"""Relative rounding of a log-likelihood; a step that loses no more than this is no loss."""

_LARGEST_EXPONENT = 700.0
"""A log hazard beyond it is taken for it: survival is 0 either way, and exp() stays a number."""

_LARGEST_SPREAD = 1e100
"""Standard deviation of a variable, or its inverse, up to which its covariance fits into floating point with room to spare."""

_DEPENDENT = 1e-4
"""Share of a standardised column that must be its own to count as independent (OURS): below it the variance is inflated
10^8-fold, and a score rounded to four decimals beside the variables it was made of is what usually lies there."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Baseline:
    """Cumulative hazard of a patient whose variables equal ``CoxFit.means``, with the parts of its variance.

    Attributes:
        time: (m,) distinct event times, ascending.
        cumulative_hazard: (m,) just after each time.
        variance: (m,) part of its variance that comes from the events, coefficients held fixed.
        mean_hazard: (m, p) integral of the risk set's weighted mean (less ``means``) over the cumulative hazard.
        last_time: end of follow-up; nothing is said beyond it.
    """

    time: FloatArray
    cumulative_hazard: FloatArray
    variance: FloatArray
    mean_hazard: FloatArray
    last_time: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoxFit:
    """A fitted Cox model.

    Attributes:
        names: p variables, in the order of the columns.
        coefficients: (p,) log hazard ratios per unit.
        covariance: (p, p) inverse of the (penalised) information.
        means: (p,) means of the training rows; ``log_hazard`` is 0 there.
        ties: treatment of tied events.
        ridge: penalty ridge / 2 * sum(variance_j * coefficient_j^2); 0 = none.
        log_likelihood: partial log-likelihood at the coefficients, without the penalty.
        null_log_likelihood: at coefficients 0.
        effective_degrees: trace of information times covariance; p without a ridge.
        iterations: Newton steps taken.
        n: patients.
        events: events.
        baseline: cumulative hazard at the means.
    """

    names: tuple[str, ...]
    coefficients: FloatArray
    covariance: FloatArray
    means: FloatArray
    ties: Ties
    ridge: float
    log_likelihood: float
    null_log_likelihood: float
    effective_degrees: float
    iterations: int
    n: int
    events: int
    baseline: Baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class HazardRatio:
    """One variable's hazard ratio with its Wald interval and two-sided p."""

    name: str
    hazard_ratio: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurvivalPrediction:
    """Survival of n patients at k times; NaN beyond the end of follow-up.

    Attributes:
        survival: (n, k) probability of no event up to the time.
        low: (n, k) lower bound of the confidence interval of the model's average for such variables.
        high: (n, k) upper bound.
        standard_error: (n, k) of the cumulative hazard (= of log survival).
    """

    survival: FloatArray
    low: FloatArray
    high: FloatArray
    standard_error: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRatio:
    """Likelihood ratio test of two nested fits."""

    statistic: float
    degrees: float
    p_value: float


def fit_cox(
    variables: npt.ArrayLike,
    outcome: Outcome,
    names: Sequence[str] | None = None,
    *,
    ties: Ties = Ties.EFRON,
    ridge: float = 0.0,
) -> CoxFit:
    """Returns the Cox model of the outcome on the variables, by Newton's method with step halving.

    Args:
        variables: (n, p) or (n,) finite numbers; a row without all values must be left out or imputed by the caller.
        outcome: follow-up of the same n patients.
        names: of the p columns, for messages and tables; default x0, x1 ...
        ties: Efron (default) or Breslow.
        ridge: weight >= 0 of the penalty ridge / 2 * sum(variance_j * coefficient_j^2), R's
            ``ridge(..., theta=ridge, scale=TRUE)``: variables of different units are shrunk alike.

    Raises:
        InvalidInput: shapes, missing values, a constant variable, or dependent variables without a ridge.
        SurvivalRefused: every patient is censored.
        VariableSeparates: a coefficient is infinite and there is no ridge.

    Source: Cox 1972; Efron 1977; Therneau & Grambsch 2000, chapter 3 and section 5.5 (ridge); R survival, coxph.
    """
    x, labels = _check_variables(variables, outcome, names)
    if outcome.events == 0:
        raise SurvivalRefused(f"all {outcome.n} patients are censored: a Cox model needs at least one event")
    if not (np.isfinite(ridge) and ridge >= 0):
        raise InvalidInput(f"ridge must be finite and >= 0, got {ridge}")
    means, scale = _centre_and_scale(x, labels)
    x = x - means
    _refuse_dependent(x / scale, labels, ridge)
    data = arrange_risk_sets(x / scale, outcome, ties)
    beta, state, null, iterations, diverging = _maximise(data, ridge)
    if diverging.any():
        guilty = tuple(name for name, grows in zip(labels, diverging, strict=True) if grows)
        raise VariableSeparates(
            f"{', '.join(guilty)}: the hazard ratio is infinite, the variable orders the events of these"
            f" {outcome.n} patients ({outcome.events} events) without exception; use a ridge or leave it out",
            guilty,
        )
    inverse = linalg.inv(state.information + ridge * np.eye(x.shape[1]))
    return CoxFit(
        names=labels,
        coefficients=beta / scale,
        covariance=inverse / np.outer(scale, scale),
        means=means,
        ties=ties,
        ridge=float(ridge),
        log_likelihood=state.log_likelihood,
        null_log_likelihood=null,
        effective_degrees=float(np.sum(state.information * inverse)),
        iterations=iterations,
        n=outcome.n,
        events=outcome.events,
        baseline=_baseline(data, state, scale, outcome),
    )


def log_hazard(fit: CoxFit, variables: npt.ArrayLike) -> FloatArray:
    """Returns (n,) the log hazard relative to a patient at the training means."""
    return (_check_columns(fit, variables) - fit.means) @ fit.coefficients


def hazard_multiple(fit: CoxFit, variables: npt.ArrayLike) -> FloatArray:
    """Returns (n,) the hazard as a multiple of that of a patient at the training means; a number however far off."""
    return np.exp(np.minimum(log_hazard(fit, variables), _LARGEST_EXPONENT))


def hazard_ratios(fit: CoxFit, confidence: float = 0.95) -> tuple[HazardRatio, ...]:
    """Returns the hazard ratio of each variable with its Wald interval and two-sided p."""
    error = np.sqrt(np.diag(fit.covariance))
    z = float(special.ndtri(0.5 + confidence / 2))
    with np.errstate(over="ignore"):  # a bound beyond floating point is infinite
        ratio, low, high = (np.exp(fit.coefficients + k * z * error) for k in (0, -1, 1))
    p_value = 2 * special.ndtr(-np.abs(fit.coefficients / error))
    return tuple(
        HazardRatio(
            name=name,
            hazard_ratio=float(ratio[k]),
            low=float(low[k]),
            high=float(high[k]),
            p_value=float(p_value[k]),
        )
        for k, name in enumerate(fit.names)
    )


def predict_survival(
    fit: CoxFit, variables: npt.ArrayLike, times: npt.ArrayLike, confidence: float = 0.95
) -> SurvivalPrediction:
    """Returns survival at the times with a log-log interval, NaN beyond the end of follow-up.

    Args:
        fit: the model.
        variables: (n, p) or, for one patient, (p,).
        times: (k,) in the unit of the training times, >= 0.
        confidence: of the interval.

    Raises:
        InvalidInput: another number of columns, or values that are not finite.

    Source: Tsiatis 1981; Therneau & Grambsch 2000, section 10.2; the standard error equals R's survfit.coxph.
    """
    centred = _check_columns(fit, variables) - fit.means
    when = np.atleast_1d(np.asarray(times, dtype=np.float64))
    base = fit.baseline
    index = np.searchsorted(base.time, when, side="right")
    hazard = np.concatenate(([0.0], base.cumulative_hazard))[index]
    spread = np.concatenate(([0.0], base.variance))[index]
    mean_hazard = np.vstack((np.zeros((1, centred.shape[1])), base.mean_hazard))[index]
    risk = hazard_multiple(fit, variables)[:, None]
    gradient = centred[:, None, :] * hazard[None, :, None] - mean_hazard[None, :, :]
    variance = spread[None, :] + np.einsum("nkp,pq,nkq->nk", gradient, fit.covariance, gradient)
    z = float(special.ndtri(0.5 + confidence / 2))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        cumulative, error = risk * hazard, risk * np.sqrt(variance)
        width = np.where(cumulative > 0, z * error / cumulative, 0.0)
        survival = np.exp(-cumulative)
        low, high = (np.exp(-cumulative * np.exp(side)) for side in (width, -width))
    beyond = np.broadcast_to(when > base.last_time, cumulative.shape)
    return SurvivalPrediction(
        survival=np.where(beyond, np.nan, survival),
        low=np.where(beyond, np.nan, low),
        high=np.where(beyond, np.nan, high),
        standard_error=np.where(beyond, np.nan, error),
    )


def compare_nested(smaller: CoxFit, larger: CoxFit) -> LikelihoodRatio:
    """Returns the likelihood ratio test of two fits on the same patients.

    Raises:
        InvalidInput: other patients, a ridge, or a larger fit that does not hold the smaller one's variables.
    """
    if (smaller.n, smaller.events, smaller.ties) != (larger.n, larger.events, larger.ties):
        raise InvalidInput("the two models were not fitted on the same patients with the same ties")
    if smaller.ridge or larger.ridge:
        raise InvalidInput("a likelihood ratio test needs fits without a ridge")
    if not set(smaller.names) < set(larger.names):
        raise InvalidInput(f"{larger.names} does not extend {smaller.names}: the models are not nested")
    statistic = 2 * (larger.log_likelihood - smaller.log_likelihood)
    degrees = len(larger.names) - len(smaller.names)
    return LikelihoodRatio(
        statistic=statistic, degrees=degrees, p_value=float(special.chdtrc(degrees, max(statistic, 0.0)))
    )


def _check_variables(
    variables: npt.ArrayLike, outcome: Outcome, names: Sequence[str] | None
) -> tuple[FloatArray, tuple[str, ...]]:
    x = np.asarray(variables, dtype=np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or x.shape[0] != outcome.n or x.shape[1] == 0:
        raise InvalidInput(
            f"variables must have {outcome.n} rows and at least one column, got shape {x.shape}"
        )
    labels = tuple(names) if names is not None else tuple(f"x{column}" for column in range(x.shape[1]))
    if len(labels) != x.shape[1]:
        raise InvalidInput(f"{len(labels)} names for {x.shape[1]} columns")
    missing = [labels[column] for column in np.flatnonzero(~np.isfinite(x).all(axis=0))]
    if missing:
        raise InvalidInput(
            f"missing or infinite values in {', '.join(missing)}; impute or leave rows out first"
        )
    constant = [labels[column] for column in np.flatnonzero(x.max(axis=0) == x.min(axis=0))]
    if constant:
        raise InvalidInput(
            f"{', '.join(constant)}: the same value in all {outcome.n} patients, nothing to fit"
        )
    return x, labels


def _centre_and_scale(x: FloatArray, names: tuple[str, ...]) -> tuple[FloatArray, FloatArray]:
    """Means and standard deviations of the columns, which must leave room for the square of a coefficient's error."""
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        means = x.mean(axis=0)
        scale = (x - means).std(axis=0, ddof=1)
    beyond = [
        name for name, sd in zip(names, scale, strict=True) if not 1 / _LARGEST_SPREAD < sd < _LARGEST_SPREAD
    ]
    if beyond:
        raise InvalidInput(
            f"{', '.join(beyond)}: numbers so large or small that their squares are no numbers; give another unit"
        )
    return means, scale


def _check_columns(fit: CoxFit, variables: npt.ArrayLike) -> FloatArray:
    x = np.atleast_2d(np.asarray(variables, dtype=np.float64))
    if x.ndim != 2 or x.shape[1] != len(fit.names):
        raise InvalidInput(f"the model has {len(fit.names)} variables {fit.names}, got shape {x.shape}")
    if not np.isfinite(x).all():
        raise InvalidInput("a variable of the Cox model is missing or infinite")
    return x


def _refuse_dependent(standardised: FloatArray, names: tuple[str, ...], ridge: float) -> None:
    if ridge > 0:
        return
    _, triangle, order = linalg.qr(standardised, mode="economic", pivoting=True)
    size = np.abs(np.diag(triangle))
    dependent = [names[column] for column in order[: size.size][size < _DEPENDENT * size[0]]]
    dependent += [names[column] for column in order[size.size :]]
    if dependent:
        raise InvalidInput(
            f"{', '.join(dependent)}: a linear combination of the other variables, or nearly; leave it out or use a ridge"
        )


def _maximise(data: RiskSets, ridge: float) -> tuple[FloatArray, Likelihood, float, int, BoolArray]:
    """The maximum, the partial likelihood there and at 0, the steps taken, and which coefficients grow for ever."""
    beta = np.zeros(data.x.shape[1])
    state = partial_likelihood(data, beta)
    null = state.log_likelihood
    step = beta
    for iteration in range(1, MAX_ITERATIONS + 1):
        penalised = state.information + ridge * np.eye(beta.size)
        gradient = state.gradient - ridge * beta
        try:
            step = linalg.cho_solve(linalg.cho_factor(penalised), gradient)
        except linalg.LinAlgError:
            # Independent variables without information where the likelihood still rises: they separate.
            return beta, state, null, iteration, np.abs(beta) >= np.abs(beta).max() / 2
        objective = state.log_likelihood - ridge / 2 * float(beta @ beta)
        if float(gradient @ step) / 2 <= _CONVERGED_DECREMENT * max(1.0, abs(objective)):
            diverging = np.abs(step) > _SEPARATING_STEP
            if (
                not diverging.any()
            ):  # the rest of a regular step is taken too: it squares the error that is left
                beta = beta + step
                state = partial_likelihood(data, beta)
            return beta, state, null, iteration, diverging
        part = 1.0
        for _ in range(_MAX_HALVINGS):
            trial = beta + part * step
            new = partial_likelihood(data, trial)
            reached = new.log_likelihood - ridge / 2 * float(trial @ trial)
            if np.isfinite(reached) and reached >= objective - _ROUNDING * abs(objective):
                break
            part /= 2
        else:
            break  # no step along the gradient gains: the likelihood rises beyond what floating point can hold
        beta, state = trial, new
    # Without convergence in so many steps the coefficients grow for ever.
    return beta, state, null, iteration, np.abs(step) >= min(_SEPARATING_STEP, np.abs(step).max())


def _baseline(data: RiskSets, state: Likelihood, scale: FloatArray, outcome: Outcome) -> Baseline:
    """The hazard at the means: x is centred, so its risk score is 1 = exp(0 - shift) * exp(shift)."""
    unit = np.exp(-state.shift)
    inverse = unit / state.denominator
    steps = np.zeros((data.time.size, 2 + scale.size))
    rows = np.column_stack((inverse, inverse**2, inverse[:, None] * state.mean * scale))
    np.add.at(steps, data.group, rows)
    summed = np.cumsum(steps, axis=0)
    return Baseline(
        time=data.time,
        cumulative_hazard=summed[:, 0],
        variance=summed[:, 1],
        mean_hazard=summed[:, 2:],
        last_time=float(outcome.time.max()),
    )
