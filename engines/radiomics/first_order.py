"""The 18 first-order features: the distribution of the grey values inside a region."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.radiomics.cooccurrence import EPSILON
from engines.radiomics.discretisation import Levels

FloatVector = npt.NDArray[np.float64]


def measure_first_order(
    voxels: npt.NDArray[Any], levels: Levels, *, voxel_volume_mm3: float, shift: float = 0.0
) -> Mapping[str, float]:
    """Returns the first-order features under pyradiomics' names.

    Args:
        voxels: values inside the region, shape (voxels,), in (z, y, x) order, finite. Integers are counted by value
            first, which makes every sum exact.
        levels: the discretised values, for entropy and uniformity.
        voxel_volume_mm3: volume of a voxel, mm^3.
        shift: added to the values in energies (pyradiomics' ``voxelArrayShift``).

    Source: pyradiomics 3.0.1, firstorder.py; IBSI 1 reference manual 3.3 and 3.4.
    """
    values, weights = _count_values(voxels)
    number = voxels.size
    tenth, quarter, median, three_quarters, ninetieth = _find_percentiles(
        values, weights, (10.0, 25.0, 50.0, 75.0, 90.0)
    )
    mean = _mean(values, weights)
    second = _mean((values - mean) ** 2, weights)
    third = _mean((values - mean) ** 3, weights)
    fourth = _mean((values - mean) ** 4, weights)
    robust = (values >= tenth) & (values <= ninetieth)
    robust_values = values[robust]
    robust_weights = None if weights is None else weights[robust]
    energy = _mean((values + shift) ** 2, weights) * number
    p = levels.counts / number
    return {
        "10Percentile": tenth,
        "90Percentile": ninetieth,
        "Energy": energy,
        "Entropy": float(-(p * np.log2(p + EPSILON)).sum()),
        "InterquartileRange": three_quarters - quarter,
        "Kurtosis": fourth / second**2 if second != 0 else fourth,
        "Maximum": float(values.max()),
        "MeanAbsoluteDeviation": _mean(np.abs(values - mean), weights),
        "Mean": mean,
        "Median": median,
        "Minimum": float(values.min()),
        "Range": float(values.max() - values.min()),
        "RobustMeanAbsoluteDeviation": _mean(
            np.abs(robust_values - _mean(robust_values, robust_weights)), robust_weights
        ),
        "RootMeanSquared": float(np.sqrt(energy / number)),
        "Skewness": third / second**1.5 if second != 0 else third,
        "TotalEnergy": energy * voxel_volume_mm3,
        "Uniformity": float((p**2).sum()),
        "Variance": second,
    }


def _count_values(voxels: npt.NDArray[Any]) -> tuple[FloatVector, FloatVector | None]:
    """Returns distinct integers with their counts; other values as they are, without counts."""
    if voxels.dtype.kind not in "iu" or int(voxels.max()) - int(voxels.min()) >= 2**16:
        return voxels.astype(np.float64), None
    lowest = int(voxels.min())
    counts = np.bincount(voxels.astype(np.int64) - lowest)
    present = np.flatnonzero(counts)
    return (present + lowest).astype(np.float64), counts[present].astype(np.float64)


def _mean(values: FloatVector, weights: FloatVector | None) -> float:
    """Returns the mean; NaN of nothing, as of two voxels both of which lie beyond the 10th and 90th percentile."""
    if values.size == 0:
        return float("nan")
    if weights is None:
        return float(values.sum() / values.size)
    return float((values * weights).sum() / weights.sum())


def _find_percentiles(
    values: FloatVector, weights: FloatVector | None, percentages: tuple[float, ...]
) -> list[float]:
    """Returns percentiles by linear interpolation between order statistics, as NumPy's default does."""
    if weights is None:
        return [float(value) for value in np.percentile(values, percentages)]
    upto = np.cumsum(weights)
    found = []
    for percentage in percentages:
        position = percentage / 100.0 * (upto[-1] - 1)
        lower = float(values[np.searchsorted(upto, np.floor(position), side="right")])
        upper = float(values[np.searchsorted(upto, np.ceil(position), side="right")])
        found.append(lower + (upper - lower) * float(position - np.floor(position)))
    return found
