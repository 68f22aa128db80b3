"""The gate: may a candidate take the running model's place? Judged on locked cases that neither has learned from. Pure."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from scipy import special

from engines.endpoint import Endpoint
from engines.errors import SurvivalRefused
from engines.models.promotion import Decision
from engines.survival.bootstrap import bootstrap_concordance, compare_paired, draw_resamples
from engines.survival.calibration import Slope, calibration_slope
from engines.survival.concordance import harrell_c
from engines.survival.outcome import FloatArray, Outcome

PLANNED_ERROR = 0.0101
PLANNED_PATIENTS = 209
"""Standard error of the difference of two C-indices of one method refitted, at this many patients; it falls with the root
of their number. Source: validity, trap 5 (an equal model passes a margin of .02 in 61 % of tries at 209, 85 % at 400)."""

ONE_SIDED = 0.05
"""Error rate of each bound. The interval of 1 - 2 x this has it on each side."""
LEAST_SLOPE = 0.6
"""Calibration slope that a candidate must exceed, and whose inverse it must stay below, with its bound (OURS)."""
WRONG_SLOPE = 0.75
"""A slope below this, or above its inverse, whose bounds exclude 1 is refused; else the gate cannot decide (OURS)."""
SLOPE_TOLERANCE = 0.15
"""By which |log slope| may be worse than the running model's (OURS: twice the spread between honest refits on 650)."""
FEWEST_IN_CENTRE = 10
FEWEST_EVENTS_IN_CENTRE = 5
"""Centres of fewer are not judged (validity: groups under 10 patients or 5 events are not shown)."""

_REPEATS = 500
_SEED = 0


