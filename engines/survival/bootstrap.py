"""Paired bootstrap of C-indices and areas under the curve: one set of resamples for all models, so differences have intervals."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from engines.errors import InvalidInput
from engines.survival.concordance import weigh_pairs
from engines.survival.outcome import FloatArray, Outcome, check_score

DEFAULT_REPEATS = 1000
"""Source: method, section 8."""

LARGEST_PAIR_MATRIX = 1500
"""Patients up to which all pairs are held at once (two float32 matrices of 9 MB) and are the faster way; beyond it each resample is counted by prefix sums."""

_ROWS_AT_ONCE = 250
"""Resamples multiplied together; bounds the products at 250 x n."""

CountArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A percentile bootstrap interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Difference of two statistics on the same resamples.

    Attributes:
        difference: on the whole cohort, first less second.
        low: lower bound of the percentile interval.
        high: upper bound.
        p_value: two-sided, twice the smaller share of resamples beyond 0, at least 2 / (repeats + 1).
        normal_p: two-sided, of the difference divided by its bootstrap standard deviation; NaN where that is 0. It
            has no floor, so it serves where small P are marked.
    """

    difference: float
    low: float
    high: float
    p_value: float
    normal_p: float


def draw_resamples(n: int, repeats: int = DEFAULT_REPEATS, seed: int = 0) -> CountArray:
    """Returns (repeats, n) how often each patient is drawn in each resample of n with replacement.

    Raises:
        InvalidInput: no patient or no repeat.
    """
    if n < 1 or repeats < 1:
        raise InvalidInput(f"a bootstrap needs patients and repeats, got n={n}, repeats={repeats}")
    generator = np.random.Generator(np.random.PCG64(seed))
    return count_draws(generator.integers(0, n, size=(repeats, n)), n)


def count_draws(rows: npt.NDArray[np.integer], n: int) -> CountArray:
    """Returns (repeats, n) how often each of n patients stands in each row of drawn indices."""
    counts = np.zeros((rows.shape[0], n), dtype=np.float32)
    for repeat, drawn in enumerate(rows):
        counts[repeat] = np.bincount(drawn, minlength=n)
    return counts


def bootstrap_concordance(scores: FloatArray, outcome: Outcome, resamples: CountArray) -> FloatArray:
    """Returns (repeats, k) Harrell's C of each score on each resample; NaN where no pair is comparable.

    With the counts m of a resample, its concordant pairs are the quadratic form m' K m of the pair matrix K, so that
    all resamples become two matrix products. All sums are exact: they are multiples of 1/2 below 2^24.

    Args:
        scores: (k, n) higher = higher risk.
        outcome: follow-up of the n patients.
        resamples: (repeats, n) from ``draw_resamples``.

    Raises:
        InvalidInput: shapes do not fit.
    """
    values = np.stack([check_score(row, outcome) for row in np.atleast_2d(scores)])
    if resamples.ndim != 2 or resamples.shape[1] != outcome.n:
        raise InvalidInput(f"resamples of {outcome.n} patients expected, got shape {resamples.shape}")
    if outcome.n > LARGEST_PAIR_MATRIX:
        return _count_by_level(values, outcome, resamples)
    time, event = outcome.time, outcome.event
    rows = np.flatnonzero(event)
    comparable = (time[rows, None] < time[None, :]) | ((time[rows, None] == time[None, :]) & ~event[None, :])
    pairs = _count_comparable(outcome, resamples)
    result = np.full((resamples.shape[0], values.shape[0]), np.nan)
    for column, score in enumerate(values):
        rank = np.unique(score, return_inverse=True)[1]  # differences of extreme scores would overflow
        order = np.sign(rank[rows, None] - rank[None, :]).astype(np.float32)
        won = _quadratic_form((order + 1) / 2 * comparable, rows, resamples)
        np.divide(won, pairs, out=result[:, column], where=pairs > 0)
    return result


def percentile_interval(values: FloatArray, confidence: float = 0.95) -> Interval | None:
    """Returns the percentile interval of bootstrap values; None when more than one in twenty could not be computed."""
    known = values[~np.isnan(values)]
    if known.size < _ENOUGH * values.size:
        return None
    low, high = np.quantile(known, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(low=float(low), high=float(high))


def compare_paired(
    difference: float, first: FloatArray, second: FloatArray, confidence: float = 0.95
) -> PairedDifference | None:
    """Returns the interval and p of a difference from values on the same resamples; None when too few are known."""
    delta = first - second
    interval = percentile_interval(delta, confidence)
    if interval is None:
        return None
    known = delta[~np.isnan(delta)]
    spread = float(known.std(ddof=1)) if known.size > 1 else 0.0
    below, above = int((known <= 0).sum()), int((known >= 0).sum())
    return PairedDifference(
        difference=difference,
        low=interval.low,
        high=interval.high,
        p_value=min(1.0, 2 * (min(below, above) + 1) / (known.size + 1)),
        normal_p=float(2 * special.ndtr(-abs(difference) / spread)) if spread > 0 else float("nan"),
    )


_ENOUGH = 0.95


def _count_comparable(outcome: Outcome, resamples: CountArray) -> FloatArray:
    """Comparable pairs of each resample: each event times the patients after it, by suffix sums in order of time."""
    order = np.lexsort((~outcome.event, outcome.time))
    time, event = outcome.time[order], outcome.event[order]
    changed = (time[1:] > time[:-1]) | (event[1:] != event[:-1])
    run_end = np.append(np.flatnonzero(changed) + 1, outcome.n)[np.concatenate(([0], np.cumsum(changed)))]
    counts = resamples.T[order]
    after = np.zeros((outcome.n + 1, counts.shape[1]), dtype=np.float32)
    np.cumsum(counts[::-1], axis=0, out=after[1:])
    later = after[outcome.n - run_end[event]]
    pairs: FloatArray = (counts[event] * later).sum(axis=0, dtype=np.float64)
    return pairs


def _quadratic_form(matrix: CountArray, rows: npt.NDArray[np.intp], resamples: CountArray) -> FloatArray:
    """Sum over i in rows and all j of m_i matrix_ij m_j, for each resample m."""
    result = np.empty(resamples.shape[0])
    for start in range(0, resamples.shape[0], _ROWS_AT_ONCE):
        counts = resamples[start : start + _ROWS_AT_ONCE]
        partial = counts[:, rows] @ matrix
        result[start : start + _ROWS_AT_ONCE] = (partial * counts).sum(axis=1, dtype=np.float64)
    return result


def _count_by_level(scores: FloatArray, outcome: Outcome, resamples: CountArray) -> FloatArray:
    """The same by prefix sums along the bits of the scores' ranks: O(n log n) a resample, exact in whole numbers."""
    result = np.full((resamples.shape[0], scores.shape[0]), np.nan)
    pairs = np.concatenate(
        [
            _count_comparable(outcome, resamples[start : start + _ROWS_AT_ONCE])
            for start in range(0, resamples.shape[0], _ROWS_AT_ONCE)
        ]
    )
    counts = resamples.astype(np.int32)
    for column, score in enumerate(scores):
        won = weigh_pairs(score, outcome, counts)
        np.divide(won, pairs, out=result[:, column], where=pairs > 0)
    return result
