"""What is recorded of each epoch, and the rule by which an epoch's weights are chosen."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from train.recipes import SMOOTHING_EPOCHS


class Selection(StrEnum):
    """For which endpoint a checkpoint is the best; ``COMBINED`` is the mean of both, one set of weights for a study."""

    OS = "os"
    PFS = "pfs"
    COMBINED = "combined"


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch in numbers.

    Attributes:
        epoch: from 0.
        losses: mean of each task over the steps it took part in, unweighted.
        log_variances: the learned task weights.
        c_index: validation C of ``os``, ``pfs``; empty while only reconstruction is learned.
        validation_loss: OS plus PFS Cox loss on the validation cases; None while only reconstruction is learned.
        learning_rate: of this epoch.
        seconds: wall time of the epoch.
        data_wait: share of that time in which a step waited for data.
        remaining_seconds: estimate for the epochs left.
    """

    epoch: int
    losses: dict[str, float]
    log_variances: dict[str, float]
    c_index: dict[str, float]
    validation_loss: float | None
    learning_rate: float
    seconds: float
    data_wait: float
    remaining_seconds: float

    def c_of(self, selection: Selection) -> float:
        """Returns the validation C that a selection looks at."""
        if selection is Selection.COMBINED:
            return (self.c_index["os"] + self.c_index["pfs"]) / 2
        return self.c_index[selection.value]


def smoothed_c(history: Sequence[EpochRecord], selection: Selection, first_epoch: int) -> float | None:
    """Returns the lower of the last epoch's C and the mean C of the last five, or None when they are not all eligible.

    The mean guards against a lucky epoch, the epoch's own C against one that collapsed while its neighbours were good.

    Args:
        history: all epochs so far.
        selection: which C.
        first_epoch: epochs before it (warm-up, reconstruction) do not count.

    Source: validity, "Noise": the best single epoch of 200 on 130 cases is about .03 optimistic;
    the lower of the two is OURS.
    """
    last = history[-SMOOTHING_EPOCHS:]
    if (
        len(last) < SMOOTHING_EPOCHS
        or last[0].epoch < first_epoch
        or not all(record.c_index for record in last)
    ):
        return None
    values = [record.c_of(selection) for record in last]
    return min(values[-1], float(np.mean(values)))
