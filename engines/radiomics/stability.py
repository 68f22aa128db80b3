"""How far each feature moves when the mask or the grid moves a little: which features can be trusted on this region."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from engines.errors import FeatureRefused
from engines.radiomics.grid import place_grid, sample_mask
from engines.radiomics.measurement import measure_voxels, pick_region
from engines.radiomics.region import cut_region
from engines.radiomics.sampling import sample_points
from engines.radiomics.settings import RadiomicsSettings
from engines.volume import Grid, Volume

FRAGILE_CHANGE = 0.10
"""A feature that moves by more than this share of its value is marked fragile (OURS: the size of a hazard's unit)."""

GRID_SHIFTS = ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5), (0.5, 0.5, 0.5))
"""Moves of the grid in voxels, (z, y, x): at most half a voxel, beyond which a regular grid repeats itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """What small changes do to one feature.

    Attributes:
        name: pyradiomics' name.
        value: on the unmoved grid and mask.
        mask_change: largest change when the region grows or shrinks by one layer of voxels, as a share of the value;
            None where a value is no number.
        grid_change: the same when the grid moves by half a voxel, mask and image with it.
        fragile: one of them exceeds ``FRAGILE_CHANGE``, or is None.
    """

    name: str
    value: float
    mask_change: float | None
    grid_change: float | None
    fragile: bool


def judge_stability(image: Volume, mask: Volume, settings: RadiomicsSettings) -> tuple[Stability, ...]:
    """Returns the stability of every feature of a region.

    The changes are those of perturbation studies: volume adaptation and grid translation. They say nothing of scanner
    or noise.

    Args:
        image: grey values.
        mask: labels on the image's grid; ``settings.label`` is the region.
        settings: what to measure; filters and settings left to pyradiomics are not perturbed.

    Raises:
        FeatureRefused: the settings need pyradiomics itself, or the region cannot be measured; a change under which
            it cannot be measured makes its features None.
        GeometryMismatch: the mask does not lie on the image's grid.

    Source: Zwanenburg et al., Sci Rep 2019;9:614 (translation, volume adaptation).
    """
    if settings.left_to_pyradiomics is not None:
        raise FeatureRefused(
            f"stability is measured by the fast extractor, which cannot do this: {settings.left_to_pyradiomics}"
        )
    inside = pick_region(image, mask, settings)
    grid = _place(inside, settings, (0.0, 0.0, 0.0))
    values = _measure(image, sample_mask(inside, grid), settings)
    layered = [_try(image, changed, settings) for changed in _change_layers(sample_mask(inside, grid))]
    shifted = [
        _try(image, sample_mask(inside, moved), settings)
        for moved in (_place(inside, settings, shift) for shift in GRID_SHIFTS)
    ]
    found = []
    for name, value in values.items():
        mask_change = _find_change(name, value, layered)
        grid_change = _find_change(name, value, shifted)
        steady = mask_change is not None and grid_change is not None
        fragile = not steady or max(mask_change or 0.0, grid_change or 0.0) > FRAGILE_CHANGE
        found.append(
            Stability(
                name=name, value=value, mask_change=mask_change, grid_change=grid_change, fragile=fragile
            )
        )
    return tuple(found)


def _place(inside: Volume, settings: RadiomicsSettings, shift: tuple[float, float, float]) -> Grid:
    """Returns the grid of the settings, or the image's own, moved by a part of a voxel."""
    if settings.spacing_mm is not None:
        return place_grid([inside], settings.spacing_mm, shift=shift)
    grid = inside.grid
    origin = grid.affine() @ np.array([*shift, 1.0])
    return Grid(
        shape=grid.shape,
        spacing_mm=grid.spacing_mm,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        axes=grid.axes,
    )


def _change_layers(mask: Volume) -> Iterator[Volume]:
    """Yields the region with one layer of voxels more, and with one less."""
    from scipy import ndimage

    # A border of one voxel lets the region grow beyond the box that was placed around it.
    grid = mask.grid
    origin = grid.affine() @ np.array([-1.0, -1.0, -1.0, 1.0])
    wide = Grid(
        shape=(grid.shape[0] + 2, grid.shape[1] + 2, grid.shape[2] + 2),
        spacing_mm=grid.spacing_mm,
        origin_mm=(float(origin[0]), float(origin[1]), float(origin[2])),
        axes=grid.axes,
    )
    inside = np.pad(mask.array != 0, 1)
    yield Volume(array=ndimage.binary_dilation(inside), grid=wide)
    yield Volume(array=ndimage.binary_erosion(inside), grid=wide)


def _try(image: Volume, mask: Volume, settings: RadiomicsSettings) -> Mapping[str, float] | None:
    try:
        return _measure(image, mask, settings)
    except FeatureRefused:
        return None


def _measure(image: Volume, mask: Volume, settings: RadiomicsSettings) -> Mapping[str, float]:
    region = cut_region(
        mask, None, minimum_dimensions=settings.minimum_dimensions, minimum_voxels=settings.minimum_voxels
    )
    where = np.flatnonzero(mask.array)
    samples = sample_points(image, (), mask.grid, where, order=settings.interpolation_order)
    # A layer or half a voxel beyond the image takes the values of its edge; the region itself was inside.
    return measure_voxels(samples.values, region, settings)


def _find_change(name: str, value: float, others: list[Mapping[str, float] | None]) -> float | None:
    """Returns the largest change as a share of the larger of the two values; None where one is no number."""
    largest = 0.0
    for other in others:
        if other is None or np.isnan(value) or np.isnan(other[name]):
            return None
        scale = max(abs(value), abs(other[name]))
        if scale > 0:
            largest = max(largest, abs(other[name] - value) / scale)
    return largest
