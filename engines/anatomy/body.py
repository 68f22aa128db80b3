"""The outline of the patient: body, muscle hull, lungs."""

import numpy as np
from scipy import ndimage

from engines.anatomy.shapes import Hu, Mask, disc, largest_part
from engines.volume import Grid

BODY_HU = -300.0
FAT_HU = (-150.0, -30.0)
LUNG_HU = -500.0


def find_body(hu: Hu, pixel_mm: float) -> Mask:
    """Returns the largest piece above air that a thin couch does not reach, filled slice by slice.

    Args:
        hu: HU on the working grid.
        pixel_mm: its pixel edge, mm.
    """
    solid = hu > BODY_HU
    opened = ndimage.binary_opening(solid, structure=disc(7.0, pixel_mm)[None])
    body = largest_part(opened)
    body = ndimage.binary_dilation(body, structure=disc(7.0, pixel_mm)[None]) & solid
    return np.stack([ndimage.binary_fill_holes(plane) for plane in body])


def find_hull(hu: Hu, body: Mask, pixel_mm: float) -> Mask:
    """Returns the body inside its subcutaneous fat: the muscle wall and all within.

    Args:
        hu: HU on the working grid.
        body: the body.
        pixel_mm: pixel edge, mm.
    """
    lean = (hu > FAT_HU[1]) & body
    margin = round(30 / pixel_mm)
    planes = []
    for plane in lean:
        padded = np.pad(ndimage.binary_opening(plane), margin)
        closed = ndimage.binary_closing(padded, structure=disc(24.0, pixel_mm))
        filled = ndimage.binary_fill_holes(closed)[margin:-margin, margin:-margin]
        planes.append(largest_part(filled))
    return np.stack(planes) & body


def find_lungs(hu: Hu, body: Mask, grid: Grid) -> Mask:
    """Returns the air in the chest: pieces of at least 100 mL that lie in the upper slices.

    Args:
        hu: HU on the working grid.
        body: the body.
        grid: the working grid.
    """
    air = ndimage.binary_opening((hu < LUNG_HU) & body, structure=disc(4.0, grid.spacing_mm[1])[None])
    labels, count = ndimage.label(air)
    if count == 0:
        return np.asarray(air)
    sizes_ml = np.bincount(labels.ravel()) * grid.voxel_volume_ml
    at_top = np.unique(labels[-3:])
    kept = [n for n in at_top if n > 0 and sizes_ml[n] >= 100]
    return np.asarray(np.isin(labels, kept))


def depth_below_wall(hull: Mask, pixel_mm: float) -> Hu:
    """Returns the distance of every voxel from the outside of the hull within its slice, mm, float32, 0 outside.

    Args:
        hull: the muscle wall and all within.
        pixel_mm: pixel edge, mm.
    """
    planes = [ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1] for plane in hull]
    return np.asarray(np.stack(planes) * pixel_mm, dtype=np.float32)
