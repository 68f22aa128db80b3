"""Kaplan-Meier curves with Greenwood intervals, number at risk, medians, follow-up, and the log-rank test."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.outcome import FloatArray, IntArray, Outcome


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurvivalCurve:
    """A Kaplan-Meier curve at each distinct time of the cohort.

    Attributes:
        time: (m,) distinct follow-up times, ascending.
        at_risk: (m,) patients under observation just before each time.
        events: (m,) events at each time.
        censored: (m,) patients censored at each time.
        survival: (m,) probability of no event up to and including each time.
        standard_error: (m,) Greenwood's, of log survival; infinite from where survival is 0.
        low: (m,) lower bound of the log-log interval; NaN from where survival is 0.
        high: (m,) upper bound.
        confidence: of the interval.
    """

    time: FloatArray
    at_risk: IntArray
    events: IntArray
    censored: IntArray
    survival: FloatArray
    standard_error: FloatArray
    low: FloatArray
    high: FloatArray
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalAt:
    """Survival at one time; ``estimable`` is False beyond the last follow-up, and then the numbers are NaN."""

    time: float
    at_risk: int
    survival: float
    low: float
    high: float
    estimable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantile:
    """Time by which a share of the patients had the event, with its interval; None = not reached."""

    time: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRank:
    """Log-rank test of two or more groups; two-sided by its nature (a chi-squared test).

    Attributes:
        groups: labels in the order of observed and expected.
        statistic: chi-squared.
        degrees: groups less one.
        p_value: two-sided.
        observed: events seen in each group.
        expected: events expected were the hazards equal.
    """

    groups: tuple[str, ...]
    statistic: float
    degrees: int
    p_value: float
    observed: tuple[int, ...]
    expected: tuple[float, ...]


def estimate_survival(outcome: Outcome, confidence: float = 0.95) -> SurvivalCurve:
    """Returns the Kaplan-Meier curve with Greenwood standard errors and log-log intervals.

    Source: Kaplan & Meier 1958; Greenwood 1926; Kalbfleisch & Prentice 2002, section 1.4; R survfit(conf.type="log-log").
    """
    time, at_risk, events, censored = _tabulate(outcome)
    with np.errstate(divide="ignore", invalid="ignore"):
        survival = np.cumprod((at_risk - events) / at_risk, dtype=np.float64)
        # A curve that has come to 0 stays there: 1 - d/n is exactly 0 when d equals n.
        error = np.sqrt(np.cumsum(events / (at_risk * (at_risk - events.astype(np.float64)))))
        z = float(special.ndtri(0.5 + confidence / 2))
        width = np.where(survival == 1, 0.0, z * error / np.log(survival))
        low, high = survival ** np.exp(-width), survival ** np.exp(width)
    ended = survival == 0
    return SurvivalCurve(
        time=time,
        at_risk=at_risk,
        events=events,
        censored=censored,
        survival=survival,
        standard_error=np.where(ended, np.inf, error),
        low=np.where(ended, np.nan, low),
        high=np.where(ended, np.nan, high),
        confidence=confidence,
    )


def estimate_follow_up(outcome: Outcome, confidence: float = 0.95) -> SurvivalCurve:
    """Returns the reverse Kaplan-Meier curve, where being censored is the event: its median is the median follow-up.

    Source: Schemper & Smith 1996.
    """
    return estimate_survival(Outcome(outcome.time, ~outcome.event), confidence)


def censoring_survival(outcome: Outcome, times: npt.ArrayLike, *, before: bool) -> FloatArray:
    """Returns the probability of not yet being censored at each time: G(t), or G(t-) when ``before`` is set.

    Events come before censorings of the same time, so that they do not count as at risk of being censored there.

    Args:
        outcome: the cohort the censoring is learned from.
        times: (k,) where it is wanted.
        before: True for just before the time.

    Source: Graf et al. 1999; R prodlim(reverse=TRUE).
    """
    time, at_risk, events, censored = _tabulate(outcome)
    exposed = at_risk - events
    share = np.divide(censored, exposed, out=np.zeros(time.size), where=exposed > 0)
    curve = np.concatenate(([1.0], np.cumprod(1 - share)))
    index = np.searchsorted(time, np.asarray(times, dtype=np.float64), side="left" if before else "right")
    values: FloatArray = curve[index]
    return values


def survival_at(curve: SurvivalCurve, time: float) -> SurvivalAt:
    """Returns survival at a time; not estimable beyond the last follow-up unless the curve has reached 0."""
    index = int(np.searchsorted(curve.time, time, side="right")) - 1
    at_risk = count_at_risk(curve, (time,))[0]
    if time > curve.time[-1] and curve.survival[-1] > 0:
        nan = float("nan")
        return SurvivalAt(time=time, at_risk=0, survival=nan, low=nan, high=nan, estimable=False)
    if index < 0:
        return SurvivalAt(time=time, at_risk=at_risk, survival=1.0, low=1.0, high=1.0, estimable=True)
    return SurvivalAt(
        time=time,
        at_risk=at_risk,
        survival=float(curve.survival[index]),
        low=float(curve.low[index]),
        high=float(curve.high[index]),
        estimable=True,
    )


def count_at_risk(curve: SurvivalCurve, times: Sequence[float]) -> tuple[int, ...]:
    """Returns the number of patients still under observation just before each time."""
    index = np.searchsorted(curve.time, np.asarray(times, dtype=np.float64), side="left")
    counts = np.concatenate((curve.at_risk, [0]))[index]
    return tuple(int(count) for count in counts)


def survival_quantile(curve: SurvivalCurve, share: float = 0.5) -> Quantile:
    """Returns the time by which ``share`` of the patients had the event (0.5: the median), with its interval.

    Where the curve lies exactly at 1 - share, the middle of that step is taken, as R does; of a last step that never
    ends, the middle up to the last follow-up.

    Raises:
        InvalidInput: share is not between 0 and 1.

    Source: Brookmeyer & Crowley 1982; R quantile.survfit.
    """
    if not 0 < share < 1:
        raise InvalidInput(f"a quantile lies between 0 and 1, got {share}")
    level = 1 - share
    return Quantile(
        time=_first_crossing(curve.time, curve.survival, level),
        low=_first_crossing(curve.time, curve.low, level),
        high=_first_crossing(curve.time, curve.high, level),
    )


def compare_groups(outcome: Outcome, groups: Sequence[str]) -> LogRank:
    """Returns the log-rank test of equal hazards in the groups.

    Args:
        outcome: follow-up of n patients.
        groups: n labels, of at least two kinds; tabled in the order of their text.

    Raises:
        InvalidInput: another length, or a single group.
        SurvivalRefused: no event while two groups are at risk.

    Source: Mantel 1966; Peto & Peto 1972; R survdiff.
    """
    labels, codes = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True)
    if codes.shape != (outcome.n,):
        raise InvalidInput(f"{len(groups)} group labels for {outcome.n} patients")
    if labels.size < 2:
        raise InvalidInput(f"a log-rank test needs two groups, all patients are in '{labels[0]}'")
    member = np.zeros((outcome.n, labels.size))
    member[np.arange(outcome.n), codes] = 1
    distinct, place = np.unique(outcome.time, return_inverse=True)
    deaths, leaving = np.zeros((2, distinct.size, labels.size))
    np.add.at(leaving, place, member)
    np.add.at(deaths, place[outcome.event], member[outcome.event])
    at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
    total, died = at_risk.sum(axis=1), deaths.sum(axis=1)
    share = at_risk / total[:, None]
    expected = (died[:, None] * share).sum(axis=0)
    spread = np.divide(died * (total - died), total - 1, out=np.zeros_like(total), where=total > 1)
    covariance = np.diag((spread[:, None] * share).sum(axis=0)) - (share * spread[:, None]).T @ share
    difference = (deaths.sum(axis=0) - expected)[:-1]
    inner = covariance[:-1, :-1]
    if not np.diag(covariance).all():
        raise SurvivalRefused("no event while two groups were under observation: they cannot be compared")
    statistic = float(difference @ linalg.solve(inner, difference, assume_a="sym"))
    degrees = labels.size - 1
    return LogRank(
        groups=tuple(str(label) for label in labels),
        statistic=statistic,
        degrees=degrees,
        p_value=float(special.chdtrc(degrees, max(statistic, 0.0))),
        observed=tuple(int(count) for count in deaths.sum(axis=0)),
        expected=tuple(float(count) for count in expected),
    )


def _tabulate(outcome: Outcome) -> tuple[FloatArray, IntArray, IntArray, IntArray]:
    """Distinct times with numbers at risk just before, events and censorings at each."""
    time, place, leaving = np.unique(outcome.time, return_inverse=True, return_counts=True)
    events = np.bincount(place[outcome.event], minlength=time.size).astype(np.int64)
    at_risk = np.cumsum(leaving[::-1])[::-1].astype(np.int64)
    return time, at_risk, events, leaving.astype(np.int64) - events


def _first_crossing(time: FloatArray, curve: FloatArray, level: float) -> float | None:
    """First time at which the curve is at or below the level; the middle of the step where it is exactly on it."""
    known = ~np.isnan(curve)
    below = np.flatnonzero(known & (curve <= level + _LEVEL_TOLERANCE))
    if below.size == 0:
        return None
    first = int(below[0])
    if abs(curve[first] - level) > _LEVEL_TOLERANCE:
        return float(time[first])
    further = np.flatnonzero(known & (curve < level - _LEVEL_TOLERANCE))
    return float(time[first] + time[further[0] if further.size else -1]) / 2


_LEVEL_TOLERANCE = 1.5e-8
"""Rounding of a product of fractions; R's quantile.survfit uses the square root of the machine epsilon."""
