"""The spine: the frame in which the organs are sought."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from engines.anatomy.shapes import Hu, Mask, around, mean_disc, track, track_step
from engines.volume import Grid


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SpineFrame:
    """Where the spine is in each slice; organs are sought relative to it.

    Attributes:
        canal: (y, x) index of the spinal canal in each slice, shape (z, 2).
        front_mm: distance from the canal to the front edge of the vertebral body in each slice, mm, shape (z,).
        left_mm: distance of every voxel from the canal towards the patient's left, mm.
        back_mm: distance of every voxel from the canal towards the back, mm.
    """

    canal: npt.NDArray[np.int_]
    front_mm: npt.NDArray[np.float64]
    left_mm: Hu
    back_mm: Hu

    def vertebra(self, margin_mm: float) -> Mask:
        """Returns the vertebral body as an ellipse in each slice, enlarged by a margin, mm, with all behind it."""
        half_mm = (self.front_mm - 6.0)[:, None, None] / 2
        center = -6.0 - half_mm
        ellipse = (self.left_mm / (25.0 + margin_mm)) ** 2 + (
            (self.back_mm - center) / (half_mm + margin_mm)
        ) ** 2
        behind = (np.abs(self.left_mm) < 25.0 + margin_mm) & (self.back_mm > center)
        return (ellipse < 1) | behind


def find_spine(hu: Hu, body: Mask, grid: Grid) -> SpineFrame | None:
    """Returns the spine, tracked by its canal: a dark disc in a ring of bone near the middle of the back.

    Args:
        hu: HU on the working grid.
        body: the body.
        grid: the working grid.
    """
    pixel_mm = grid.spacing_mm[1]
    clipped = np.clip(hu, 0, 500)
    inner = mean_disc(clipped, 4.0, pixel_mm)
    ring = [shifted for radius in (11.0, 14.0) for shifted in around(clipped, radius, pixel_mm)]
    wall = np.sort(np.stack(ring), axis=0)[len(ring) // 4 :].mean(axis=0)
    score = np.where((inner > 0) & (inner < 130), wall - inner, -500.0)
    score = np.where(_middle_of_back(body, pixel_mm), score, -1000.0)
    canal = track(score, step=track_step(grid, 3.0))
    height = np.arange(len(canal))
    found = score[height, canal[:, 0], canal[:, 1]]
    if np.median(found) < 60:
        return None
    _, rows, columns = np.indices(hu.shape, dtype=np.float32)
    left_mm = (columns - canal[:, 1][:, None, None].astype(np.float32)) * np.float32(pixel_mm)
    back_mm = (rows - canal[:, 0][:, None, None].astype(np.float32)) * np.float32(pixel_mm)
    front = np.array(
        [_front_of_vertebra(plane, place, pixel_mm) for plane, place in zip(hu, canal, strict=True)]
    )
    window = max(3, round(40 / grid.spacing_mm[0]))
    return SpineFrame(
        canal=canal,
        front_mm=ndimage.median_filter(front, size=window, mode="nearest"),
        left_mm=left_mm,
        back_mm=back_mm,
    )


def _middle_of_back(body: Mask, pixel_mm: float) -> Mask:
    """Returns where the spinal canal can be: within 40 mm of the body's middle, in the back half."""
    allowed = np.zeros_like(body)
    for k, plane in enumerate(body):
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        if rows.size == 0:
            continue
        middle, reach = (columns[0] + columns[-1]) / 2, 40 / pixel_mm
        front = int(rows[0] + 0.45 * (rows[-1] - rows[0]))
        allowed[k, front : rows[-1], max(0, int(middle - reach)) : int(middle + reach) + 1] = True
    return allowed


def _front_of_vertebra(plane: Hu, canal: npt.NDArray[np.int_], pixel_mm: float) -> float:
    """Returns how far in front of the canal the vertebral body ends, mm, 30 to 46: where bone or disc turns to soft tissue."""
    y, x = int(canal[0]), int(canal[1])
    reach = int(55 / pixel_mm)
    half = max(1, round(6 / pixel_mm))
    columns = plane[max(0, y - reach) : y, max(0, x - half) : x + half + 1]
    if columns.size == 0:
        return 38.0
    profile = np.median(columns, axis=1)[::-1]  # from the canal towards the front
    first = int(24 / pixel_mm)
    low = np.flatnonzero(profile[first:] < 95)
    edge = (first + int(low[0])) * pixel_mm if low.size else 46.0
    return float(np.clip(edge, 30.0, 46.0))
