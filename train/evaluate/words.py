"""Numbers as the tables print them: estimates with intervals, p values, hazard ratios."""

from collections.abc import Mapping

from engines.survival.cox import HazardRatio
from engines.survival.kaplan_meier import Quantile

NOT_ESTIMABLE = "not estimable"

LANDMARK_TITLE = "All models on the landmark subset of mRECIST"

SEE_LANDMARK = (
    "mRECIST for PFS counts from the first follow-up CT; from the first dose the months before that CT would be survived by"
    f" definition. It is measured in the table '{LANDMARK_TITLE}' alone"
)
"""Why no other table measures it: immortal time. Source: method, section 7."""

CHOSEN_EPOCHS = "Chosen epochs (the first is 1)"
"""Heads what ``epochs_text`` gives. The files of a run (summary.json, history.csv) count from 0."""


def estimate_text(value: float | None, low: float | None, high: float | None, digits: int = 2) -> str:
    """Returns ``0.72 (0.66-0.78)``, ``0.02 (-0.01 to 0.05)``, the value alone without bounds, or ``not estimable``."""
    if value is None:
        return NOT_ESTIMABLE
    if low is None or high is None:
        return f"{value:.{digits}f}"
    to = " to " if low < 0 else "-"
    return f"{value:.{digits}f} ({low:.{digits}f}{to}{high:.{digits}f})"


def ratio_text(ratio: HazardRatio) -> str:
    """Returns ``2.13 (1.72-2.66)``."""
    return estimate_text(ratio.hazard_ratio, ratio.low, ratio.high)


def p_text(value: float | None) -> str:
    """Returns ``<0.001`` or three decimals, and an empty text for an unknown p."""
    if value is None:
        return ""
    return "<0.001" if value < _SMALLEST_P else f"{value:.3f}"


def median_text(median: Quantile) -> str:
    """Returns ``14.2 (11.0-not reached)`` in months."""
    bounds = tuple("not reached" if value is None else f"{value:.1f}" for value in (median.low, median.high))
    if median.time is None:
        return f"not reached ({bounds[0]}-{bounds[1]})" if median.low is not None else "not reached"
    return f"{median.time:.1f} ({bounds[0]}-{bounds[1]})"


def percent_text(part: int, whole: int) -> str:
    """Returns ``12 (34%)``."""
    return f"{part} ({part / whole:.0%})" if whole else str(part)


def epochs_text(chosen: Mapping[str, int]) -> str:
    """Returns chosen epochs as people count them, from 1: ``os 5, pfs 6, combined 6``.

    Args:
        chosen: selection -> epoch, from 0.
    """
    return ", ".join(f"{selection} {epoch + 1}" for selection, epoch in chosen.items())


_SMALLEST_P = 0.001
