"""Concordance of a score with an outcome: Harrell's and Uno's C, exact in O(n log n), with Noether's standard error."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from engines.errors import SurvivalRefused
from engines.survival.kaplan_meier import censoring_survival
from engines.survival.outcome import BoolArray, FloatArray, IntArray, Outcome, check_score


@dataclass(frozen=True, slots=True, kw_only=True)
class Concordance:
    """Harrell's C of one score.

    A pair is comparable when the earlier time is an event, or both times are equal and one of them is an event.

    Attributes:
        c_index: (concordant + tied_score / 2) / comparable pairs; higher score = higher risk.
        standard_error: Noether's, of c_index; NaN under three patients or where it vanishes.
        concordant: comparable pairs in which the earlier event has the higher score.
        discordant: comparable pairs in which it has the lower score.
        tied_score: comparable pairs of equal scores.
        tied_time: pairs of events at one time with different scores, not comparable.
        tied_both: pairs of events at one time with equal scores, not comparable.
    """

    c_index: float
    standard_error: float
    concordant: int
    discordant: int
    tied_score: int
    tied_time: int
    tied_both: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcordanceComparison:
    """The t test of survcomp's cindex.comp on two scores of the same patients, two-sided.

    Attributes:
        difference: first C less second C.
        statistic: t; 0 for identical scores.
        degrees: n - 1.
        p_value: two-sided.
    """

    difference: float
    statistic: float
    degrees: int
    p_value: float


def measure_concordance(score: npt.ArrayLike, outcome: Outcome) -> Concordance:
    """Returns Harrell's C with its counts and standard error.

    Args:
        score: (n,) higher = higher risk.
        outcome: follow-up of the same patients.

    Raises:
        SurvivalRefused: no pair of patients can be compared.

    Source: Harrell 1996; counts as R's concordance(); Noether's variance: Pencina & D'Agostino 2004 as in survcomp's
    concordance.index, with pairs of equal scores shared between both sides, so that it belongs to this C.
    """
    values = check_score(score, outcome)
    counts = _count_pairs(values, outcome)
    concordant, discordant = int(counts.less.sum()), int(counts.greater.sum())
    tied = int(counts.equal.sum())
    comparable = concordant + discordant + tied
    _require_comparable(comparable, outcome)
    equal = (counts.equal + counts.earlier_equal) / 2
    tied_time, tied_both = _count_tied_times(values, outcome)
    return Concordance(
        c_index=(concordant + tied / 2) / comparable,
        standard_error=_noether_error(
            counts.less + counts.earlier_greater + equal, counts.greater + counts.earlier_less + equal
        ),
        concordant=concordant,
        discordant=discordant,
        tied_score=tied,
        tied_time=tied_time,
        tied_both=tied_both,
    )


def harrell_c(score: npt.ArrayLike, outcome: Outcome) -> float:
    """Returns Harrell's C alone.

    Raises:
        SurvivalRefused: no pair of patients can be compared.
    """
    concordant, discordant, tied = _sum_pairs(check_score(score, outcome), outcome)
    _require_comparable(concordant + discordant + tied, outcome)
    return (concordant + tied / 2) / (concordant + discordant + tied)


def weigh_pairs(
    score: npt.ArrayLike, outcome: Outcome, counts: npt.NDArray[np.int32]
) -> npt.NDArray[np.float64]:
    """Returns (k,) concordant pairs and half the tied ones of k samples, without a matrix of pairs.

    Args:
        score: (n,) higher = higher risk.
        outcome: follow-up of the same patients.
        counts: (k, n) how often each patient is in each sample.
    """
    won = np.zeros(counts.shape[0])
    for level in _split_by_bits(check_score(score, outcome), outcome):
        lower = level.order if level.upper is None else level.order[~level.upper]
        rows = np.flatnonzero(level.event if level.upper is None else level.event & level.upper)
        first, end = level.zeros[level.runs.end[rows]], level.zeros[level.blocks.end[rows]]
        share = 0.5 if level.upper is None else 1.0
        for start in range(0, counts.shape[0], _SAMPLES_AT_ONCE):
            part = counts[start : start + _SAMPLES_AT_ONCE]
            sums = np.zeros((part.shape[0], lower.size + 1), dtype=np.int32)
            np.cumsum(part.take(lower, axis=1), axis=1, out=sums[:, 1:])
            later = sums.take(end, axis=1) - sums.take(first, axis=1)
            later *= part.take(level.order[rows], axis=1)
            won[start : start + _SAMPLES_AT_ONCE] += share * later.sum(axis=1, dtype=np.int64)
    return won


def uno_c(
    score: npt.ArrayLike,
    outcome: Outcome,
    *,
    until: float | None = None,
    censoring: Outcome | None = None,
) -> float:
    """Returns Uno's C: each pair weighted by the inverse squared probability of still being observed at its event.

    Args:
        score: (n,) higher = higher risk.
        outcome: follow-up of the same patients.
        until: events after this time do not count; None = all.
        censoring: cohort from which the censoring is learned; default this one.

    Raises:
        SurvivalRefused: no pair can be compared, or nobody of the censoring cohort is still observed at an event.

    Source: Uno et al. 2011; R concordance(timewt="n/G2", ymax=until).
    """
    counts = _count_pairs(check_score(score, outcome), outcome)
    observed = censoring_survival(censoring or outcome, outcome.time, before=True)
    used = outcome.event if until is None else outcome.event & (outcome.time <= until)
    pairs = np.where(used, counts.less + counts.greater + counts.equal, 0)
    _require_comparable(int(pairs.sum()), outcome)
    if (observed[pairs > 0] == 0).any():
        raise SurvivalRefused(
            "an event lies beyond the last censoring time of the censoring cohort; set 'until'"
        )
    weight = np.divide(1.0, observed**2, out=np.zeros(outcome.n), where=pairs > 0)
    return float(np.sum(weight * (counts.less + counts.equal / 2)) / np.sum(weight * pairs))


def compare_concordance(
    first: npt.ArrayLike, second: npt.ArrayLike, outcome: Outcome
) -> ConcordanceComparison:
    """Returns the t test of two C-indices of the same patients, two-sided.

    t = (C1 - C2) / sqrt(se1^2 + se2^2 - 2 r se1 se2), r = Spearman correlation of the scores. survcomp reports the
    one-sided p of C1 > C2; this is twice the smaller tail. It tests C, not an area under the curve.

    Raises:
        SurvivalRefused: no comparable pair, or a standard error that cannot be computed.

    Source: Haibe-Kains et al. 2008; survcomp cindex.comp; method, section 8.
    """
    one, two = measure_concordance(first, outcome), measure_concordance(second, outcome)
    errors = (one.standard_error, two.standard_error)
    if not np.isfinite(errors).all():
        raise SurvivalRefused(f"the standard errors of the two C-indices are {errors[0]:g}, {errors[1]:g}")
    ranks = [stats.rankdata(np.asarray(score, dtype=np.float64)) for score in (first, second)]
    correlation = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    difference, degrees = one.c_index - two.c_index, outcome.n - 1
    variance = errors[0] ** 2 + errors[1] ** 2 - 2 * correlation * errors[0] * errors[1]
    if 1 - abs(correlation) <= _SAME_SCORE or variance <= 0:
        same = abs(difference) < _SAME_SCORE
        return ConcordanceComparison(
            difference=difference, statistic=0.0, degrees=degrees, p_value=1.0 if same else float("nan")
        )
    statistic = difference / float(np.sqrt(variance))
    return ConcordanceComparison(
        difference=difference,
        statistic=statistic,
        degrees=degrees,
        p_value=float(2 * special.stdtr(degrees, -abs(statistic))),
    )


_SAMPLES_AT_ONCE = 50
"""Samples that ``weigh_pairs`` counts together; bounds its prefix sums at 50 x n."""

_SAME_SCORE = 1e-12
"""Scores of this rank correlation are one score, and the test has nothing to compare."""


@dataclass(frozen=True, slots=True, eq=False)
class _Counts:
    """Comparable pairs of each patient, by the score of the other patient.

    ``less``, ``greater`` and ``equal`` count later patients for a patient with an event; ``earlier_*`` count earlier
    patients with an event.
    """

    less: IntArray
    greater: IntArray
    equal: IntArray
    earlier_less: IntArray
    earlier_greater: IntArray
    earlier_equal: IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """One bit of the score's ranks. Rows lie in blocks of equal higher bits, inside a block in order of time.

    Two patients whose ranks first differ in this bit lie in one block, where prefix sums count all of them at once:
    O(n log n) over all bits and no n x n matrix. On the last level the blocks are the groups of equal scores.

    Attributes:
        order: original row of each place.
        event: (n,) of each place.
        upper: whether the bit is set; None on the last level.
        blocks: blocks of equal higher bits.
        runs: inside a block, rows that are not comparable with each other for their time.
        zeros: (n + 1,) prefix sums of rows without the bit.
    """

    order: IntArray
    event: BoolArray
    upper: BoolArray | None
    blocks: "_Runs"
    runs: "_Runs"
    zeros: IntArray

    def later(self) -> tuple[IntArray, IntArray]:
        """For each place, the later rows of its block without and with the bit."""
        without = self.zeros[self.blocks.end] - self.zeros[self.runs.end]
        return without, self.blocks.end - self.runs.end - without


def _split_by_bits(score: FloatArray, outcome: Outcome) -> Iterator[_Level]:
    """Yields the levels of the score's ranks, highest bit first."""
    rank = np.unique(score, return_inverse=True)[1].astype(np.int64)
    # Events of one time share a key (not comparable); censorings of that time come after them (comparable).
    order = np.lexsort((~outcome.event, outcome.time))
    rank, time, event = rank[order], outcome.time[order], outcome.event[order]
    key = np.concatenate(([0], np.cumsum((time[1:] > time[:-1]) | (event[1:] != event[:-1]))))
    place = np.arange(outcome.n)
    for bit in range(int(rank.max()).bit_length() - 1, -1, -1):
        higher, upper = rank >> (bit + 1), (rank >> bit) & 1 == 1
        blocks, zeros = _Runs.of(higher), _prefix(~upper)
        yield _Level(order, event, upper, blocks, _Runs.of(higher, key), zeros)
        zeros_before = zeros[:-1] - zeros[blocks.start]
        zeros_of_block = zeros[blocks.end] - zeros[blocks.start]
        position = np.where(upper, place - zeros_before + zeros_of_block, blocks.start + zeros_before)
        moved = np.empty_like(place)
        moved[position] = place
        order, rank, event, key = order[moved], rank[moved], event[moved], key[moved]
    yield _Level(order, event, None, _Runs.of(rank), _Runs.of(rank, key), np.arange(outcome.n + 1))


