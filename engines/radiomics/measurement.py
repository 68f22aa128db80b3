"""Every feature of one region whose grey values are known: the classes put together under pyradiomics' names."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.errors import FeatureRefused
from engines.radiomics.cooccurrence import measure_cooccurrence
from engines.radiomics.count_features import measure_dependents, measure_runs, measure_zones
from engines.radiomics.discretisation import discretise
from engines.radiomics.first_order import measure_first_order
from engines.radiomics.matrices import count_lines, count_neighbourhoods, count_zones
from engines.radiomics.names import SHAPE, full_name
from engines.radiomics.region import Region, check_geometry, cut_region, overlap, read_voxels
from engines.radiomics.settings import RadiomicsSettings
from engines.radiomics.shape import measure_shape
from engines.radiomics.stock import extract_stock, normalise
from engines.radiomics.tone_difference import measure_tone_differences
from engines.volume import Volume


def measure_region(image: Volume, mask: Volume, settings: RadiomicsSettings) -> Mapping[str, float]:
    """Returns the features of one region on the image's own grid, without resampling, under pyradiomics' names.

    Args:
        image: grey values.
        mask: labels on the same grid; ``settings.label`` is the region.
        settings: what to measure; its grid is not used.

    Raises:
        FeatureRefused: the region cannot be measured.
        GeometryMismatch: image and mask do not lie on one grid.
    """
    check_geometry(image.grid, mask.grid)
    if settings.left_to_pyradiomics is not None:
        return extract_stock(normalise(image, settings), mask, settings)
    if mask.array.all():
        raise FeatureRefused("the mask marks every voxel of the image; no region is told from a background")
    region = cut_region(
        mask,
        settings.label,
        minimum_dimensions=settings.minimum_dimensions,
        minimum_voxels=settings.minimum_voxels,
    )
    voxels = read_voxels(image.array, region, "the image")
    return measure_voxels(voxels, region, settings)


def pick_region(image: Volume, mask: Volume, settings: RadiomicsSettings) -> Volume:
    """Returns the settings' label as a bool mask on the image's grid.

    Raises:
        FeatureRefused: the mask lies outside the image, the label is absent, or the region is too small.
        GeometryMismatch: the mask does not lie on the image's grid.
    """
    region = cut_region(
        mask,
        settings.label,
        minimum_dimensions=settings.minimum_dimensions,
        minimum_voxels=settings.minimum_voxels,
    )
    if not overlap(region.grid, image.grid):
        raise FeatureRefused("the region lies outside the image; the mask was made on another one")
    check_geometry(image.grid, mask.grid)
    read_voxels(image.array, region, "the image")
    inside = np.zeros(mask.grid.shape, dtype=np.bool_)
    inside[region.box] = region.mask
    return Volume(array=inside, grid=image.grid)


def measure_voxels(
    voxels: npt.NDArray[Any], region: Region, settings: RadiomicsSettings
) -> Mapping[str, float]:
    """Returns the features of a region whose grey values are given, shape (voxels,), in (z, y, x) order.

    Raises:
        FeatureRefused: there are more grey levels than can be counted.
    """
    return {**measure_shape_features(region, settings), **measure_grey_values(voxels, region, settings)}


def measure_shape_features(region: Region, settings: RadiomicsSettings) -> Mapping[str, float]:
    """Returns the chosen features of the class shape; nothing when it is not among the settings' classes."""
    chosen = dict(settings.features).get(SHAPE)
    if chosen is None:
        return {}
    found = measure_shape(region.mask, region.grid.spacing_mm)
    return {full_name(SHAPE, name): found[name] for name in chosen}


def measure_grey_values(
    voxels: npt.NDArray[Any], region: Region, settings: RadiomicsSettings
) -> Mapping[str, float]:
    """Returns the features of every class but shape, in the settings' order."""
    chosen = {name: features for name, features in settings.features if name != SHAPE}
    if not chosen:
        return {}
    levels = discretise(voxels, region, bin_width=settings.bin_width, bin_count=settings.bin_count)
    found: dict[str, Mapping[str, float]] = {}
    if "firstorder" in chosen:
        found["firstorder"] = measure_first_order(
            voxels, levels, voxel_volume_mm3=float(np.prod(region.grid.spacing_mm)), shift=settings.shift
        )
    if "glcm" in chosen or "glrlm" in chosen:
        lines = count_lines(levels)
        found["glcm"] = measure_cooccurrence(lines.pairs, levels)
        found["glrlm"] = measure_runs(lines.runs, levels)
    if "gldm" in chosen or "ngtdm" in chosen:
        neighbourhoods = count_neighbourhoods(levels)
        found["gldm"] = measure_dependents(neighbourhoods.dependents, levels)
        found["ngtdm"] = measure_tone_differences(neighbourhoods.differences, levels)
    if "glszm" in chosen:
        found["glszm"] = measure_zones(*count_zones(levels), levels)
    return {
        full_name(feature_class, name): found[feature_class][name]
        for feature_class, names in chosen.items()
        for name in names
    }
