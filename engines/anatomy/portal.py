"""The portal vein with its tributaries: bright, narrow, in front of the great vessels, and running into the liver."""

import numpy as np
from scipy import ndimage

from engines.anatomy.organs import Scene, dominant_hu
from engines.anatomy.shapes import Mask, around, disc, mean_disc
from engines.volume import Grid

BRIGHTER_HU = 12.0
"""How much brighter than the liver a portal vein must be to be seen (OURS)."""

NARROW_SHARE = 10 / 16
"""Share of a circle of 12 mm around a vessel's middle that must be darker than it (OURS: the vessel runs on both ways)."""

ARTERIAL_AORTA_HU = 220.0
ARTERY_SHARE = 0.7
"""Above this HU of the aorta, what is brighter than this share of it is an artery, not a vein (OURS)."""

LEAST_PORTAL_ML = 1.0
"""Less is not reported, mL of voxels near the vessel's middle (OURS)."""


def find_portal_vein(scene: Scene, aorta: Mask, kidneys: Mask, liver: Mask) -> Mask:
    """Returns voxels near the middle of the portal vein; empty where no bright vessel runs into the liver.

    Args:
        scene: the volume.
        aorta: inside of the aorta.
        kidneys: the kidneys.
        liver: core of the liver.
    """
    empty = np.zeros_like(liver)
    if not liver.any() or not aorta.any():
        return empty
    grid, hu = scene.grid, scene.hu
    pixel_mm = grid.spacing_mm[1]
    liver_hu, _ = dominant_hu(scene.smooth[liver])
    aorta_hu = float(np.median(hu[aorta]))
    clipped = np.clip(hu, -150, 500)
    mean = mean_disc(clipped, 3.5, pixel_mm)
    darker = np.mean([c < mean - BRIGHTER_HU for c in around(clipped, 12.0, pixel_mm)], axis=0)
    highest = ARTERY_SHARE * aorta_hu if aorta_hu > ARTERIAL_AORTA_HU else 1.1 * aorta_hu + 30
    vessel = (mean > liver_hu + BRIGHTER_HU) & (mean < highest) & (darker >= NARROW_SHARE)
    vessel &= _hilum(scene, aorta, liver) & ~_near(kidneys, 6.0, grid)
    pieces, count = ndimage.label(
        ndimage.binary_closing(vessel, structure=disc(3.0, pixel_mm)[None]) & (mean > liver_hu)
    )
    if count == 0:
        return empty
    entering = np.unique(pieces[_near(liver, 9.0, grid) & (pieces > 0)])
    sizes = np.bincount(pieces[vessel], minlength=count + 1) * grid.voxel_volume_ml
    best = max(entering, key=lambda n: sizes[n], default=0)
    if best == 0 or sizes[best] < LEAST_PORTAL_ML:
        return empty
    return np.asarray((pieces == best) & vessel)


def _hilum(scene: Scene, aorta: Mask, liver: Mask) -> Mask:
    """Returns where the portal vein can be: in front of the aorta, right of the left flank, below the hepatic veins."""
    frame = scene.frame
    front_of_aorta = float(np.median(frame.back_mm[aorta])) - 14.0
    heights = np.flatnonzero(liver.any(axis=(1, 2)))
    low, high = int(heights[0]), int(heights[-1])
    slices = np.zeros(liver.shape[0], dtype=np.bool_)
    slices[low : low + int(0.68 * (high - low)) + 1] = True
    place = (frame.left_mm > -70) & (frame.left_mm < 45) & (frame.back_mm < front_of_aorta + 10)
    place &= (frame.back_mm > front_of_aorta - 65) & (scene.depth_mm > 25)
    beside_aorta = ~_near(aorta, 9.0, scene.grid)
    return np.asarray(place & beside_aorta & slices[:, None, None] & ~scene.taken)


def _near(mask: Mask, radius_mm: float, grid: Grid) -> Mask:
    """Returns all pixels within a distance of a mask in the same slice."""
    return np.asarray(ndimage.binary_dilation(mask, structure=disc(radius_mm, grid.spacing_mm[1])[None]))
