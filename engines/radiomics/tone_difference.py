"""The 5 NGTDM features: how far voxels differ from the mean of their neighbours."""

from collections.abc import Mapping

import numpy as np

from engines.radiomics.discretisation import Levels
from engines.radiomics.matrices import FloatArray

MAXIMUM_COARSENESS = 1e6
"""Coarseness of a region without any difference (pyradiomics 3.0.1, ngtdm.py; IBSI 1 reference manual 3.10)."""


def measure_tone_differences(differences: FloatArray, levels: Levels) -> Mapping[str, float]:
    """Returns the NGTDM features under pyradiomics' names.

    Args:
        differences: summed differences of each grey level, shape (G,); see ``count_neighbourhoods``.
        levels: the grey levels and their voxels.

    Source: pyradiomics 3.0.1, ngtdm.py; IBSI 1 reference manual 3.10.
    """
    i = levels.values
    s = differences
    voxels = levels.counts.sum()
    p = levels.counts / voxels
    weighted = float((p * s).sum())
    total = float(s.sum())
    apart = np.abs(i[:, None] - i[None, :])
    both = p[:, None] + p[None, :]

    pairs = i.size * (i.size - 1)
    contrast = float((p[:, None] * p[None, :] * apart**2).sum() * total / voxels)
    ip = i * p
    busy = float(np.abs(ip[:, None] - ip[None, :]).sum())
    ps = p * s
    complexity = float((apart * (ps[:, None] + ps[None, :]) / both).sum() / voxels)
    strength = float((both * apart**2).sum())
    return {
        "Busyness": weighted / busy if busy != 0 else 0.0,
        "Coarseness": 1.0 / weighted if weighted != 0 else MAXIMUM_COARSENESS,
        "Complexity": complexity,
        "Contrast": contrast / pairs if pairs != 0 else 0.0,
        "Strength": strength / total if total != 0 else 0.0,
    }
