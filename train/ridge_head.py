"""Gives an autoencoder that never saw an outcome its risk heads: ridge Cox regression on its features."""

import numpy as np
import torch

from engines.networks.heads import RiskNetwork
from engines.survival.cox import fit_cox
from train.data import FloatArray, IntArray, TrainingData

RIDGE = 10.0
"""Penalty on the standardised features: 256 of them stand against a few hundred events (OURS)."""
SMALLEST_SPREAD = 1e-6


def fit_ridge_heads(network: RiskNetwork, data: TrainingData, rows: IntArray, ridge: float = RIDGE) -> None:
    """Sets the OS and PFS heads to the coefficients of ridge Cox regressions on the network's features.

    Args:
        network: whose features are a linear predictor's inputs.
        data: the cohort.
        rows: training rows; those without follow-up of an endpoint do not take part in it.
        ridge: penalty ridge / 2 * sum(variance_j * coefficient_j^2).
    """
    features = extract_features(network, data, rows)
    place = {int(row): index for index, row in enumerate(rows)}
    for endpoint, head in (("os", network.heads.os), ("pfs", network.heads.pfs)):
        outcome, known = data.outcome(endpoint, rows)
        values = features[[place[int(row)] for row in known]]
        mean, spread = values.mean(axis=0), values.std(axis=0)
        alive = spread > SMALLEST_SPREAD
        scaled = (values[:, alive] - mean[alive]) / spread[alive]
        fit = fit_cox(scaled, outcome, ridge=ridge)
        slope = np.zeros(values.shape[1])
        slope[alive] = fit.coefficients / spread[alive]
        offset = -float(slope @ mean) - float(fit.coefficients @ fit.means)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(slope).to(head.weight).view(1, -1))
            head.bias.fill_(offset)


def extract_features(
    network: RiskNetwork, data: TrainingData, rows: IntArray, batch_size: int = 16
) -> FloatArray:
    """Returns the feature vectors (n, f) of some rows, in evaluation mode."""
    device = next(network.parameters()).device
    training = network.training
    network.eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, rows.size, batch_size):
            batch = np.asarray(data.inputs[rows[start : start + batch_size]], dtype=np.float32)
            parts.append(network.extract(torch.from_numpy(batch).to(device)).double().cpu())
    network.train(training)
    features: FloatArray = torch.cat(parts).numpy()
    return features
