"""Network inputs of phantoms at side 16, right and wrong ones."""

from dataclasses import replace

import numpy as np

from engines.phantom.anatomy import PhantomTraits, draw_anatomy, liver_grid, render_phase
from engines.phase import ASSESSED_PHASES, Phase

SIDE = 16
_AWAY_MM = 130.0


def cube(seed, phases=ASSESSED_PHASES, away_mm=0.0):
    """The input of a synthetic patient; ``away_mm`` moves the box to the patient's left."""
    latents = np.random.default_rng(seed).normal(size=4)
    anatomy = draw_anatomy(PhantomTraits(seed=seed, burden=latents[0], heterogeneity=latents[1],
                                         enhancement=latents[2], washout=latents[3]))  # fmt: skip
    grid = liver_grid(anatomy, SIDE)
    x, y, z = grid.origin_mm
    grid = replace(grid, origin_mm=(x + away_mm, y, z))
    hu = [render_phase(anatomy, phase, grid).array for phase in phases]
    return np.clip((np.stack(hu) + 100.0) / 340, 0, 1).astype(np.float16)


def native(seed):
    """Three times the phase without contrast."""
    return cube(seed, (Phase.PRE_CONTRAST,) * 3)


def noise(seed):
    """The voxels of a true input in random order: brightness and spread of each phase are those of a patient."""
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(channel.ravel()).reshape(channel.shape) for channel in cube(seed)])


def other_organ(seed):
    """The box lies on the left upper abdomen instead of the liver."""
    return cube(seed, away_mm=_AWAY_MM)
