"""The kidneys: bright pieces in fat at both sides of the spine. Before contrast they are not sought."""

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from engines.anatomy.organs import Scene, muscle_hu
from engines.anatomy.shapes import Hu, Mask, disc, largest_part

ABOVE_MUSCLE_HU = (45.0, 70.0, 95.0, 125.0)
"""Thresholds above muscle that are tried (OURS): low ones keep a kidney whole, high ones part it from liver and spleen."""

PARTED_MM = (3.0, 9.0)
"""Radii of the openings that part a kidney from its neighbours (OURS): the small one keeps an arterial cortex."""

TRIALS = 3
"""So many of the largest bright pieces on each side are judged at every threshold (OURS)."""

VOLUME_ML = (40.0, 350.0)
LARGEST_SECTION_MM2 = 4500.0
HEIGHT_MM = (45.0, 180.0)
BRIGHTEST_HU = 300.0
LEAST_FAT = 0.15
"""Volume, largest section, height, greatest median HU of a kidney, and least share of fat around it (OURS)."""

ORAL_HU = 260.0
LARGEST_ORAL_SHARE = 0.1
"""Above this HU lies oral contrast, or excreted contrast in no more than this share of a kidney (OURS)."""

LEAST_SOLIDITY = 0.88
"""Area of a kidney's sections over that of their convex hulls (OURS): a kidney with bowel beside it is less."""

MIDDLE_ASIDE_MM = (28.0, 85.0)
MIDDLE_BACK_MM = (-60.0, 12.0)
"""Where the middle of a kidney lies beside and in front of the spinal canal, mm (OURS)."""

SINUS_MM = 20.0
"""A gap in the ring of cortex up to twice this wide is closed: the renal sinus (OURS)."""


def find_kidneys(scene: Scene) -> Mask:
    """Returns the kidneys with what their cortex surrounds; empty where there is no contrast agent or no fit.

    Args:
        scene: the volume.
    """
    frame, hu = scene.frame, scene.hu
    kidneys = np.zeros_like(scene.taken)
    muscle = muscle_hu(scene)
    if muscle is None:
        return kidneys
    aside = np.abs(frame.left_mm)
    box = (aside > 20) & (aside < 110) & (frame.back_mm > -90) & (frame.back_mm < 25) & (scene.depth_mm > 6)
    box &= _heights(scene)[:, None, None] & ~scene.taken
    for side in (frame.left_mm < 0, frame.left_mm > 0):
        here = box & side
        found = [
            piece
            for above_hu in ABOVE_MUSCLE_HU
            for parted_mm in PARTED_MM
            for piece in _pieces(
                here & (hu > muscle + above_hu) & (hu < ORAL_HU), here & (hu > -20), parted_mm, scene
            )
            if _is_kidney(piece, scene)
        ]
        if found:
            kidneys |= max(found, key=lambda piece: _distinct(piece, scene, muscle))
    return kidneys


def _heights(scene: Scene) -> Mask:
    """Returns the slices in which a kidney can be: from 230 mm below the lowest lung to 45 mm above it; all without lungs."""
    count = scene.hu.shape[0]
    if scene.lung_base is None:
        return np.ones(count, dtype=np.bool_)
    height_mm = (np.arange(count) - scene.lung_base) * scene.grid.spacing_mm[0]
    return np.asarray((height_mm > -230) & (height_mm < 45))


def _pieces(bright: Mask, allowed: Mask, parted_mm: float, scene: Scene) -> list[Mask]:
    """Returns the largest bright pieces, each with what it surrounds."""
    pixel_mm = scene.grid.spacing_mm[1]
    labels, count = ndimage.label(ndimage.binary_opening(bright, structure=disc(parted_mm, pixel_mm)[None]))
    if count == 0:
        return []
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(labels)
    room = round((SINUS_MM + 3.0) / pixel_mm)
    pieces = []
    for n in np.argsort(-sizes)[:TRIALS]:
        if sizes[n] * scene.grid.voxel_volume_ml < 0.3 * VOLUME_ML[0]:
            break
        height, rows, columns = boxes[n]
        cortex = np.pad(labels[boxes[n]] == n + 1, ((0, 0), (room, room), (room, room)))
        closing = disc(SINUS_MM, pixel_mm)
        filled = [
            ndimage.binary_fill_holes(ndimage.binary_closing(plane, structure=closing)) for plane in cortex
        ]
        piece = np.zeros_like(bright)
        piece[height, rows, columns] = np.stack(filled)[:, room:-room, room:-room]
        piece = ndimage.binary_opening(piece & allowed, structure=disc(7.0, pixel_mm)[None])
        pieces.append(largest_part(piece))
    return pieces


def _is_kidney(piece: Mask, scene: Scene) -> bool:
    """Returns whether a piece has size, height and place of a kidney, lies in fat and is not oral contrast."""
    grid, frame = scene.grid, scene.frame
    if not VOLUME_ML[0] < np.count_nonzero(piece) * grid.voxel_volume_ml < VOLUME_ML[1]:
        return False
    areas_mm2 = piece.sum(axis=(1, 2)) * grid.spacing_mm[1] * grid.spacing_mm[2]
    height_mm = np.count_nonzero(areas_mm2) * grid.spacing_mm[0]
    aside_mm, back_mm = abs(float(frame.left_mm[piece].mean())), float(frame.back_mm[piece].mean())
    return bool(
        areas_mm2.max() < LARGEST_SECTION_MM2
        and HEIGHT_MM[0] < height_mm < HEIGHT_MM[1]
        and MIDDLE_ASIDE_MM[0] < aside_mm < MIDDLE_ASIDE_MM[1]
        and MIDDLE_BACK_MM[0] < back_mm < MIDDLE_BACK_MM[1]
        and float(np.median(scene.hu[piece])) < BRIGHTEST_HU
        and float(np.mean(scene.hu[piece] > ORAL_HU)) < LARGEST_ORAL_SHARE
        and _solidity(piece) > LEAST_SOLIDITY
        and _fat_around(piece, scene.hu, grid.spacing_mm[1]) > LEAST_FAT
    )


def _distinct(piece: Mask, scene: Scene, muscle: float) -> float:
    """Returns how well a piece stands out: by the fat around it and its brightness above muscle (200 HU count as all fat)."""
    above = (float(np.median(scene.hu[piece])) - muscle) / 200
    return _fat_around(piece, scene.hu, scene.grid.spacing_mm[1]) + above


def _fat_around(piece: Mask, hu: Hu, pixel_mm: float) -> float:
    """Returns the share of fat 3 to 7 mm outside of a piece within its slices, 0..1."""
    around = ndimage.binary_dilation(piece, structure=disc(7.0, pixel_mm)[None])
    around &= ~ndimage.binary_dilation(piece, structure=disc(3.0, pixel_mm)[None])
    return float(np.mean(hu[around] < 0)) if around.any() else 0.0


def _solidity(piece: Mask) -> float:
    """Returns the area of all sections over that of their convex hulls, 0..1."""
    hull_area = 0.0
    for plane in piece[piece.any(axis=(1, 2))]:
        rows, columns = np.nonzero(plane)
        corners = [np.stack([rows + dy, columns + dx], axis=1) for dy in (-0.5, 0.5) for dx in (-0.5, 0.5)]
        hull_area += float(
            ConvexHull(np.concatenate(corners)).volume
        )  # in two dimensions the volume is the area
    return float(np.count_nonzero(piece)) / hull_area
