"""A segmenter without weights: brightness, place and shape in the portal venous phase. It names itself in every result."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from engines.anatomy import CoarseAnatomy, find_anatomy
from engines.anatomy.organs import dominant_hu, erode_mm
from engines.anatomy.shapes import Hu, Mask, disc, largest_part
from engines.errors import NoLiverFound
from engines.segmentation.lesions import label_lesions
from engines.segmentation.segmenter import Segmentation
from engines.volume import Grid, Volume, resample

PROVIDER = "baseline"
VERSION = "1"

LEAST_LESION_ML = 0.5
"""Smaller dark spots are vessels and noise to this segmenter (OURS; a sphere of 10 mm)."""

LESION_PIXEL_MM = 1.5
"""Pixel edge at which lesions are sought (OURS)."""

DARKER_HU = 14.0
"""How much darker than the parenchyma a lesion is at least, HU, after smoothing over about 4 mm (OURS)."""

FLUID_HU = 18.0
"""What is darker than this is gallbladder, bowel, fat or a fissure, no lesion (OURS); a necrosis lies above."""

HEART_WALL_MM = 8.0
"""Beside the lungs, tissue narrower than twice this is heart muscle that looks like liver (OURS)."""

EDGE_HU = 42.0
"""At the liver's surface, pixels this near to its brightness are counted in although they are blurred (OURS)."""

LESION_DEPTH_MM = 7.0
"""A lesion reaches at least this deep below the liver's surface; what does not is edge (OURS)."""

LARGE_LESION_ML = 30.0
"""Dark pieces below this must face the liver with half of their surface, larger ones with a quarter (OURS)."""

WALL_MM = 10.0
"""Dark tissue this near to the outside of the muscle wall is wall, not lesion (OURS)."""