class Check(StrEnum):
    """What is looked at."""

    DISCRIMINATION = "difference of C"
    CALIBRATION = "calibration slope"
    CALIBRATION_CHANGE = "calibration against the running model"
    CENTRE_DISCRIMINATION = "difference of C in a centre"
    CENTRE_CALIBRATION = "calibration slope in a centre"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LockedRows:
    """One endpoint of the locked cases, as both models see it.

    Attributes:
        outcome: follow-up of n patients.
        candidate: (n,) log hazards of the model that a patient's report would show.
        running: (n,) the same of the model in service; None = there is none.
        centres: n words; "" = not known.
    """

    outcome: Outcome
    candidate: FloatArray
    running: FloatArray | None
    centres: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRules:
    """What the gate asks.

    Attributes:
        margin: of the C-index, by which the candidate may be worse.
        minimum_power: below it the gate does not look.
    """

    margin: float = 0.02
    minimum_power: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check of one endpoint.

    Attributes:
        decision: of this check alone.
        value: of the candidate, or the difference to the running model.
        low: lower bound at ``ONE_SIDED``; None = not estimable.
        high: upper bound.
        group: centre; "" = everybody.
    """

    check: Check
    endpoint: Endpoint
    decision: Decision
    sentence: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the gate says.

    Attributes:
        power: probability that an equal model passes the comparison of C, the smaller of the endpoints; None without a look.
        patients: locked cases that were read; 0 without a look.
    """

    decision: Decision
    findings: tuple[Finding, ...]
    power: float | None
    patients: int
    events: Mapping[Endpoint, int] = field(default_factory=dict)

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences that decided."""
        return tuple(finding.sentence for finding in self.findings if finding.decision == self.decision)


def plan_power(patients: int, margin: float) -> float:
    """Returns the probability that an equal model is released, before anything is looked at.

    Args:
        patients: locked cases with a known outcome.
        margin: of the C-index.
    """
    if patients < 1:
        return 0.0
    return _power(PLANNED_ERROR * math.sqrt(PLANNED_PATIENTS / patients), margin)


def judge_candidate(rows: Mapping[Endpoint, LockedRows], rules: GateRules) -> Verdict:
    """Returns the verdict on a candidate. One refusal refuses; release asks for every check.

    Args:
        rows: of the locked cases, by endpoint.
        rules: margin and power.
    """
    findings: list[Finding] = []
    powers: list[float] = []
    for endpoint, locked in rows.items():
        compared, power = _compare_discrimination(endpoint, locked, rules.margin)
        findings.append(compared)
        powers.append(power)
        findings += _judge_calibration(endpoint, locked)
        findings += _judge_centres(endpoint, locked, rules.margin)
    decisions = {finding.decision for finding in findings}
    decision = next(
        (one for one in (Decision.REFUSE, Decision.CANNOT_DECIDE) if one in decisions), Decision.RELEASE
    )
    return Verdict(
        decision=decision if findings else Decision.CANNOT_DECIDE,
        findings=tuple(findings),
        power=min(powers) if powers else None,
        patients=max((locked.outcome.n for locked in rows.values()), default=0),
        events={endpoint: locked.outcome.events for endpoint, locked in rows.items()},
    )


def _compare_discrimination(endpoint: Endpoint, locked: LockedRows, margin: float) -> tuple[Finding, float]:
    """Not worse by the margin: the lower bound of the paired difference of C; the power is that of an equal model."""
    check = Check.DISCRIMINATION
    if locked.running is None:
        sentence = (
            f"{endpoint}: no model is in service, so there is nothing to compare with: a person decides"
        )
        finding = Finding(check=check, endpoint=endpoint, decision=Decision.CANNOT_DECIDE, sentence=sentence)
        return finding, 0.0
    compared = _difference(locked.candidate, locked.running, locked.outcome, 1.0 - 2.0 * ONE_SIDED)
    if compared is None:
        sentence = f"{endpoint}: C cannot be estimated on {locked.outcome.n} cases with {locked.outcome.events} events"
        finding = Finding(check=check, endpoint=endpoint, decision=Decision.CANNOT_DECIDE, sentence=sentence)
        return finding, 0.0
    value, low, high, error = compared
    if low > -margin:
        decision, verb = Decision.RELEASE, "not worse"
    elif high < 0.0:
        decision, verb = Decision.REFUSE, "worse"
    else:
        decision, verb = Decision.CANNOT_DECIDE, "perhaps worse"
    sentence = (
        f"{endpoint}: C {harrell_c(locked.candidate, locked.outcome):.3f} against"
        f" {harrell_c(locked.running, locked.outcome):.3f} of the running model, difference {value:+.3f}"
        f" ({low:+.3f} to {high:+.3f}, margin {margin:g}): {verb}"
    )
    finding = Finding(
        check=check, endpoint=endpoint, decision=decision, sentence=sentence, value=value, low=low, high=high
    )
    return finding, _power(error, margin)


def _judge_calibration(endpoint: Endpoint, locked: LockedRows) -> Iterator[Finding]:
    """The slope itself, and against the running model's: spoiled labels flatten a model, overfitting steepens it."""
    slope = calibration_slope(locked.candidate, locked.outcome)
    check = Check.CALIBRATION
    if slope is None:
        sentence = f"{endpoint}: the calibration slope cannot be fitted"
        yield Finding(check=check, endpoint=endpoint, decision=Decision.CANNOT_DECIDE, sentence=sentence)
        return
    low, high = _bounds(slope, ONE_SIDED)
    if low > LEAST_SLOPE and high < 1.0 / LEAST_SLOPE:
        decision = Decision.RELEASE
    elif (high < 1.0 and slope.value < WRONG_SLOPE) or (low > 1.0 and slope.value > 1.0 / WRONG_SLOPE):
        decision = Decision.REFUSE
    else:
        decision = Decision.CANNOT_DECIDE
    sentence = (
        f"{endpoint}: calibration slope {slope.value:.2f} ({low:.2f} to {high:.2f}; within {LEAST_SLOPE:g} to"
        f" {1 / LEAST_SLOPE:.2f})"
    )
    yield Finding(
        check=check,
        endpoint=endpoint,
        decision=decision,
        sentence=sentence,
        value=slope.value,
        low=low,
        high=high,
    )
    if locked.running is not None:
        change = _compare_calibration(endpoint, locked, slope)
        if change is not None:
            yield change


