"""Cut-offs between low and high risk, derived on one cohort and applied unchanged to others."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.errors import InvalidInput, SurvivalRefused
from engines.survival.outcome import BoolArray, FloatArray, Outcome, check_score

SMALLEST_SHARE = 0.1
"""Share of the patients that must lie on either side of a maximally selected cut-off. Source: R maxstat, minprop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectedCutoff:
    """A maximally selected log-rank cut-off.

    Attributes:
        cutoff: scores above it are high.
        statistic: largest absolute standardised log-rank statistic.
        p_value: corrected for the selection (Lausen & Schumacher 1992); an upper bound for small samples.
    """

    cutoff: float
    statistic: float
    p_value: float


def median_cutoff(score: npt.ArrayLike) -> float:
    """Returns the median of the discovery scores.

    Raises:
        InvalidInput: no score, or one that is not finite.
    """
    values = np.asarray(score, dtype=np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise InvalidInput("a median cut-off needs at least one score, all finite")
    return float(np.median(values))


def is_high(score: npt.ArrayLike, cutoff: float) -> BoolArray:
    """Returns (n,) whether each score lies above the cut-off: "high" is strictly above."""
    result: BoolArray = np.asarray(score, dtype=np.float64) > cutoff
    return result


def select_cutoff(
    score: npt.ArrayLike, outcome: Outcome, smallest_share: float = SMALLEST_SHARE
) -> SelectedCutoff:
    """Returns the cut-off whose two groups differ most by the log-rank test, with a p corrected for the choice.

    Args:
        score: (n,) of the discovery cohort.
        outcome: of the same patients.
        smallest_share: of patients in either group, between 0 and 0.5.

    Raises:
        InvalidInput: the share is not between 0 and 0.5.
        SurvivalRefused: no event, or no cut-off leaves enough patients on both sides.

    Source: Hothorn & Lausen 2003; Lausen & Schumacher 1992, formula of the asymptotic p; R maxstat.test
    (smethod="LogRank", pmethod="Lau92").
    """
    values = check_score(score, outcome)
    if not 0 < smallest_share < 0.5:
        raise InvalidInput(f"the smallest share lies between 0 and 0.5, got {smallest_share}")
    if outcome.events == 0:
        raise SurvivalRefused("all patients are censored: no cut-off can be selected")
    order = np.argsort(values, kind="stable")
    ranked, n = values[order], outcome.n
    last = np.flatnonzero(np.append(ranked[1:] > ranked[:-1], False))
    allowed = last[
        (last + 1 >= np.floor(n * smallest_share)) & (last + 1 <= np.ceil(n * (1 - smallest_share)))
    ]
    if allowed.size == 0:
        raise SurvivalRefused(
            f"no cut-off leaves {smallest_share:.0%} of {n} patients on both sides: too many equal scores"
        )
    scores = _logrank_scores(outcome)
    size = allowed + 1.0
    total = np.cumsum(scores[order])[allowed]
    variance = size * (n - size) / (n**2 * (n - 1.0)) * (n * np.sum(scores**2) - np.sum(scores) ** 2)
    statistic = np.abs(total - size / n * scores.sum()) / np.sqrt(variance)
    best = int(np.argmax(statistic))
    return SelectedCutoff(
        cutoff=float(ranked[allowed[best]]),
        statistic=float(statistic[best]),
        p_value=_lausen_schumacher(float(statistic[best]), smallest_share),
    )


def _logrank_scores(outcome: Outcome) -> FloatArray:
    """Log-rank scores with the largest rank of tied times, as R's exactRankTests."""
    time = np.sort(outcome.time)
    rank = np.searchsorted(time, outcome.time, side="right")
    order = np.argsort(outcome.time, kind="stable")
    summed = np.cumsum((outcome.event / (outcome.n - rank + 1.0))[order])
    result: FloatArray = outcome.event - summed[rank - 1]
    return result


def _lausen_schumacher(statistic: float, share: float) -> float:
    if statistic < 1:
        return 1.0
    density = float(np.exp(-(statistic**2) / 2) / np.sqrt(2 * np.pi))
    odds = 2 * np.log((1 - share) / share)
    return float(np.clip(4 * density / statistic + density * (statistic - 1 / statistic) * odds, 0.0, 1.0))