def _sum_pairs(score: FloatArray, outcome: Outcome) -> tuple[int, int, int]:
    """Numbers of concordant, discordant and tied comparable pairs."""
    concordant = discordant = tied = 0
    for level in _split_by_bits(score, outcome):
        if level.upper is None:
            tied = int((level.blocks.end - level.runs.end)[level.event].sum())
        else:
            without, having = level.later()
            concordant += int(without[level.event & level.upper].sum())
            discordant += int(having[level.event & ~level.upper].sum())
    return concordant, discordant, tied


def _count_pairs(score: FloatArray, outcome: Outcome) -> _Counts:
    """Comparable pairs of each patient."""
    counts = _Counts(*np.zeros((6, outcome.n), dtype=np.int64))
    for level in _split_by_bits(score, outcome):
        order, event, upper = level.order, level.event, level.upper
        start, first = level.runs.start, level.blocks.start
        if upper is None:
            counts.equal[order] = (level.blocks.end - level.runs.end) * event
            seen = _prefix(event)
            counts.earlier_equal[order] = seen[start] - seen[first]
        else:
            without, having = level.later()
            counts.less[order] += without * (event & upper)
            counts.greater[order] += having * (event & ~upper)
            zero_events, one_events = _prefix(event & ~upper), _prefix(event & upper)
            counts.earlier_less[order] += (zero_events[start] - zero_events[first]) * upper
            counts.earlier_greater[order] += (one_events[start] - one_events[first]) * ~upper
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class _Runs:
    """For each row, where its run of equal neighbours starts and ends (exclusive)."""

    start: IntArray
    end: IntArray

    @classmethod
    def of(cls, *columns: IntArray) -> "_Runs":
        n = columns[0].size
        changed = np.zeros(n, dtype=np.bool_)
        changed[0] = True
        for column in columns:
            changed[1:] |= column[1:] != column[:-1]
        starts = np.flatnonzero(changed)
        lengths = np.diff(np.append(starts, n))
        return cls(np.repeat(starts, lengths), np.repeat(starts + lengths, lengths))


