"""The 24 GLCM features: how often grey levels lie side by side."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from engines.radiomics.discretisation import Levels
from engines.radiomics.matrices import FloatArray

EPSILON = float(np.spacing(1.0))
"""What pyradiomics adds inside logarithms and divisors (glcm.py, ``eps``)."""

MANY_LEVELS = 64
"""Above so many grey levels the maximal correlation is computed from a symmetrical matrix (OURS)."""


def measure_cooccurrence(pairs: FloatArray, levels: Levels) -> Mapping[str, float]:
    """Returns the GLCM features under pyradiomics' names, each the mean over the directions that hold a pair.

    Args:
        pairs: symmetrical counts, shape (G, G, A); see ``count_lines``.
        levels: the grey levels of rows and columns.

    Source: pyradiomics 3.0.1, glcm.py; IBSI 1 reference manual 3.6.
    """
    totals = pairs.sum((0, 1))
    held = totals > 0
    P = np.ascontiguousarray(pairs[:, :, held]) / totals[held]
    if not held.any() and sum(size > 3 for size in levels.ranks.shape) == 1:
        # A line of voxels that do not touch: pyradiomics keeps its only direction, as not a number.
        P = np.full((*pairs.shape[:2], 1), np.nan)
    i = levels.values[:, None, None]
    j = levels.values[None, :, None]
    mean_i = (i * P).sum((0, 1))
    mean_j = (j * P).sum((0, 1))
    values = _measure_moments(P, i, j, mean_i, mean_j)
    values |= _measure_information(P)
    values |= _measure_differences(P, levels)
    values |= _measure_sums(P, levels)
    values["MCC"] = _measure_maximal_correlation(P)
    return values


def mean_of_directions(values: npt.NDArray[np.float64]) -> float:
    """Returns the mean of the directions whose value is a number; NaN when none is."""
    numbers = ~np.isnan(values)
    if not numbers.any():
        return float("nan")
    return float(np.where(numbers, values, 0.0).sum() / np.count_nonzero(numbers))


def _measure_moments(
    P: FloatArray, i: FloatArray, j: FloatArray, mean_i: FloatArray, mean_j: FloatArray
) -> dict[str, float]:
    from_mean = i + j - mean_i - mean_j
    spread_i = (P * (i - mean_i) ** 2).sum((0, 1)) ** 0.5
    spread_j = (P * (j - mean_j) ** 2).sum((0, 1)) ** 0.5
    product = spread_i * spread_j
    correlation = (P * (i - mean_i) * (j - mean_j)).sum((0, 1)) / (product + EPSILON)
    correlation[product == 0] = 1.0
    return {
        "Autocorrelation": mean_of_directions((P * (i * j)).sum((0, 1))),
        "ClusterProminence": mean_of_directions((P * from_mean**4).sum((0, 1))),
        "ClusterShade": mean_of_directions((P * from_mean**3).sum((0, 1))),
        "ClusterTendency": mean_of_directions((P * from_mean**2).sum((0, 1))),
        "Contrast": mean_of_directions((P * np.abs(i - j) ** 2).sum((0, 1))),
        "Correlation": mean_of_directions(correlation),
        "JointAverage": mean_of_directions(mean_i),
        "JointEnergy": mean_of_directions((P**2).sum((0, 1))),
        "MaximumProbability": mean_of_directions(P.max((0, 1))),
        "SumSquares": mean_of_directions((P * (i - mean_i) ** 2).sum((0, 1))),
    }


def _measure_information(P: FloatArray) -> dict[str, float]:
    px = P.sum(1, keepdims=True)
    py = P.sum(0, keepdims=True)
    joint = -(P * np.log2(P + EPSILON)).sum((0, 1))
    entropy_x = -(px * np.log2(px + EPSILON)).sum((0, 1))
    entropy_y = -(py * np.log2(py + EPSILON)).sum((0, 1))
    logarithm = np.log2(px * py + EPSILON)
    crossed = -(P * logarithm).sum((0, 1))
    independent = -((px * py) * logarithm).sum((0, 1))

    larger = np.fmax(entropy_x, entropy_y)
    first = joint - crossed
    divisible = larger != 0
    first[divisible] /= larger[divisible]
    first[~divisible] = 0.0
    # Rounding can make the joint entropy the larger one; pyradiomics' root is then NaN and the direction left out.
    inner = 1.0 - np.e ** (-2.0 * (independent - joint))
    second = np.where(inner < 0, np.nan, np.abs(inner)) ** 0.5
    second[independent == joint] = 0.0
    return {
        "JointEntropy": mean_of_directions(joint),
        "Imc1": mean_of_directions(first),
        "Imc2": mean_of_directions(second),
    }


def _measure_differences(P: FloatArray, levels: Levels) -> dict[str, float]:
    apart = np.abs(levels.values[:, None] - levels.values[None, :]).astype(np.intp)
    p = _sum_along(P, apart, levels.highest)
    k = np.arange(levels.highest, dtype=np.float64)[:, None]
    average = (k * p).sum(0)
    return {
        "DifferenceAverage": mean_of_directions(average),
        "DifferenceEntropy": mean_of_directions(-(p * np.log2(p + EPSILON)).sum(0)),
        "DifferenceVariance": mean_of_directions((p * (k - average) ** 2).sum(0)),
        "Id": mean_of_directions((p / (1 + k)).sum(0)),
        "Idm": mean_of_directions((p / (1 + k**2)).sum(0)),
        "Idmn": mean_of_directions((p / (1 + k**2 / levels.highest**2)).sum(0)),
        "Idn": mean_of_directions((p / (1 + k / levels.highest)).sum(0)),
        "InverseVariance": mean_of_directions((p[1:] / k[1:] ** 2).sum(0)),
    }


def _measure_sums(P: FloatArray, levels: Levels) -> dict[str, float]:
    together = (levels.values[:, None] + levels.values[None, :]).astype(np.intp) - 2
    p = _sum_along(P, together, 2 * levels.highest - 1)
    k = np.arange(2, 2 * levels.highest + 1, dtype=np.float64)[:, None]
    return {
        "SumAverage": mean_of_directions((k * p).sum(0)),
        "SumEntropy": mean_of_directions(-(p * np.log2(p + EPSILON)).sum(0)),
    }


def _measure_maximal_correlation(P: FloatArray) -> float:
    """Returns the mean root of the second largest eigenvalue of Q; 1 for a flat region.

    With few levels Q is summed and decomposed as in pyradiomics 3.0.1, glcm.py getMCCFeatureValue, without using its
    symmetry: where the second eigenvalue is zero, the sign of its rounding decides between a number and NaN there.
    """
    number, _, directions = P.shape
    if np.isnan(P).any():
        return float("nan")
    if number < 2:
        return 1.0
    if directions == 0:
        return float("nan")
    px = P.sum(1)
    py = P.sum(0)
    if number > MANY_LEVELS:
        # Q is similar to the square of a symmetrical matrix, whose eigenvalues take a fraction of the time.
        root = np.sqrt(px[:, None, :] * py[None, :, :])
        similar = np.divide(P, root, out=np.zeros_like(P), where=root > 0)
        singular = np.sort(np.abs(np.linalg.eigvalsh(similar.transpose(2, 0, 1))), axis=-1)
        return mean_of_directions(singular[:, -2])
    Q = np.zeros_like(P)
    for k in range(number):
        Q += (P[:, None, k, :] * P[None, :, k, :]) / (px[:, None, :] * py[None, None, k, :] + EPSILON)
    eigenvalues = np.sort(np.linalg.eigvals(Q.transpose(2, 0, 1)), axis=-1)
    second = eigenvalues[:, -2]
    if np.iscomplexobj(second):
        return mean_of_directions(np.sqrt(second).real)
    return mean_of_directions(np.where(second < 0, np.nan, np.abs(second)) ** 0.5)


def _sum_along(P: FloatArray, index: npt.NDArray[np.intp], size: int) -> FloatArray:
    """Returns the sums over the cells of one index, shape (size, A)."""
    directions = P.shape[2]
    cells = (index[:, :, None] * directions + np.arange(directions)).ravel()
    summed = np.bincount(cells, weights=P.ravel(), minlength=size * directions)
    return np.asarray(summed, dtype=np.float64).reshape(size, directions)
