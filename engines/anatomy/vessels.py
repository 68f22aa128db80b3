"""The great vessels beside the spine: aorta and inferior vena cava, as tracks of even discs."""

import numpy as np
from scipy import ndimage

from engines.anatomy.shapes import Hu, Mask, around, disc, mean_disc, track, track_step
from engines.anatomy.spine import SpineFrame
from engines.volume import Grid

VESSEL_SCORE = 0.55
"""Score of a disc on the track of a great vessel above which it counts as seen (OURS, by eye on four real series)."""

VESSEL_LENGTH_MM = 40.0
"""A great vessel seen over less than this is not reported (OURS)."""


def find_aorta(hu: Hu, body: Mask, frame: SpineFrame, grid: Grid) -> Mask:
    """Returns the inside of the aorta: an even disc left in front of the spine, tracked through the slices.

    Args:
        hu: HU on the working grid.
        body: the body.
        frame: the spine.
        grid: the working grid.
    """
    region = (frame.left_mm > -12) & (frame.left_mm < 45) & (frame.back_mm > -90) & (frame.back_mm < -8)
    return _find_vessel(hu, region & body & ~frame.vertebra(4.0), grid)


def find_vena_cava(hu: Hu, body: Mask, aorta: Mask, frame: SpineFrame, grid: Grid) -> Mask:
    """Returns the inside of the inferior vena cava: an even disc right in front of the spine, away from the aorta.

    Args:
        hu: HU on the working grid.
        body: the body.
        aorta: the aorta; without it the vena cava is not sought.
        frame: the spine.
        grid: the working grid.
    """
    if not aorta.any():
        return np.zeros_like(body)
    region = (frame.left_mm > -55) & (frame.left_mm < 8) & (frame.back_mm > -95) & (frame.back_mm < -20)
    near_aorta = ndimage.binary_dilation(aorta, structure=disc(15.0, grid.spacing_mm[1])[None])
    return _find_vessel(hu, region & body & ~near_aorta & ~frame.vertebra(4.0), grid)


def _find_vessel(hu: Hu, region: Mask, grid: Grid) -> Mask:
    """Returns discs of 5 mm radius along the best track of a vessel, on the slices where it is clear; else empty."""
    pixel_mm, slice_mm = grid.spacing_mm[1], grid.spacing_mm[0]
    clipped = np.clip(hu, -150, 500)
    mean = mean_disc(clipped, 6.0, pixel_mm)
    spread = np.sqrt(np.maximum(mean_disc(clipped * clipped, 6.0, pixel_mm) - mean * mean, 0))
    edges = np.mean([np.minimum(np.abs(c - mean), 80) for c in around(clipped, 15.0, pixel_mm)], axis=0)
    score = edges / 60 - spread / 15 + np.clip((mean - 60) / 200, 0, 1)
    score = np.where(region & (mean > 15), score, -9.0)
    path = track(score, step=track_step(grid, 3.0))
    height = np.arange(len(path))
    clear = score[height, path[:, 0], path[:, 1]] > VESSEL_SCORE
    means = mean[height, path[:, 0], path[:, 1]]
    if not clear.any():
        return np.zeros_like(region)
    middle = float(np.median(means[clear]))
    clear &= np.abs(means - middle) < max(20.0, 0.15 * middle)
    inside = np.zeros_like(region)
    if np.count_nonzero(clear) * slice_mm < VESSEL_LENGTH_MM:
        return inside
    inside[height[clear], path[clear, 0], path[clear, 1]] = True
    return np.asarray(ndimage.binary_dilation(inside, structure=disc(5.0, pixel_mm)[None]))
