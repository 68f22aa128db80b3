"""Shapes on the working grid: discs, pieces, tracks through slices."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from engines.volume import Grid

Mask = npt.NDArray[np.bool_]
Hu = npt.NDArray[np.float32]


def track(score: Hu, *, step: int) -> npt.NDArray[np.int_]:
    """Returns the path (y, x) through all slices with the greatest sum of scores, shape (z, 2).

    Args:
        score: shape (z, y, x).
        step: how far the path may move from slice to slice, pixels.
    """
    sums = [score[0].astype(np.float64)]
    for plane in score[1:]:
        sums.append(plane + ndimage.maximum_filter(sums[-1], size=2 * step + 1))
    y, x = (int(n) for n in np.unravel_index(int(sums[-1].argmax()), sums[-1].shape))
    path = [(y, x)]
    for plane in sums[-2::-1]:
        y0, x0 = max(0, y - step), max(0, x - step)
        window = plane[y0 : y + step + 1, x0 : x + step + 1]
        dy, dx = np.unravel_index(int(window.argmax()), window.shape)
        y, x = y0 + int(dy), x0 + int(dx)
        path.append((y, x))
    return np.array(path[::-1])


def largest_part(mask: Mask) -> Mask:
    """Returns the largest connected piece of a mask of two or three dimensions."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def disc(radius_mm: float, pixel_mm: float) -> Mask:
    """Returns a filled circle of pixels, shape (n, n), n odd.

    Args:
        radius_mm: radius, mm.
        pixel_mm: pixel edge, mm.
    """
    reach = int(np.ceil(radius_mm / pixel_mm))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1] * pixel_mm
    return np.asarray(y * y + x * x <= radius_mm * radius_mm)


def mean_disc(hu: Hu, radius_mm: float, pixel_mm: float) -> Hu:
    """Returns the mean over a disc about every pixel."""
    kernel = disc(radius_mm, pixel_mm)[None].astype(np.float32)
    return np.asarray(ndimage.convolve(hu, kernel / kernel.sum(), mode="nearest"), dtype=np.float32)


def around(hu: Hu, radius_mm: float, pixel_mm: float) -> list[Hu]:
    """Returns the values at sixteen places on a circle about every pixel (the border wraps; nothing is sought there)."""
    angles = np.arange(16) * np.pi / 8
    steps = np.rint(radius_mm / pixel_mm * np.stack([np.sin(angles), np.cos(angles)], axis=1)).astype(int)
    return [np.roll(hu, (-int(dy), -int(dx)), axis=(1, 2)) for dy, dx in steps]


def track_step(grid: Grid, per_slice_mm: float) -> int:
    """Returns how many pixels a track may move between slices: at least one, more for thick slices."""
    return max(1, round(max(per_slice_mm, 0.6 * grid.spacing_mm[0]) / grid.spacing_mm[1]))
