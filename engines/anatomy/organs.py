"""Liver and spleen in one volume of unknown phase, each from place and its own most common brightness."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from engines.anatomy.shapes import Hu, Mask, disc, largest_part
from engines.anatomy.spine import SpineFrame
from engines.volume import Grid

WALL_MM = 10.0
"""Thickness of the muscles that surround the abdomen (OURS; thinner is measured as organ, thicker as wall)."""

LIVER_HU = (30.0, 190.0)
"""Parenchyma of a liver from fatty and native to bright and portal venous (OURS)."""

CALM_HU = 12.0
"""An organ's local spread lies at most this above the median spread of the abdomen, HU (OURS)."""

LIVER_CORE_ML = 150.0
"""A liver whose core is smaller than this is not reported (OURS)."""

SPLEEN_ML = (15.0, 1500.0)
"""Volumes of a spleen's core, mL (OURS)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """What the organs are sought in.

    Attributes:
        hu: HU on the working grid.
        smooth: the same, smoothed over about 4 mm.
        grid: the working grid.
        frame: the spine.
        depth_mm: distance of every voxel from the outside of the muscle wall within its slice, mm.
        taken: voxels that belong to lungs, vertebrae and great vessels.
        lung_base: index of the lowest slice with lung, or None.
    """

    hu: Hu
    smooth: Hu
    grid: Grid
    frame: SpineFrame
    depth_mm: Hu
    taken: Mask
    lung_base: int | None


def find_liver(scene: Scene, kidneys: Mask) -> Mask:
    """Returns the core of the liver: the largest even piece on the right, in the brightness most common there.

    Args:
        scene: the volume.
        kidneys: the kidneys.
    """
    frame, smooth, grid = scene.frame, scene.smooth, scene.grid
    empty = np.zeros_like(kidneys)
    near = ndimage.binary_dilation(kidneys, structure=disc(5.0, grid.spacing_mm[1])[None])
    free = (scene.depth_mm > WALL_MM) & ~scene.taken & ~near & _upper_abdomen(scene)
    spread = _local_spread(scene)
    if not free.any():
        return empty
    calm = spread < np.median(spread[free]) + CALM_HU
    even = free & calm & (smooth > LIVER_HU[0]) & (smooth < LIVER_HU[1])
    right = even & (frame.left_mm < -25) & (frame.back_mm < 15)
    right = erode_mm(right, 4.0, grid)
    if np.count_nonzero(right) * grid.voxel_volume_ml < LIVER_CORE_ML / 3:
        return empty
    mode, width = dominant_hu(smooth[right])
    piece = even & (np.abs(smooth - mode) < width) & (frame.left_mm < 90)
    core = largest_part(erode_mm(piece, 6.0, grid))
    on_the_right = core & (frame.left_mm < 0)
    if 2 * np.count_nonzero(on_the_right) < np.count_nonzero(core):
        return empty
    if np.count_nonzero(core) * grid.voxel_volume_ml < LIVER_CORE_ML:
        return empty
    return core


def find_spleen(scene: Scene, kidneys: Mask, liver: Mask) -> Mask:
    """Returns the core of the spleen: the largest even piece at the back on the left, under the left lung.

    Args:
        scene: the volume.
        kidneys: the kidneys.
        liver: core of the liver; its own piece is not taken for the spleen.
    """
    frame, smooth, grid = scene.frame, scene.smooth, scene.grid
    near = ndimage.binary_dilation(kidneys | liver, structure=disc(5.0, grid.spacing_mm[1])[None])
    spread = _local_spread(scene)
    free = (scene.depth_mm > WALL_MM) & ~scene.taken & ~near & _upper_abdomen(scene)
    place = (frame.left_mm > 40) & (frame.back_mm > -75) & (frame.back_mm < 20)
    limit = np.median(spread[free]) + CALM_HU if free.any() else 0.0
    even = free & place & (smooth > 30) & (smooth < 220) & (spread < limit)
    seed = erode_mm(even, 4.0, grid)
    if not seed.any():
        return seed
    mode, width = dominant_hu(smooth[seed])
    core = largest_part(erode_mm(even & (np.abs(smooth - mode) < width), 5.0, grid))
    volume_ml = np.count_nonzero(core) * grid.voxel_volume_ml
    return core if SPLEEN_ML[0] < volume_ml < SPLEEN_ML[1] else np.zeros_like(core)


def muscle_hu(scene: Scene) -> float | None:
    """Returns the median HU of the muscles beside the spine, or None where there are none."""
    frame = scene.frame
    beside = (
        (np.abs(frame.left_mm) > 20)
        & (np.abs(frame.left_mm) < 50)
        & (frame.back_mm > -20)
        & (frame.back_mm < 30)
    )
    muscle = beside & (scene.smooth > 10) & (scene.smooth < 110)
    if np.count_nonzero(muscle) < 100:
        return None
    return float(np.median(scene.hu[muscle]))


def dominant_hu(values: npt.NDArray[np.float32], *, highest: float = 260.0) -> tuple[float, float]:
    """Returns the most common HU and the half width of the band about it that one organ fills.

    Args:
        values: smoothed HU, not empty.
        highest: brighter values are not counted.
    """
    counts, edges = np.histogram(values, bins=np.arange(0.0, highest, 2.0))
    smooth = ndimage.gaussian_filter1d(counts.astype(np.float64), 2.0)
    peak = int(smooth.argmax())
    mode = float(edges[peak] + 1.0)
    near = values[np.abs(values - mode) < 30]
    spread = 1.4826 * float(np.median(np.abs(near - mode))) if near.size else 8.0
    return mode, float(np.clip(2.5 * spread, 12.0, 26.0))


def erode_mm(mask: Mask, radius_mm: float, grid: Grid) -> Mask:
    """Returns the voxels of a mask that lie deeper than ``radius_mm`` below its surface.

    Args:
        mask: bool on the grid.
        radius_mm: depth, mm.
        grid: gives the spacing.
    """
    inside = np.pad(mask, 1, mode="edge")
    depth = ndimage.distance_transform_edt(inside, sampling=grid.spacing_mm)
    return np.asarray(depth[1:-1, 1:-1, 1:-1] > radius_mm)


def _upper_abdomen(scene: Scene) -> Mask:
    """Returns the slices in which a liver can be: from 200 mm below the lowest lung to 120 mm above it; all without lungs."""
    slices = np.ones(scene.hu.shape[0], dtype=np.bool_)
    if scene.lung_base is not None:
        height_mm = (np.arange(len(slices)) - scene.lung_base) * scene.grid.spacing_mm[0]
        slices = (height_mm > -200) & (height_mm < 120)
    return np.broadcast_to(slices[:, None, None], scene.hu.shape)


def _local_spread(scene: Scene) -> Hu:
    """Returns the standard deviation of HU over about 9 mm around every voxel within its slice."""
    size = (1, *(2 * [2 * round(4.5 / scene.grid.spacing_mm[1]) + 1]))
    clipped = np.clip(scene.hu, -200, 400)
    mean = ndimage.uniform_filter(clipped, size)
    return np.asarray(
        np.sqrt(np.maximum(ndimage.uniform_filter(clipped * clipped, size) - mean * mean, 0)),
        dtype=np.float32,
    )
