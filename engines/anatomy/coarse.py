"""Coarse organs in one CT volume of unknown contrast phase, on one working grid."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from engines.anatomy.body import depth_below_wall, find_body, find_hull, find_lungs
from engines.anatomy.kidneys import find_kidneys
from engines.anatomy.organs import Scene, find_liver, find_spleen
from engines.anatomy.portal import find_portal_vein
from engines.anatomy.shapes import Hu, Mask, disc
from engines.anatomy.spine import SpineFrame, find_spine
from engines.anatomy.vessels import find_aorta, find_vena_cava
from engines.volume import Grid, Volume

PIXEL_MM = 3.0
"""Pixel edge of the working grid (OURS: an aorta is seven pixels wide, a volume takes a second)."""

SLICE_MM = 3.0
"""Slices thinner than this are averaged to about this (OURS)."""

LUNG_SECTION_MM2 = 800.0
"""A slice with less lung than this lies below the lungs (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoarseAnatomy:
    """What was found in one volume, on a working grid whose axes run to the head, the back and the patient's left.

    Attributes:
        grid: the working grid.
        hu: averaged HU on it, float32.
        smooth: the same, smoothed over about 4 mm.
        body: the patient without couch, with lungs, bool.
        depth_mm: distance of every voxel from the outside of the muscle wall within its slice, mm; 0 outside.
        lungs: air in the chest, bool.
        frame: the spine; None where none was found, and then no organ is sought.
        aorta: voxels well inside the aorta, bool; this and all that follow are empty where not found.
        vena_cava: voxels well inside the inferior vena cava, bool.
        kidneys: both kidneys, bool; not found before contrast.
        liver: core of the liver's parenchyma (no vessels, no lesions), bool.
        spleen: core of the spleen, bool.
        portal_vein: middle of the portal vein and its tributaries, bool; found only where brighter than the liver.
    """

    grid: Grid
    hu: Hu
    smooth: Hu
    body: Mask
    depth_mm: Hu
    lungs: Mask
    frame: SpineFrame | None
    aorta: Mask
    vena_cava: Mask
    kidneys: Mask
    liver: Mask
    spleen: Mask
    portal_vein: Mask


def find_anatomy(volume: Volume) -> CoarseAnatomy:
    """Returns the coarse organs of a volume; what is not found is empty, never guessed.

    Args:
        volume: HU, any axial grid, any contrast phase.
    """
    coarse = to_working_grid(volume)
    hu, grid = coarse.array, coarse.grid
    slice_mm, pixel_mm = grid.spacing_mm[:2]
    body = find_body(hu, pixel_mm)
    lungs = find_lungs(hu, body, grid)
    depth_mm = depth_below_wall(find_hull(hu, body, pixel_mm), pixel_mm)
    smooth = ndimage.gaussian_filter(np.clip(hu, -200, 400), (1.5 / slice_mm, 2.0 / pixel_mm, 2.0 / pixel_mm))
    frame = find_spine(hu, body, grid)
    aorta, vena_cava, kidneys, liver, spleen, portal_vein = (np.zeros_like(body) for _ in range(6))
    if frame is not None:
        aorta = find_aorta(hu, body, frame, grid)
        vena_cava = find_vena_cava(hu, body, aorta, frame, grid)
        vessels = ndimage.binary_dilation(aorta | vena_cava, structure=disc(6.0, pixel_mm)[None])
        with_lung = np.flatnonzero(lungs.sum(axis=(1, 2)) * pixel_mm**2 > LUNG_SECTION_MM2)
        scene = Scene(
            hu=hu,
            smooth=smooth,
            grid=grid,
            frame=frame,
            depth_mm=depth_mm,
            taken=lungs | vessels | frame.vertebra(2.0),
            lung_base=int(with_lung[0]) if with_lung.size else None,
        )
        kidneys = find_kidneys(scene)
        liver = find_liver(scene, kidneys)
        spleen = find_spleen(scene, kidneys, liver)
        portal_vein = find_portal_vein(scene, aorta, kidneys, liver)
    return CoarseAnatomy(
        grid=grid,
        hu=hu,
        smooth=smooth,
        body=body,
        depth_mm=depth_mm,
        lungs=lungs,
        frame=frame,
        aorta=aorta,
        vena_cava=vena_cava,
        kidneys=kidneys,
        liver=liver,
        spleen=spleen,
        portal_vein=portal_vein,
    )


def to_working_grid(volume: Volume) -> Volume:
    """Returns the volume averaged to about ``PIXEL_MM``, its axes to the head, the back and the left, float32 HU.

    Args:
        volume: HU on any axial grid.
    """
    image = volume.in_lps_order().to_image()
    targets = (PIXEL_MM, PIXEL_MM, SLICE_MM)
    factors = [max(1, round(t / s)) for t, s in zip(targets, image.GetSpacing(), strict=True)]
    return Volume.of_image(sitk.BinShrink(sitk.Cast(image, sitk.sitkFloat32), factors))
