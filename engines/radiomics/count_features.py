"""Features of the matrices that count things by grey level and size: runs (GLRLM), zones (GLSZM), dependents (GLDM)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.radiomics.cooccurrence import EPSILON, mean_of_directions
from engines.radiomics.discretisation import Levels
from engines.radiomics.matrices import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """Counts by grey level and size in each direction, with what every feature needs of them.

    Attributes:
        counts: shape (G, S, A).
        level: grey levels, shape (G, 1).
        size: sizes, shape (S, 1).
        by_level: counts summed over sizes, shape (G, A).
        by_size: counts summed over grey levels, shape (S, A).
        total: all counts, shape (A,).
    """

    counts: FloatArray
    level: FloatArray
    size: FloatArray
    by_level: FloatArray
    by_size: FloatArray
    total: FloatArray


def measure_runs(runs: FloatArray, levels: Levels) -> Mapping[str, float]:
    """Returns the 16 GLRLM features under pyradiomics' names, each the mean over the directions that hold a run.

    Args:
        runs: counts by grey level, length and direction, shape (G, L, A); see ``count_lines``.
        levels: the grey levels.

    Source: pyradiomics 3.0.1, glrlm.py; IBSI 1 reference manual 3.7.
    """
    held = runs.sum((0, 1)) > 0
    occurring = np.flatnonzero(runs[:, :, held].any((0, 2)))
    tally = _tally(np.ascontiguousarray(runs[:, occurring][:, :, held]), levels, occurring + 1)
    voxels = (tally.by_size * tally.size).sum(0)
    emphases = _measure_emphases(tally)
    return {
        "GrayLevelNonUniformity": mean_of_directions((tally.by_level**2).sum(0) / tally.total),
        "GrayLevelNonUniformityNormalized": mean_of_directions((tally.by_level**2).sum(0) / tally.total**2),
        "GrayLevelVariance": _measure_variance(tally.by_level, tally.level, tally.total),
        "HighGrayLevelRunEmphasis": emphases["high"],
        "LongRunEmphasis": emphases["large"],
        "LongRunHighGrayLevelEmphasis": emphases["large high"],
        "LongRunLowGrayLevelEmphasis": emphases["large low"],
        "LowGrayLevelRunEmphasis": emphases["low"],
        "RunEntropy": _measure_entropy(tally),
        "RunLengthNonUniformity": mean_of_directions((tally.by_size**2).sum(0) / tally.total),
        "RunLengthNonUniformityNormalized": mean_of_directions((tally.by_size**2).sum(0) / tally.total**2),
        "RunPercentage": mean_of_directions(tally.total / voxels),
        "RunVariance": _measure_variance(tally.by_size, tally.size, tally.total),
        "ShortRunEmphasis": emphases["small"],
        "ShortRunHighGrayLevelEmphasis": emphases["small high"],
        "ShortRunLowGrayLevelEmphasis": emphases["small low"],
    }


def measure_zones(zones: FloatArray, sizes: FloatArray, levels: Levels) -> Mapping[str, float]:
    """Returns the 16 GLSZM features under pyradiomics' names.

    Args:
        zones: counts by grey level and size, shape (G, S); see ``count_zones``.
        sizes: the S sizes, voxels.
        levels: the grey levels.

    Source: pyradiomics 3.0.1, glszm.py; IBSI 1 reference manual 3.8.
    """
    tally = _tally(zones[:, :, None], levels, sizes)
    voxels = (tally.by_size * tally.size).sum(0)
    emphases = _measure_emphases(tally)
    return {
        "GrayLevelNonUniformity": mean_of_directions((tally.by_level**2).sum(0) / tally.total),
        "GrayLevelNonUniformityNormalized": mean_of_directions((tally.by_level**2).sum(0) / tally.total**2),
        "GrayLevelVariance": _measure_variance(tally.by_level, tally.level, tally.total),
        "HighGrayLevelZoneEmphasis": emphases["high"],
        "LargeAreaEmphasis": emphases["large"],
        "LargeAreaHighGrayLevelEmphasis": emphases["large high"],
        "LargeAreaLowGrayLevelEmphasis": emphases["large low"],
        "LowGrayLevelZoneEmphasis": emphases["low"],
        "SizeZoneNonUniformity": mean_of_directions((tally.by_size**2).sum(0) / tally.total),
        "SizeZoneNonUniformityNormalized": mean_of_directions((tally.by_size**2).sum(0) / tally.total**2),
        "SmallAreaEmphasis": emphases["small"],
        "SmallAreaHighGrayLevelEmphasis": emphases["small high"],
        "SmallAreaLowGrayLevelEmphasis": emphases["small low"],
        "ZoneEntropy": _measure_entropy(tally),
        "ZonePercentage": mean_of_directions(tally.total / voxels),
        "ZoneVariance": _measure_variance(tally.by_size, tally.size, tally.total),
    }


def measure_dependents(dependents: FloatArray, levels: Levels) -> Mapping[str, float]:
    """Returns the 14 GLDM features under pyradiomics' names.

    Args:
        dependents: voxels by grey level and number of dependent neighbours, shape (G, 27); see
            ``count_neighbourhoods``. A voxel counts itself: the sizes are 1 to 27.
        levels: the grey levels.

    Source: pyradiomics 3.0.1, gldm.py; IBSI 1 reference manual 3.11.
    """
    occurring = np.flatnonzero(dependents.any(axis=0))
    tally = _tally(np.ascontiguousarray(dependents[:, occurring])[:, :, None], levels, occurring + 1)
    emphases = _measure_emphases(tally)
    return {
        "DependenceEntropy": _measure_entropy(tally),
        "DependenceNonUniformity": mean_of_directions((tally.by_size**2).sum(0) / tally.total),
        "DependenceNonUniformityNormalized": mean_of_directions((tally.by_size**2).sum(0) / tally.total**2),
        "DependenceVariance": _measure_variance(tally.by_size, tally.size, tally.total),
        "GrayLevelNonUniformity": mean_of_directions((tally.by_level**2).sum(0) / tally.total),
        "GrayLevelVariance": _measure_variance(tally.by_level, tally.level, tally.total),
        "HighGrayLevelEmphasis": emphases["high"],
        "LargeDependenceEmphasis": emphases["large"],
        "LargeDependenceHighGrayLevelEmphasis": emphases["large high"],
        "LargeDependenceLowGrayLevelEmphasis": emphases["large low"],
        "LowGrayLevelEmphasis": emphases["low"],
        "SmallDependenceEmphasis": emphases["small"],
        "SmallDependenceHighGrayLevelEmphasis": emphases["small high"],
        "SmallDependenceLowGrayLevelEmphasis": emphases["small low"],
    }


def _tally(counts: FloatArray, levels: Levels, sizes: npt.NDArray[Any]) -> Tally:
    return Tally(
        counts=counts,
        level=levels.values[:, None],
        size=np.asarray(sizes, dtype=np.float64)[:, None],
        by_level=counts.sum(1),
        by_size=counts.sum(0),
        total=counts.sum((0, 1)),
    )


def _measure_emphases(tally: Tally) -> dict[str, float]:
    """Returns the eight emphases of small and large sizes, of low and high grey levels, and of their pairs."""
    level = tally.level[:, None] ** 2
    size = tally.size[None] ** 2
    # Summed over sizes first, the pairs need the whole matrix once instead of four times.
    small = (tally.counts / size).sum(1)
    large = (tally.counts * size).sum(1)
    sums = {
        "small": small.sum(0),
        "large": large.sum(0),
        "low": (tally.by_level / level[:, 0]).sum(0),
        "high": (tally.by_level * level[:, 0]).sum(0),
        "small low": (small / level[:, 0]).sum(0),
        "small high": (small * level[:, 0]).sum(0),
        "large low": (large / level[:, 0]).sum(0),
        "large high": (large * level[:, 0]).sum(0),
    }
    return {name: mean_of_directions(value / tally.total) for name, value in sums.items()}


def _measure_variance(counts: FloatArray, position: FloatArray, total: FloatArray) -> float:
    p = counts / total
    mean = (p * position).sum(0)
    return mean_of_directions((p * (position - mean) ** 2).sum(0))


def _measure_entropy(tally: Tally) -> float:
    p = tally.counts / tally.total
    return mean_of_directions(-(p * np.log2(p + EPSILON)).sum((0, 1)))
