"""How complete the follow-up of a cohort is, and whether knowing an outcome depends on it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.endpoint import Endpoint
from engines.errors import SurvivalRefused
from engines.survival.kaplan_meier import compare_groups, estimate_follow_up, survival_quantile
from engines.survival.outcome import Outcome
from node.cohort.outcomes import FollowUp

LEAST_COMPLETENESS = 0.7
"""Below this share of the potential person-time, survivors are missing from the follow-up: refused (OURS)."""
GOOD_COMPLETENESS = 0.85
"""Below this it is said aloud (OURS)."""
MOST_UNKNOWN = 0.2
"""Share of patients with time zero, but without outcome, above which the known ones are a selection: refused (OURS)."""
SMALLEST_P = 0.01
"""Of the log-rank test between early and late starters in the months that both could be followed (OURS)."""
FEWEST_IN_A_HALF = 20
"""Patients in each half, or the test is not made (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """One patient who could be followed.

    Attributes:
        potential_months: from the first dose to the cut, > 0.
        os: None = nothing is known.
    """

    potential_months: float
    os: FollowUp | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completeness:
    """Completeness of the follow-up of OS.

    Attributes:
        patients: who could be followed (their treatment began before the cut).
        known: with an outcome.
        events: deaths among them.
        share: observed over potential person-time; the potential of the dead ends with their death.
        median_follow_up_months: reverse Kaplan-Meier; None where it is not reached.
        early_late_p: of early against late starters over the same months; None where it cannot be tested.
        early_late_ratio: hazard ratio late against early starters, observed over expected; None likewise.
        refusals: why the outcomes must not be learned from, in sentences; empty = nothing was found.
        warnings: what a reader must know.
    """

    patients: int
    known: int
    events: int
    share: float
    median_follow_up_months: float | None
    early_late_p: float | None
    early_late_ratio: float | None
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]


def assess_completeness(patients: Sequence[Followed]) -> Completeness:
    """Returns how complete the follow-up is and what speaks against learning from it.

    Deaths are reported first and survivors late. Three signs of it are looked for: person-time that is missing, patients
    without any outcome, and late starters who seem to die faster than early ones did in the same months.

    Args:
        patients: everyone whose treatment began before the cut, known or not.

    Source: completeness, Clark et al., Lancet 2002;359:1309; reverse Kaplan-Meier, Schemper & Smith 1996.
    """
    known = [(one.potential_months, one.os) for one in patients if one.os is not None]
    if not known:
        return Completeness(
            patients=len(patients),
            known=0,
            events=0,
            share=0.0,
            median_follow_up_months=None,
            early_late_p=None,
            early_late_ratio=None,
            refusals=("no outcome is known",) if patients else (),
            warnings=(),
        )
    months = np.array([follow.months for _, follow in known])
    events = np.array([follow.event for _, follow in known])
    potential = np.array([longest for longest, _ in known])
    outcome = Outcome(months, events)
    share = float(months.sum() / np.where(events, months, np.maximum(potential, months)).sum())
    p_value, ratio = _compare_halves(potential, outcome)
    refusals, warnings = _judge(len(patients), len(known), share, p_value, ratio)
    return Completeness(
        patients=len(patients),
        known=len(known),
        events=outcome.events,
        share=share,
        median_follow_up_months=survival_quantile(estimate_follow_up(outcome)).time,
        early_late_p=p_value,
        early_late_ratio=ratio,
        refusals=tuple(refusals),
        warnings=tuple(warnings),
    )


def _judge(
    patients: int, known: int, share: float, p_value: float | None, ratio: float | None
) -> tuple[list[str], list[str]]:
    refusals: list[str] = []
    warnings: list[str] = []
    endpoint = Endpoint.OS.value
    unknown = 1.0 - known / patients
    if unknown > MOST_UNKNOWN:
        refusals.append(
            f"{endpoint} of {patients - known} of {patients} patients is not known ({unknown:.0%}, at most {MOST_UNKNOWN:.0%}):"
            " those known may be the ones who died"
        )
    elif known < patients:
        warnings.append(f"{endpoint} of {patients - known} of {patients} patients is not known")
    if share < LEAST_COMPLETENESS:
        refusals.append(
            f"completeness of follow-up is {share:.2f} (at least {LEAST_COMPLETENESS:g}): deaths are known up to the cut,"
            " survivors are not; ask for their last contact"
        )
    elif share < GOOD_COMPLETENESS:
        warnings.append(f"completeness of follow-up is {share:.2f}; above {GOOD_COMPLETENESS:g} is good")
    if p_value is not None and ratio is not None and p_value < SMALLEST_P:
        if ratio > 1.0:
            refusals.append(
                f"late starters die {ratio:.1f} times as fast as early starters did in the same months (log-rank P"
                f" {p_value:.2g}): knowing an outcome seems to depend on it"
            )
        else:
            warnings.append(
                f"late starters die {ratio:.1f} times as fast as early starters in the same months (P {p_value:.2g})"
            )
    return refusals, warnings


def _compare_halves(
    potential: np.ndarray[tuple[int, ...], np.dtype[np.float64]], outcome: Outcome
) -> tuple[float | None, float | None]:
    """Log-rank P and hazard ratio of late against early starters, both followed as long as the late could be."""
    middle = float(np.median(potential))
    late = potential <= middle
    if min(late.sum(), (~late).sum()) < FEWEST_IN_A_HALF:
        return None, None
    seen = np.minimum(outcome.time, middle)
    event = outcome.event & (outcome.time <= middle)
    try:
        test = compare_groups(Outcome(seen, event), ["late" if one else "early" for one in late])
    except SurvivalRefused:
        return None, None
    rates = {
        name: observed / expected
        for name, observed, expected in zip(test.groups, test.observed, test.expected, strict=True)
        if expected > 0
    }
    if not rates.get("early"):
        return test.p_value, None
    return test.p_value, rates["late"] / rates["early"]
