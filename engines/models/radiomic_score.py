"""The Radiomic score of one patient: the released model's log hazard of features that were measured as it was fitted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engines.models.comparator import Comparator, feature_column

if TYPE_CHECKING:
    from engines.radiomics.feature_file import FeatureLine

MOST_NAMED = 3
"""Features that a reason names; all are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedFeature:
    """One feature that entered the score: its name as ``feature_column`` writes it, and its value, unrounded."""

    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RadiomicScore:
    """What the Radiomic model says of one patient, or why it says nothing.

    Attributes:
        log_hazard: relative to the training mean; None when it could not be computed.
        features: what entered it, in the model's order; empty without a score.
        reason: why there is none; "" with a score.
    """

    log_hazard: float | None
    features: tuple[UsedFeature, ...] = ()
    reason: str = ""


def score_features(comparator: Comparator | None, lines: "Sequence[FeatureLine] | None") -> RadiomicScore:
    """Returns the Radiomic score of a patient's features; nothing is imputed, and other measurements are refused.

    Args:
        comparator: the released Radiomic model of one endpoint; None where the model has none.
        lines: every feature of the patient; None when none was extracted.
    """
    if comparator is None or comparator.origin is None:
        what = "no Radiomic model" if comparator is None else "no word on how its features were measured"
        return RadiomicScore(
            log_hazard=None, reason=f"the model folder holds {what}; fit and release it again"
        )
    if lines is None:
        return RadiomicScore(log_hazard=None, reason="no features were extracted")
    needed = set(comparator.cox.names)
    given = {
        name: line
        for line in lines
        if (name := feature_column(line.region, line.phase, line.feature)) in needed
    }
    others = {line.measured for line in given.values()} - {comparator.origin}
    if others:
        return RadiomicScore(
            log_hazard=None,
            reason=f"features come from {min(one.text() for one in others)}, those of the model from"
            f" {comparator.origin.text()}",
        )
    absent = [
        name for name in comparator.cox.names if name not in given or not np.isfinite(given[name].value)
    ]
    if absent:
        shown = ", ".join(absent[:MOST_NAMED]) + (" ..." if len(absent) > MOST_NAMED else "")
        return RadiomicScore(
            log_hazard=None, reason=f"{len(absent)} of {len(needed)} features could not be measured: {shown}"
        )
    values = {name: line.value for name, line in given.items()}
    return RadiomicScore(
        log_hazard=comparator.log_hazard(values),
        features=tuple(UsedFeature(name=name, value=values[name]) for name in comparator.cox.names),
    )
