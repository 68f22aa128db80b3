"""The rule by which ``mmf-train fit`` draws the line between low and high, and the words that tell it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from engines.errors import InvalidInput
from engines.mmf import ModelName
from engines.survival.cutoff import median_cutoff, select_cutoff
from engines.survival.outcome import Outcome


class CutoffRule(StrEnum):
    """Where the line lies. Source: method, section 7."""

    MEDIAN = "median"
    MAXSTAT = "maxstat"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutoffChoice:
    """A rule; ``value`` is the line itself where it is fixed, on the scale of MMF's log hazard, and of MMF alone."""

    rule: CutoffRule = CutoffRule.MEDIAN
    value: float | None = None

    def of(self, model: str) -> "CutoffChoice":
        """Returns the rule for one model: a fixed line belongs to MMF, the others take their median."""
        return self if self.rule is not CutoffRule.FIXED or model == ModelName.MMF else MEDIAN


MEDIAN = CutoffChoice()


def parse_cutoff(text: str) -> CutoffChoice:
    """Returns the choice that a person wrote: ``median``, ``maxstat``, or a number.

    Raises:
        InvalidInput: something else.
    """
    word = text.strip().lower()
    if word in (CutoffRule.MEDIAN, CutoffRule.MAXSTAT):
        return CutoffChoice(rule=CutoffRule(word))
    try:
        value = float(word)
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise InvalidInput(f"cut-off '{text}': expected median, maxstat, or a log hazard as a number")
    return CutoffChoice(rule=CutoffRule.FIXED, value=value)


def choose_cutoff(
    choice: CutoffChoice, scores: npt.NDArray[np.float64], outcome: Outcome, rows: str
) -> tuple[float, str]:
    """Returns the cut-off and how it was found, in words.

    Args:
        choice: the rule.
        scores: (n,), of discovery rows alone, out-of-fold.
        outcome: of the same rows.
        rows: which rows these are, e.g. "out-of-fold, 5 folds, 650 patients".

    Raises:
        SurvivalRefused: maximally selected, and no event or too many equal scores.
    """
    if choice.rule is CutoffRule.FIXED and choice.value is not None:
        return choice.value, "fixed by hand"
    if choice.rule is CutoffRule.MAXSTAT:
        selected = select_cutoff(scores, outcome)
        p = selected.p_value
        return selected.cutoff, f"maximally selected log-rank statistic, corrected p {p:.2g} ({rows})"
    return median_cutoff(scores), f"median of the training cohort ({rows})"