def _prefix(mask: BoolArray) -> IntArray:
    sums = np.zeros(mask.size + 1, dtype=np.int64)
    np.cumsum(mask, out=sums[1:])
    return sums


def _count_tied_times(score: FloatArray, outcome: Outcome) -> tuple[int, int]:
    time, values = outcome.time[outcome.event], score[outcome.event]
    place = np.unique(time, return_inverse=True)[1].astype(np.int64)
    rank = np.unique(values, return_inverse=True)[1].astype(np.int64)
    same_time = np.bincount(place)
    both = np.unique(place * (rank.max(initial=0) + 1) + rank, return_counts=True)[1]
    tied_both = int((both * (both - 1) // 2).sum())
    return int((same_time * (same_time - 1) // 2).sum()) - tied_both, tied_both


def _noether_error(concordant: FloatArray, discordant: FloatArray) -> float:
    """Noether's standard error from each patient's concordant and discordant pairs, in both directions."""
    n = concordant.size
    if n < 3:
        return float("nan")
    pairs, triples = n * (n - 1.0), n * (n - 1.0) * (n - 2.0)
    pc, pd = concordant.sum() / pairs, discordant.sum() / pairs
    pcc = np.sum(concordant * (concordant - 1)) / triples
    pdd = np.sum(discordant * (discordant - 1)) / triples
    pcd = np.sum(concordant * discordant) / triples
    variance = 4 / (pc + pd) ** 4 * (pd**2 * pcc - 2 * pc * pd * pcd + pc**2 * pdd) / n
    return float(np.sqrt(variance)) if variance > 0 else float("nan")


def _require_comparable(pairs: int, outcome: Outcome) -> None:
    if pairs == 0:
        raise SurvivalRefused(
            f"no two of {outcome.n} patients ({outcome.events} events) can be compared:"
            " an event with a longer follow-up beside it is needed"
        )
