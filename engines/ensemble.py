"""Ensemble-DL: the networks' log-risks, standardised, through the survival forest of one endpoint."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.endpoint import Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.forest import Forest

DISPLAY_SCALE = 100.0
"""Mortality is shown divided by this (method, section 5); the number depends on the training cohort."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ensemble:
    """Ensemble-DL of one endpoint.

    Attributes:
        networks: names in the order of the columns.
        mean: (networks,), mean log-risk of the training rows of each network.
        sd: (networks,), their standard deviation, > 0.
        forest: fitted on the standardised log-risks.

    Raises:
        ModelRefused: the parts do not fit together.
    """

    endpoint: Endpoint
    networks: tuple[str, ...]
    mean: npt.NDArray[np.float64]
    sd: npt.NDArray[np.float64]
    forest: Forest

    def __post_init__(self) -> None:
        count = len(self.networks)
        if self.mean.shape != (count,) or self.sd.shape != (count,) or self.forest.features != count:
            raise ModelRefused(
                f"Ensemble-DL {self.endpoint}: {count} networks, mean {self.mean.shape}, sd {self.sd.shape},"
                f" forest of {self.forest.features} inputs"
            )
        if not np.isfinite(self.mean).all() or not (np.isfinite(self.sd) & (self.sd > 0)).all():
            raise ModelRefused(f"Ensemble-DL {self.endpoint}: mean and sd must be finite and sd above 0")

    def standardise(self, log_risks: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Returns log-risks (n, networks) less the training mean, divided by the training standard deviation.

        Raises:
            InvalidInput: another number of columns, or a value that is not finite.
        """
        rows = np.asarray(log_risks, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.networks):
            raise InvalidInput(f"log-risks of shape {rows.shape}, expected (rows, {len(self.networks)})")
        if not np.isfinite(rows).all():
            raise InvalidInput(f"a network's {self.endpoint} log-risk is not a finite number")
        standardised: npt.NDArray[np.float64] = (rows - self.mean) / self.sd
        return standardised

    def mortalities(self, log_risks: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Returns the forest's mortality (expected events in the training cohort), shape (n,).

        Args:
            log_risks: (n, networks), raw outputs of the networks' head for this endpoint.
        """
        return self.forest.mortalities(self.standardise(log_risks))

    def scores(self, log_risks: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Returns log(mortality / number of event times), shape (n,): what feeds the Cox models.

        Args:
            log_risks: (n, networks), raw outputs of the networks' head for this endpoint.

        Source: method, section 5: mortality grows with the cohort, its mean per event time does not.
        """
        return score_of_mortality(self.mortalities(log_risks), self.forest.event_times)


def score_of_mortality(mortality: npt.NDArray[np.float64], event_times: int) -> npt.NDArray[np.float64]:
    """Returns log(mortality / event times).

    Args:
        mortality: (n,), >= 0.
        event_times: distinct event times of the forest's training cohort, >= 1.

    Raises:
        InvalidInput: a mortality of 0 (every leaf without an event): its logarithm is no score.
    """
    if not (mortality > 0).all():
        raise InvalidInput(
            "Ensemble-DL: a mortality of 0 has no logarithm; the forest's leaves hold no event"
        )
    score: npt.NDArray[np.float64] = np.log(mortality / event_times)
    return score
