"""A segmenter without weights: brightness, place and shape in the portal venous phase. It names itself in every result."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from engines.anatomy import CoarseAnatomy, find_anatomy
from engines.anatomy.organs import dominant_hu, erode_mm
from engines.anatomy.shapes import Hu, Mask, largest_part
from engines.errors import SegmentationRefused
from engines.segmentation.lesions import label_lesions
from engines.segmentation.segmenter import Segmentation
from engines.volume import Grid, Volume, resample

PROVIDER = "baseline"
VERSION = "1"

LEAST_LESION_ML = 0.5
"""Smaller dark spots are vessels and noise to this segmenter (OURS; a sphere of 10 mm)."""

DARKER_HU = 14.0
"""How much darker than the parenchyma a lesion is at least, HU, after smoothing over about 4 mm (OURS)."""

FLUID_HU = 12.0
"""Pieces at the liver's edge that are darker than this are gallbladder, bowel or fat, no lesion (OURS)."""

WALL_MM = 6.0
"""Dark tissue this near to the outside of the muscle wall is wall, not lesion (OURS)."""

ENCLOSED = 0.55
"""Share of a dark piece's surface that must face the liver (sides to wall and lung do not count) to belong to it (OURS)."""


SEED_MM = 5.5
"""How far the core of a dark piece is swollen back, mm (OURS: its erosion and a little more)."""

SHELL_MM = 4.0
"""Thickness of the shell in which the neighbours of a dark piece are counted, mm (OURS)."""


@dataclass(frozen=True, slots=True)
class BaselineSegmenter:
    """Liver and tumours by brightness and anatomy. It knows hypodense tumours only, and no cirrhotic shrinking."""

    @property
    def provider(self) -> str:
        """Name that stands in every result."""
        return PROVIDER

    @property
    def version(self) -> str:
        """Version that stands in every result."""
        return VERSION

    def segment(self, volume: Volume) -> Segmentation:
        """Returns liver and hypodense lesions of a portal venous volume.

        Args:
            volume: HU on its native grid.

        Raises:
            SegmentationRefused: no core of a liver was found on the right.
        """
        anatomy = find_anatomy(volume)
        if not anatomy.liver.any():
            raise SegmentationRefused(
                "baseline found no large even organ on the patient's right below the lungs"
            )
        mode_hu, width_hu = dominant_hu(anatomy.smooth[anatomy.liver])
        coarse = _fill_lesions(_grow_liver(anatomy, mode_hu, width_hu), anatomy, mode_hu)
        liver = _to_native(Volume(array=coarse, grid=anatomy.grid), volume.grid)
        lesions = _find_lesions(volume, liver, mode_hu)
        return Segmentation(liver=liver, lesions=lesions, provider=PROVIDER, version=VERSION)


def _grow_liver(anatomy: CoarseAnatomy, mode_hu: float, width_hu: float) -> Mask:
    """Returns the parenchyma that hangs together with the core, with its vessels, without thin bridges to neighbours."""
    grid = anatomy.grid
    others = anatomy.lungs | anatomy.kidneys | anatomy.aorta | _swollen(anatomy.spleen, 7.0, grid)
    band = np.abs(anatomy.smooth - mode_hu) < 1.2 * width_hu
    tissue = band & (anatomy.depth_mm > 4.0) & ~others
    if anatomy.frame is not None:
        tissue &= ~anatomy.frame.vertebra(2.0) & (anatomy.frame.left_mm < 110)
    trunk = largest_part(erode_mm(tissue, 5.0, grid) | (anatomy.liver & tissue))
    grown = _swollen(trunk, 7.0, grid) & tissue
    with_vessels = _closed(grown, 6.0, grid) & ~others & (anatomy.hu > 0) & (anatomy.depth_mm > 4.0)
    return _filled(with_vessels)


