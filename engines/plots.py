"""Arrays to figures: survival curves, contributions, contours over slices. Used by the PDF and by the evaluation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurvivalCurve:
    """Survival over time.

    Attributes:
        months: shape (n,), ascending, >= 0.
        probability: shape (n,), 0 to 1.
        low: lower bound, shape (n,), or None.
        high: upper bound, shape (n,), or None.
    """

    months: npt.NDArray[np.floating[Any]]
    probability: npt.NDArray[np.floating[Any]]
    low: npt.NDArray[np.floating[Any]] | None = None
    high: npt.NDArray[np.floating[Any]] | None = None