def _compare_calibration(endpoint: Endpoint, locked: LockedRows, slope: Slope) -> Finding | None:
    """Worse when |log slope| exceeds the running model's by more than the tolerance, beyond its error.

    Both slopes are fitted on the same patients, so their errors go together as their log hazards do (correlation r): by the
    delta method the variance of log(slope / other) is a^2 + b^2 - 2 r a b with the relative errors a and b.
    """
    if locked.running is None:
        return None
    served = calibration_slope(locked.running, locked.outcome)
    if served is None or served.value <= 0.0 or slope.value <= 0.0:
        return None
    correlation = float(np.corrcoef(locked.candidate, locked.running)[0, 1])
    own, other = (_error(one) / one.value for one in (slope, served))
    error = math.sqrt(max(own**2 + other**2 - 2.0 * correlation * own * other, 0.0))
    worse = abs(math.log(slope.value)) - abs(math.log(served.value))
    low, high = worse - _Z * error, worse + _Z * error
    decision = Decision.REFUSE if low > SLOPE_TOLERANCE else Decision.RELEASE
    return Finding(
        check=Check.CALIBRATION_CHANGE,
        endpoint=endpoint,
        decision=decision,
        sentence=(
            f"{endpoint}: |log slope| is {worse:+.2f} ({low:+.2f} to {high:+.2f}) against the running model's slope"
            f" {served.value:.2f} (tolerance {SLOPE_TOLERANCE:g})"
        ),
        value=worse,
        low=low,
        high=high,
    )


def _judge_centres(endpoint: Endpoint, locked: LockedRows, margin: float) -> Iterator[Finding]:
    """Harm in one centre: worse C, or a slope below the least, beyond bounds that are shared among the centres."""
    centres = np.asarray(locked.centres, dtype=np.str_)
    masks = {
        str(name): centres == name
        for name in np.unique(centres)
        if name
        and (centres == name).sum() >= FEWEST_IN_CENTRE
        and locked.outcome.event[centres == name].sum() >= FEWEST_EVENTS_IN_CENTRE
    }
    if len(masks) < 2:
        return
    level = ONE_SIDED / len(masks)
    for name, mask in masks.items():
        outcome, candidate = locked.outcome.take(mask), locked.candidate[mask]
        slope = calibration_slope(candidate, outcome)
        if slope is not None:
            low, high = _bounds(slope, level)
            yield Finding(
                check=Check.CENTRE_CALIBRATION,
                endpoint=endpoint,
                decision=Decision.REFUSE if high < LEAST_SLOPE else Decision.RELEASE,
                sentence=f"{endpoint} in centre {name}: calibration slope {slope.value:.2f} ({low:.2f} to {high:.2f})",
                value=slope.value,
                low=low,
                high=high,
                group=name,
            )
        if locked.running is None:
            continue
        compared = _difference(candidate, locked.running[mask], outcome, 1.0 - 2.0 * level)
        if compared is None:
            continue
        value, low, high, _ = compared
        yield Finding(
            check=Check.CENTRE_DISCRIMINATION,
            endpoint=endpoint,
            decision=Decision.REFUSE if high < 0.0 and value < -margin else Decision.RELEASE,
            sentence=(
                f"{endpoint} in centre {name} ({outcome.n} cases): difference of C {value:+.3f} ({low:+.3f} to {high:+.3f})"
            ),
            value=value,
            low=low,
            high=high,
            group=name,
        )


def _difference(
    first: FloatArray, second: FloatArray, outcome: Outcome, confidence: float
) -> tuple[float, float, float, float] | None:
    """Difference of C, its bounds and its standard error by the paired bootstrap; None where it cannot be had."""
    try:
        value = harrell_c(first, outcome) - harrell_c(second, outcome)
    except SurvivalRefused:
        return None
    draws = bootstrap_concordance(
        np.stack([first, second]), outcome, draw_resamples(outcome.n, _REPEATS, _SEED)
    )
    compared = compare_paired(value, draws[:, 0], draws[:, 1], confidence)
    if compared is None:
        return None
    error = float(np.nanstd(draws[:, 0] - draws[:, 1], ddof=1))
    return value, compared.low, compared.high, error


def _bounds(slope: Slope, level: float) -> tuple[float, float]:
    """One-sided bounds at ``level`` of a slope."""
    reach = float(special.ndtri(1.0 - level)) * _error(slope)
    return slope.value - reach, slope.value + reach


def _error(slope: Slope) -> float:
    """Standard error of a slope, from its 95 % interval."""
    return (slope.high - slope.low) / (2.0 * float(special.ndtri(0.975)))


def _power(error: float, margin: float) -> float:
    if error <= 0.0:
        return 1.0
    return float(special.ndtr(margin / error - _Z))


_Z = float(special.ndtri(1.0 - ONE_SIDED))