def _fill_lesions(liver: Mask, anatomy: CoarseAnatomy, mode_hu: float) -> Mask:
    """Returns the liver with the dark pieces of tissue that it encloses."""
    grid = anatomy.grid
    others = anatomy.lungs | anatomy.kidneys | anatomy.aorta | anatomy.vena_cava
    dark = (anatomy.smooth > FLUID_HU) & (anatomy.smooth < mode_hu - DARKER_HU / 2) & ~liver & ~others
    dark &= anatomy.depth_mm > WALL_MM + 4.0
    if anatomy.frame is not None:
        dark &= ~anatomy.frame.vertebra(4.0)
    seeds, _ = ndimage.label(erode_mm(dark, 4.0, grid))
    result = liver.copy()
    neutral = (anatomy.depth_mm <= WALL_MM + 4.0) | anatomy.lungs
    for label, found in enumerate(ndimage.find_objects(seeds), start=1):
        box = _widened(found, SEED_MM + SHELL_MM, grid)  # whole volumes would cost a second a piece
        piece = _swollen(seeds[box] == label, SEED_MM, grid) & dark[box]
        if np.count_nonzero(piece) * grid.voxel_volume_ml < LEAST_LESION_ML:
            continue
        shell = _swollen(piece, SHELL_MM, grid) & ~piece & ~neutral[box]
        if np.count_nonzero(shell & result[box]) > ENCLOSED * np.count_nonzero(shell):
            result[box] |= piece
    return _filled(_closed(result, 6.0, grid) & ~others & (anatomy.depth_mm > 3.0))


def _find_lesions(volume: Volume, liver: Volume, mode_hu: float) -> Volume:
    """Returns labels of the dark pieces inside the liver, on the native grid."""
    indices = np.argwhere(liver.array)
    first, last = indices.min(axis=0), indices.max(axis=0) + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))
    inside = liver.array[box]
    spacing = np.asarray(volume.grid.spacing_mm)
    hu = ndimage.gaussian_filter(
        np.clip(volume.array[box], -50, 250).astype(np.float32), tuple(2.0 / spacing)
    )
    parenchyma_hu, spread_hu = _parenchyma(hu, inside, mode_hu)
    threshold = parenchyma_hu - max(DARKER_HU, 1.8 * spread_hu)
    grid = Grid(shape=inside.shape, spacing_mm=volume.grid.spacing_mm, origin_mm=(0.0, 0.0, 0.0))
    deep = erode_mm(np.pad(inside, 1), 2.0, grid)[1:-1, 1:-1, 1:-1]
    dark = (hu < threshold) & deep
    labels, count = ndimage.label(erode_mm(dark, 2.5, grid))
    keep = np.zeros(count + 1, dtype=np.bool_)
    medians = ndimage.median(hu, labels, index=np.arange(1, count + 1)) if count else []
    for label, median in enumerate(np.atleast_1d(medians), start=1):
        keep[label] = median > FLUID_HU
    found = _swollen(keep[labels], 3.5, grid) & dark
    whole = np.zeros(liver.array.shape, dtype=np.bool_)
    whole[box] = _filled(found) & inside
    return label_lesions(Volume(array=whole, grid=volume.grid), least_ml=LEAST_LESION_ML)


def _parenchyma(hu: Hu, inside: Mask, mode_hu: float) -> tuple[float, float]:
    """Returns mode and robust spread of the parenchyma's smoothed HU."""
    near = hu[inside & (np.abs(hu - mode_hu) < 30)]
    middle = float(np.median(near)) if near.size else mode_hu
    return middle, 1.4826 * float(np.median(np.abs(near - middle))) if near.size else 8.0


def _to_native(mask: Volume, grid: Grid) -> Volume:
    """Returns a coarse mask on the native grid, its edge smoothed by linear interpolation."""
    soft = Volume(array=mask.array.astype(np.float32), grid=mask.grid)
    fine = resample(soft, grid, interpolator=sitk.sitkLinear, outside=0.0).array > 0.5
    return Volume(array=fine, grid=grid)


def _swollen(mask: Mask, radius_mm: float, grid: Grid) -> Mask:
    """Returns all voxels within ``radius_mm`` of a mask."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask, sampling=grid.spacing_mm) <= radius_mm)


def _widened(box: tuple[slice, ...], margin_mm: float, grid: Grid) -> tuple[slice, ...]:
    """Returns a box with ``margin_mm`` and a voxel more on every side; slices end where the array does."""
    room = [int(np.ceil(margin_mm / spacing)) + 1 for spacing in grid.spacing_mm]
    return tuple(slice(max(0, part.start - n), part.stop + n) for part, n in zip(box, room, strict=True))


def _closed(mask: Mask, radius_mm: float, grid: Grid) -> Mask:
    """Returns the closing of a mask by a ball."""
    room = int(np.ceil(radius_mm / min(grid.spacing_mm))) + 1
    padded = np.pad(mask, room)
    swollen = _swollen(padded, radius_mm, grid)
    closed = ndimage.distance_transform_edt(swollen, sampling=grid.spacing_mm) > radius_mm
    return np.asarray(closed[room:-room, room:-room, room:-room] | mask)


def _filled(mask: Mask) -> Mask:
    """Returns a mask with the holes of each slice filled."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
