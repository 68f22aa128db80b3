"""Bad input gives one clear error each."""

import numpy as np
import pytest

from engines.errors import FeatureRefused, GeometryMismatch, InvalidInput
from engines.radiomics.features import extract_region
from engines.radiomics.measurement import measure_region
from engines.radiomics.settings import parse_settings
from engines.volume import Grid, Volume
from tests.radiomics_regions import blob, grid, soft_tissue

SHAPE = (9, 11, 13)
IMAGE = Volume(array=soft_tissue(SHAPE, 1), grid=grid(SHAPE))
BALL = blob(SHAPE).astype(np.uint8)
OWN_GRID = parse_settings({})
ONE_MM = parse_settings({"setting": {"resampledPixelSpacing": [1, 1, 1]}})
BOTH = pytest.mark.parametrize("settings", [OWN_GRID, ONE_MM], ids=["own grid", "fixed grid"])


def mask(array, where=None) -> Volume:
    return Volume(array=array, grid=where or grid(SHAPE))


@BOTH
def test_an_empty_mask(settings):
    with pytest.raises(FeatureRefused, match="the mask is empty"):
        extract_region(IMAGE, mask(np.zeros(SHAPE, np.uint8)), settings)


@BOTH
def test_an_absent_label_names_those_present(settings):
    with pytest.raises(FeatureRefused, match=r"label 1 is not in the mask; it holds \[4\]"):
        extract_region(IMAGE, mask(BALL * np.uint8(4)), settings)


@BOTH
def test_a_single_voxel(settings):
    one = np.zeros(SHAPE, np.uint8)
    one[4, 5, 6] = 1
    with pytest.raises(FeatureRefused, match="single voxel"):
        extract_region(IMAGE, mask(one), settings)


def test_too_few_dimensions():
    line = np.zeros(SHAPE, np.uint8)
    line[4, 5, 2:8] = 1
    with pytest.raises(FeatureRefused, match="1 dimension"):
        measure_region(IMAGE, mask(line), OWN_GRID)


def test_too_few_voxels():
    few = parse_settings({"setting": {"minimumROISize": int(BALL.sum())}})
    with pytest.raises(FeatureRefused, match="minimumROISize"):
        measure_region(IMAGE, mask(BALL), few)


def test_a_mask_without_background():
    with pytest.raises(FeatureRefused, match="every voxel"):
        measure_region(IMAGE, mask(np.ones(SHAPE, np.uint8)), OWN_GRID)


@BOTH
def test_a_mask_of_another_shape(settings):
    with pytest.raises(GeometryMismatch, match=r"\(9, 11, 12\)"):
        extract_region(IMAGE, mask(BALL[:, :, :-1], grid((9, 11, 12))), settings)


@BOTH
def test_a_mask_of_another_spacing(settings):
    with pytest.raises(GeometryMismatch, match="mm apart"):
        extract_region(IMAGE, mask(BALL, grid(SHAPE, (1.0, 1.0, 1.1))), settings)


@BOTH
def test_a_mask_outside_the_image(settings):
    far = Grid(shape=SHAPE, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(500.0, 0.0, 0.0))
    with pytest.raises(FeatureRefused, match="outside the image"):
        extract_region(IMAGE, mask(BALL, far), settings)


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(settings, value):
    broken = IMAGE.array.astype(np.float32)
    broken[4, 5, 6] = value
    with pytest.raises(FeatureRefused, match=r"1 of .* not finite"):
        extract_region(Volume(array=broken, grid=IMAGE.grid), mask(BALL), settings)


def test_voxels_that_are_no_numbers_elsewhere_do_not_matter_on_the_own_grid():
    whole = IMAGE.array.astype(np.float32)
    broken = whole.copy()
    broken[0, 0, 0] = np.nan
    found, witness = (
        measure_region(Volume(array=array, grid=IMAGE.grid), mask(BALL), OWN_GRID)
        for array in (broken, whole)
    )
    assert found == witness


def test_more_grey_levels_than_can_be_counted():
    finest = parse_settings({"setting": {"binWidth": 0.001}})
    fractions = Volume(array=np.random.default_rng(0).normal(0, 100, (20, 20, 20)), grid=grid((20, 20, 20)))
    with pytest.raises(FeatureRefused, match="choose wider bins"):
        measure_region(fractions, mask(blob((20, 20, 20)).astype(np.uint8), grid((20, 20, 20))), finest)


def test_a_mask_of_fractions():
    with pytest.raises(InvalidInput, match="integer labels"):
        measure_region(IMAGE, mask(BALL.astype(np.float32)), OWN_GRID)
