"""What trained networks say of cases, and how good that is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata

from engines.networks.heads import LABELS, RiskNetwork, age_years
from engines.survival.concordance import harrell_c
from train.data import FloatArray, IntArray, TrainingData
from train.prefetch import prefetch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Outputs of a network for n cases.

    Attributes:
        os: (n,) log-risk of death.
        pfs: (n,) log-risk of progression or death.
        age_years: (n,) estimated age.
        labels: (n, 9) logits.
    """

    os: FloatArray
    pfs: FloatArray
    age_years: FloatArray
    labels: FloatArray

    def endpoint(self, word: str) -> FloatArray:
        """Returns the log-risk of ``os`` or ``pfs``."""
        return self.os if word == "os" else self.pfs


@dataclass(frozen=True, slots=True, kw_only=True)
class AuxiliaryQuality:
    """How well the auxiliary heads do: mean absolute error of the age in years, area under the ROC curve of each label.

    None where no case, or only one class, is known.
    """

    age_error_years: float | None
    label_auc: dict[str, float | None]


def score_cases(
    network: RiskNetwork, inputs: npt.NDArray[np.float16], rows: IntArray, batch_size: int = 16
) -> Scores:
    """Returns what a network says of some rows, in evaluation mode; the network's mode is put back.

    Args:
        network: on any device.
        inputs: (n, phases, side, side, side) float16, array or memory map.
        rows: which rows, in this order.
        batch_size: cases at once.
    """
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    parts: list[torch.Tensor] = []
    with torch.inference_mode():
        batches = [rows[start : start + batch_size] for start in range(0, rows.size, batch_size)]
        for _rows, batch, _seconds in prefetch(inputs, batches, pinned=device.type == "cuda"):
            output = network(batch.to(device).float())
            columns = [
                output.os_log_risk,
                output.pfs_log_risk,
                age_years(output.age),
                *output.labels.unbind(1),
            ]
            parts.append(torch.stack(columns, dim=1).double().cpu())
    network.train(training)
    table = torch.cat(parts).numpy() if parts else np.empty((0, 3 + len(LABELS)))
    return Scores(os=table[:, 0], pfs=table[:, 1], age_years=table[:, 2], labels=table[:, 3:])


def measure_c(scores: Scores, data: TrainingData, rows: IntArray) -> dict[str, float]:
    """Returns Harrell's C of OS and PFS on the rows that the scores belong to, among those with known follow-up."""
    place = {int(row): index for index, row in enumerate(rows)}
    concordance: dict[str, float] = {}
    for endpoint in ("os", "pfs"):
        outcome, known = data.outcome(endpoint, rows)
        concordance[endpoint] = harrell_c(
            scores.endpoint(endpoint)[[place[int(row)] for row in known]], outcome
        )
    return concordance


def measure_auxiliary(scores: Scores, data: TrainingData, rows: IntArray) -> AuxiliaryQuality:
    """Returns the performance of the age and label heads on the rows that the scores belong to."""
    ages = data.age_years[rows]
    known = np.isfinite(ages)
    error = float(np.abs(scores.age_years[known] - ages[known]).mean()) if known.any() else None
    areas: dict[str, float | None] = {}
    for index, label in enumerate(LABELS):
        truth = data.labels[rows, index]
        there = np.isfinite(truth)
        areas[label] = _area(scores.labels[there, index], truth[there] > 0)
    return AuxiliaryQuality(age_error_years=error, label_auc=areas)


def _area(score: FloatArray, positive: npt.NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve by the rank sum (Hanley & McNeil 1982); None with one class."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if positives == 0 or negatives == 0:
        return None
    ranks = rankdata(score)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))
