"""The models beside MMF that rest on one table of numbers: Radiomic on features, mRECIST on the response. Released with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from engines.endpoint import Endpoint
from engines.errors import ModelRefused
from engines.phase import Phase
from engines.survival.cox import CoxFit, log_hazard

NON_RESPONDER = "non_responder"
"""The one input of mRECIST: 1 for SD and PD at the first follow-up CT, 0 for CR and PR."""


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

    Raises:
        ModelRefused: the cut-off is not finite, or inputs that do not fit the name.
    """

    name: ComparatorName
    endpoint: Endpoint
    cox: CoxFit
    cutoff: float
    cutoff_rule: str

    def __post_init__(self) -> None:
        if not np.isfinite(self.cutoff):
            raise ModelRefused(f"{self.name} {self.endpoint}: the cut-off is {self.cutoff}")
        if (self.cox.names == (NON_RESPONDER,)) == (self.name == ComparatorName.RADIOMIC):
            raise ModelRefused(f"{self.name} {self.endpoint} has the inputs {', '.join(self.cox.names)}")

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