ENCLOSED = 0.42
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
            NoLiverFound: no core of a liver was found on the right.
        """
        patient = volume.in_lps_order()
        anatomy = find_anatomy(patient)
        if not anatomy.liver.any():
            raise NoLiverFound("baseline found no large even organ on the patient's right below the lungs")
        mode_hu, width_hu = dominant_hu(anatomy.smooth[anatomy.liver])
        coarse = _fill_lesions(_grow_liver(anatomy, mode_hu, width_hu), anatomy, mode_hu)
        coarse &= ~_find_fluid(anatomy)
        liver = _to_native(Volume(array=coarse, grid=anatomy.grid), patient.grid)
        lesions = _find_lesions(patient, liver, mode_hu)
        return Segmentation(
            liver=_as_stored(liver, volume.grid),
            lesions=_as_stored(lesions, volume.grid),
            provider=PROVIDER,
            version=VERSION,
        )


def _grow_liver(anatomy: CoarseAnatomy, mode_hu: float, width_hu: float) -> Mask:
    """Returns the parenchyma that hangs together with the core, with its vessels, without thin bridges to neighbours."""
    grid = anatomy.grid
    others = _others(anatomy) | _swollen(anatomy.spleen, 7.0, grid)
    band = np.abs(anatomy.smooth - mode_hu) < 1.2 * width_hu
    tissue = band & (anatomy.depth_mm > 4.0) & ~others
    beside_heart = anatomy.lungs.sum(axis=(1, 2)) > 0
    tissue[beside_heart] = ndimage.binary_opening(
        tissue[beside_heart], structure=disc(HEART_WALL_MM, grid.spacing_mm[1])[None]
    )
    if anatomy.frame is not None:
        tissue &= ~anatomy.frame.vertebra(2.0) & (anatomy.frame.left_mm < 110)
    trunk = largest_part(_eroded(tissue, 5.0, grid) | (anatomy.liver & tissue))
    grown = _swollen(trunk, 7.0, grid) & tissue
    with_vessels = _closed(grown, 6.0, grid) & ~others & (anatomy.hu > 0) & (anatomy.depth_mm > 4.0)
    edge = _swollen(with_vessels, 3.5, grid) & (np.abs(anatomy.hu - mode_hu) < EDGE_HU) & ~others
    return _filled(with_vessels | (edge & (anatomy.depth_mm > 4.0)))


def _fill_lesions(liver: Mask, anatomy: CoarseAnatomy, mode_hu: float) -> Mask:
    """Returns the liver with the dark pieces of tissue that it encloses."""
    grid = anatomy.grid
    others = _others(anatomy)
    wall = anatomy.depth_mm <= WALL_MM
    dark = (anatomy.smooth > FLUID_HU) & (anatomy.smooth < mode_hu - DARKER_HU / 2) & ~liver & ~others & ~wall
    if anatomy.frame is not None:
        dark &= ~anatomy.frame.vertebra(4.0)
    near = np.zeros_like(liver)
    near[_box(liver, 80.0, grid) or ...] = True
    seeds, _ = ndimage.label(_eroded(dark & near, 4.0, grid))
    result = liver.copy()
    neutral = wall | anatomy.lungs
    room = [int(np.ceil(12.0 / s)) for s in grid.spacing_mm]
    for label, place in enumerate(ndimage.find_objects(seeds), start=1):
        box = tuple(slice(max(0, p.start - n), p.stop + n) for p, n in zip(place, room, strict=True))
        piece = _swollen(seeds[box] == label, 5.5, grid) & dark[box]
        if np.count_nonzero(piece) * grid.voxel_volume_ml < LEAST_LESION_ML:
            continue
        shell = _swollen(piece, 4.0, grid) & ~piece
        facing, free = np.count_nonzero(shell & liver[box]), np.count_nonzero(shell & ~neutral[box])
        small = np.count_nonzero(piece) * grid.voxel_volume_ml < LARGE_LESION_ML
        if facing > ENCLOSED * free and facing > (0.5 if small else 0.25) * np.count_nonzero(shell):
            result[box] |= piece
    return _filled(_closed(result, 6.0, grid) & ~others & (anatomy.depth_mm > 3.0))


def _find_fluid(anatomy: CoarseAnatomy) -> Mask:
    """Returns gallbladder, bowel content and fat in fissures, so thick that they are no noise."""
    fluid = anatomy.smooth < FLUID_HU + 2.0
    return _swollen(_eroded(fluid, 3.5, anatomy.grid), 4.0, anatomy.grid) & fluid


def _others(anatomy: CoarseAnatomy) -> Mask:
    """Returns the neighbours that are known not to be liver."""
    great_vessels = _swollen(anatomy.aorta | anatomy.vena_cava, 5.0, anatomy.grid)
    return anatomy.lungs | anatomy.kidneys | great_vessels


def _find_lesions(volume: Volume, liver: Volume, mode_hu: float) -> Volume:
    """Returns labels of the dark pieces inside the liver, on the native grid; they are sought at about ``LESION_PIXEL_MM``."""
    box = _box(liver.array, 3.0, liver.grid)
    empty = Volume(array=np.zeros(liver.array.shape, dtype=np.bool_), grid=liver.grid)
    if box is None:
        return label_lesions(empty)
    here = _cropped(volume, box)
    factors = [max(1, round(LESION_PIXEL_MM / s)) for s in volume.grid.spacing_mm[:0:-1]]
    fine = Volume.of_image(sitk.BinShrink(sitk.Cast(here.to_image(), sitk.sitkFloat32), [*factors, 1]))
    grid = fine.grid
    inside = resample(liver, grid, interpolator=sitk.sitkNearestNeighbor, outside=0).array > 0
    hu = ndimage.gaussian_filter(np.clip(fine.array, -50, 250), tuple(2.0 / s for s in grid.spacing_mm))
    parenchyma_hu, spread_hu = _parenchyma(hu, inside, mode_hu)
    threshold = parenchyma_hu - max(DARKER_HU, 1.8 * spread_hu)
    dark = (hu < threshold) & (hu > FLUID_HU) & _eroded(inside, 2.5, grid)
    found = _filled(_swollen(_eroded(dark, 3.2, grid), 4.2, grid) & dark) & inside
    labels, count = ndimage.label(found)
    pieces = np.arange(1, count + 1)
    solid = np.asarray(ndimage.median(hu, labels, pieces)) > FLUID_HU + 6.0
    deep = np.asarray(ndimage.maximum(_eroded(inside, LESION_DEPTH_MM, grid), labels, pieces)) > 0
    found = np.concatenate([[False], solid & deep])[labels] if count else found
    native = _to_native(Volume(array=found, grid=grid), volume.grid).array & liver.array
    return label_lesions(Volume(array=native, grid=volume.grid), least_ml=LEAST_LESION_ML)


def _cropped(volume: Volume, box: tuple[slice, ...]) -> Volume:
    """Returns the part of a volume inside a box of indices."""
    start = [part.start for part in box]
    x, y, z = (float(c) for c in (volume.grid.affine() @ [*start, 1])[:3])
    array = volume.array[box]
    depth, rows, columns = array.shape
    grid = Grid(
        shape=(depth, rows, columns),
        spacing_mm=volume.grid.spacing_mm,
        origin_mm=(x, y, z),
        axes=volume.grid.axes,
    )
    return Volume(array=array, grid=grid)


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


def _as_stored(mask: Volume, grid: Grid) -> Volume:
    """Returns a mask that lies in the order of the patient in the order of the stored grid."""
    order, backwards = grid.lps_order()
    turned = mask.array[tuple(slice(None, None, -1 if back else 1) for back in backwards)]
    return Volume(array=np.ascontiguousarray(turned.transpose(np.argsort(order))), grid=grid)


def _swollen(mask: Mask, radius_mm: float, grid: Grid) -> Mask:
    """Returns all voxels within ``radius_mm`` of a mask."""
    result = mask.copy()
    box = _box(mask, radius_mm, grid)
    if box is not None:
        result[box] = ndimage.distance_transform_edt(~mask[box], sampling=grid.spacing_mm) <= radius_mm
    return result


def _closed(mask: Mask, radius_mm: float, grid: Grid) -> Mask:
    """Returns the closing of a mask by a ball."""
    result = mask.copy()
    box = _box(mask, radius_mm, grid)
    if box is None:
        return result
    room = [int(np.ceil(radius_mm / s)) + 1 for s in grid.spacing_mm]
    padded = np.pad(mask[box], [(n, n) for n in room])
    swollen = ndimage.distance_transform_edt(~padded, sampling=grid.spacing_mm) <= radius_mm
    closed = ndimage.distance_transform_edt(swollen, sampling=grid.spacing_mm) > radius_mm
    inner = tuple(slice(n, -n) for n in room)
    result[box] |= closed[inner]
    return result


def _eroded(mask: Mask, radius_mm: float, grid: Grid) -> Mask:
    """Returns the voxels deeper than ``radius_mm`` below the surface of a mask."""
    result = np.zeros_like(mask)
    box = _box(mask, max(grid.spacing_mm), grid)
    if box is not None:
        result[box] = erode_mm(mask[box], radius_mm, grid)
    return result


def _box(mask: Mask, margin_mm: float, grid: Grid) -> tuple[slice, ...] | None:
    """Returns the box around a mask with a margin, or None when the mask is empty."""
    spans = []
    for axis, spacing in enumerate(grid.spacing_mm):
        others = tuple(a for a in range(3) if a != axis)
        places = np.flatnonzero(mask.any(axis=others))
        if places.size == 0:
            return None
        room = int(np.ceil(margin_mm / spacing)) + 1
        spans.append(slice(max(0, int(places[0]) - room), min(mask.shape[axis], int(places[-1]) + 1 + room)))
    return tuple(spans)


def _filled(mask: Mask) -> Mask:
    """Returns a mask with the holes of each slice filled."""
    return np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
