"""The models beside MMF that rest on one table of numbers: Radiomic on features, mRECIST on the response. Released with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from engines.endpoint import Endpoint
from engines.errors import ModelRefused
from engines.phase import ASSESSED_PHASES, Phase
from engines.radiomics.origin import FeatureOrigin
from engines.survival.cox import CoxFit, log_hazard

NON_RESPONDER = "non_responder"
"""The one input of mRECIST: 1 for SD and PD at the first follow-up CT, 0 for CR and PR."""

REGIONS = ("liver", "tumour")
"""Regions whose features may be inputs of the Radiomic model. Source: method, section 7."""


class ComparatorName(StrEnum):
    """The comparators, as the reports name them.

    ``mRECIST`` for PFS starts at the first follow-up CT of patients free of progression there; ``mRECIST (no landmark)``
    starts at the first dose as in the paper, where progression at that CT is the event itself (method, section 7).
    """

    RADIOMIC = "Radiomic"
    MRECIST = "mRECIST"
    MRECIST_FROM_START = "mRECIST (no landmark)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparator:
    """A fitted Cox model of features or of the response.

    Attributes:
        cox: inputs by the name of ``feature_column``, or ``NON_RESPONDER``.
        cutoff: log hazard; above it the group is high. From out-of-fold discovery scores alone.
        cutoff_rule: how it was found, in words.
        origin: how the features of Radiomic were measured; None where the folder does not say (and for mRECIST).

    Raises:
        ModelRefused: the cut-off is not finite, or inputs that do not fit the name.
    """

    name: ComparatorName
    endpoint: Endpoint
    cox: CoxFit
    cutoff: float
    cutoff_rule: str
    origin: FeatureOrigin | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.cutoff):
            raise ModelRefused(f"{self.name} {self.endpoint}: the cut-off is {self.cutoff}")
        if (self.cox.names == (NON_RESPONDER,)) == (self.name == ComparatorName.RADIOMIC):
            raise ModelRefused(f"{self.name} {self.endpoint} has the inputs {', '.join(self.cox.names)}")
        if self.name == ComparatorName.RADIOMIC:
            for column in self.cox.names:
                read_feature_column(column)
        elif self.origin is not None:
            raise ModelRefused(
                f"{self.name} {self.endpoint} takes no features, but says how they were measured"
            )

    def log_hazard(self, values: Mapping[str, float]) -> float | None:
        """Returns the log hazard of one patient; None where an input is missing or not finite: nothing is imputed."""
        row = [values.get(name, float("nan")) for name in self.cox.names]
        if not np.isfinite(row).all():
            return None
        return float(log_hazard(self.cox, row)[0])


def feature_column(region: str, phase: Phase | None, feature: str) -> str:
    """Returns the name of a radiomic feature as an input, e.g. ``tumour ARTERIAL original_glszm_ZoneEntropy``.

    Args:
        region: ``liver`` or ``tumour``.
        phase: None for shape.
        feature: pyradiomics' name.
    """
    return " ".join(word for word in (region, phase.value if phase is not None else "", feature) if word)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePlace:
    """What a column of features measures: a region, in a phase (None for shape), by pyradiomics' name."""

    region: str
    phase: Phase | None
    feature: str


def read_feature_column(column: str) -> FeaturePlace:
    """Returns what a name of ``feature_column`` stands for.

    Raises:
        ModelRefused: it is no such name, or of a region or phase that the method does not measure.
    """
    region, *middle = column.split(" ")
    feature = middle.pop() if middle else ""
    phases = {phase.value: phase for phase in ASSESSED_PHASES}
    if region not in REGIONS or not feature or len(middle) > 1 or any(word not in phases for word in middle):
        raise ModelRefused(
            f"'{column}' is no radiomic feature: REGION [PHASE] FEATURE with {' or '.join(REGIONS)} and"
            f" {', '.join(phases)} expected"
        )
    return FeaturePlace(region=region, phase=phases[middle[0]] if middle else None, feature=feature)
