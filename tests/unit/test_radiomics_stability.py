"""Stability under small changes of mask and grid: what is known to be steady is steady, what is fragile is marked."""

import numpy as np
import pytest

from engines.errors import FeatureRefused
from engines.radiomics.names import FEATURE_NAMES
from engines.radiomics.settings import parse_settings
from engines.radiomics.stability import FRAGILE_CHANGE, judge_stability
from engines.volume import Volume
from tests.radiomics_regions import blob, grid, soft_tissue

SHAPE = (20, 24, 24)
SPACING_MM = (2.0, 1.5, 1.5)
ONE_MM = parse_settings({"setting": {"resampledPixelSpacing": [1, 1, 1]}})
OWN_GRID = parse_settings({})


def ball() -> Volume:
    array = np.zeros(SHAPE, np.uint8)
    array[3:17, 4:20, 4:20] = blob((14, 16, 16))
    return Volume(array=array, grid=grid(SHAPE, SPACING_MM))


def tissue() -> Volume:
    return Volume(array=soft_tissue(SHAPE, 5), grid=grid(SHAPE, SPACING_MM))


@pytest.mark.parametrize("settings", [ONE_MM, OWN_GRID], ids=["fixed grid", "own grid"])
def test_every_feature_is_judged(settings):
    found = judge_stability(tissue(), ball(), settings)
    assert len(found) == sum(len(names) for names in FEATURE_NAMES.values())
    for item in found:
        changes = (item.mask_change, item.grid_change)
        assert item.fragile == (None in changes or max(changes) > FRAGILE_CHANGE)
    judged = {item.name: item for item in found}
    # One layer of voxels is a large part of a small ball's volume, and little of its mean.
    assert judged["original_shape_VoxelVolume"].fragile
    assert not judged["original_firstorder_Mean"].fragile


def test_a_flat_region_owes_nothing_to_the_grid():
    flat = Volume(array=np.full(SHAPE, 60, np.int16), grid=grid(SHAPE, SPACING_MM))
    judged = {item.name: item for item in judge_stability(flat, ball(), ONE_MM)}
    assert judged["original_firstorder_Mean"].grid_change == 0
    assert judged["original_firstorder_Mean"].mask_change == 0
    assert judged["original_firstorder_Entropy"].grid_change == pytest.approx(0, abs=1e-9)


def test_a_region_that_vanishes_when_it_shrinks_is_fragile_throughout():
    thin = np.zeros(SHAPE, np.uint8)
    thin[9, 5:15, 5:15] = 1
    found = judge_stability(tissue(), Volume(array=thin, grid=grid(SHAPE, SPACING_MM)), OWN_GRID)
    assert all(item.fragile and item.mask_change is None for item in found)


def test_filters_are_not_perturbed_but_refused():
    filtered = parse_settings({"imageType": {"Wavelet": {}}})
    with pytest.raises(FeatureRefused, match="Wavelet"):
        judge_stability(tissue(), ball(), filtered)
