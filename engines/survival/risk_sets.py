"""Risk sets of a cohort and the Cox partial likelihood over them, with Efron or Breslow ties, in O(n p^2) and without loops."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from engines.survival.outcome import BoolArray, FloatArray, IntArray, Outcome


class Ties(StrEnum):
    """How events at the same time are treated."""

    EFRON = "efron"
    BRESLOW = "breslow"


@dataclass(frozen=True, slots=True, eq=False)
class RiskSets:
    """Rows ascending in time, and one "death row" for each event: its event time and its Efron share.

    Attributes:
        x: (n, p) variables.
        event: (n,) whether the row ends in an event.
        time: (m,) distinct event times.
        start: (m,) first row at risk at each event time.
        group: (d,) index of the event time of each death row.
        share: (d,) k / number of tied events, k = 0, 1 ...; all 0 for Breslow.
        last: (n,) number of event times up to each row's time.
    """

    x: FloatArray
    event: BoolArray
    time: FloatArray
    start: IntArray
    group: IntArray
    share: FloatArray
    last: IntArray

    def tied_sums(self, values: FloatArray) -> FloatArray:
        """Returns the sums of the events' values at each event time."""
        total = np.zeros((self.time.size, *values.shape[1:]))
        np.add.at(total, self.group, values[self.event])
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Likelihood:
    """The partial likelihood at one point.

    Attributes:
        log_likelihood: minus infinity where it overflows.
        gradient: (p,).
        information: (p, p) negative second derivative.
        denominator: (d,) sum of the risk scores exp(x b - shift) in the risk set of each death row.
        mean: (d, p) weighted mean of x in it.
        shift: largest x b.
    """

    log_likelihood: float
    gradient: FloatArray
    information: FloatArray
    denominator: FloatArray
    mean: FloatArray
    shift: float


def arrange_risk_sets(x: FloatArray, outcome: Outcome, ties: Ties) -> RiskSets:
    """Returns the rows in order of time with their risk sets.

    Args:
        x: (n, p) variables, best centred.
        outcome: of the same patients, with at least one event.
        ties: treatment of tied events.
    """
    order = np.argsort(outcome.time, kind="stable")
    time, event = outcome.time[order], outcome.event[order]
    death_times = time[event]
    distinct, group, count = np.unique(death_times, return_inverse=True, return_counts=True)
    rank = np.arange(death_times.size) - np.concatenate(([0], np.cumsum(count)[:-1]))[group]
    share = rank / count[group] if ties == Ties.EFRON else np.zeros(death_times.size)
    return RiskSets(
        x=np.ascontiguousarray(x[order]),
        event=event,
        start=np.searchsorted(time, distinct, side="left"),
        group=group,
        share=share,
        last=np.searchsorted(distinct, time, side="right"),
        time=distinct,
    )


def partial_likelihood(data: RiskSets, beta: FloatArray) -> Likelihood:
    """Returns the log partial likelihood at ``beta`` with its first two derivatives.

    The second derivative's sums of x x' over risk sets are exchanged into sums over patients, weighted by each
    patient's cumulative hazard: two matrix products instead of n x p x p numbers.

    Source: Cox 1972; Breslow 1974; Efron 1977.
    """
    eta = data.x @ beta
    shift = float(eta.max())
    weight = np.exp(eta - shift)
    weighted = weight[:, None] * data.x
    sum0 = risk_set_sums(weight, data.start)[data.group]
    sum1 = risk_set_sums(weighted, data.start)[data.group]
    share = data.share
    if share.any():
        sum0 = sum0 - share * data.tied_sums(weight)[data.group]
        sum1 = sum1 - share[:, None] * data.tied_sums(weighted)[data.group]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mean = sum1 / sum0[:, None]
        log_likelihood = float(np.sum(eta[data.event] - shift) - np.sum(np.log(sum0)))
        hazard = np.zeros(data.time.size)
        np.add.at(hazard, data.group, 1 / sum0)
        tied = np.zeros(data.time.size)
        np.add.at(tied, data.group, share / sum0)
        exposure = np.concatenate(([0.0], np.cumsum(hazard)))[data.last]
        exposure[data.event] -= tied[data.last[data.event] - 1]
        information = (weighted * exposure[:, None]).T @ data.x - mean.T @ mean
    finite = np.isfinite(log_likelihood) and np.isfinite(information).all()
    return Likelihood(
        log_likelihood=log_likelihood if finite else -np.inf,
        gradient=data.x[data.event].sum(axis=0) - mean.sum(axis=0),
        information=(information + information.T) / 2,
        denominator=sum0,
        mean=mean,
        shift=shift,
    )


def risk_set_sums(values: FloatArray, start: IntArray) -> FloatArray:
    """Returns the sums of the values over the rows from each start to the end."""
    sums: FloatArray = np.cumsum(values[::-1], axis=0)[values.shape[0] - 1 - start]
    return sums
