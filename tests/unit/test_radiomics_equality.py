"""Our features are stock pyradiomics' features, number by number, on regions of every awkward form."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import FeatureRefused
from engines.radiomics.measurement import measure_region
from engines.radiomics.names import FEATURE_NAMES
from engines.radiomics.settings import parse_settings
from engines.radiomics.stock import extract_stock
from engines.volume import Volume
from tests.radiomics_regions import awkward_cases, find_differences, grid, organ_cases

DEFAULTS = parse_settings({})
CASES = {name: (image, mask) for name, image, mask in awkward_cases()}


def test_the_names_are_the_107_of_pyradiomics():
    assert sum(len(names) for names in FEATURE_NAMES.values()) == 107


@pytest.mark.parametrize("name", CASES)
def test_awkward_regions_have_pyradiomics_values(name):
    image, mask = CASES[name]
    found = measure_region(image, mask, DEFAULTS)
    assert find_differences(found, extract_stock(image, mask, DEFAULTS)) == []


@pytest.mark.data
@pytest.mark.parametrize("organ", ["organ 5", "organ 1", "organ 63"])
def test_organs_of_a_real_ct_have_pyradiomics_values(organ, test_data):
    image, mask = next((i, m) for name, i, m in organ_cases(test_data) if name == organ)
    found = measure_region(image, mask, DEFAULTS)
    assert find_differences(found, extract_stock(image, mask, DEFAULTS)) == []


@pytest.mark.parametrize(
    "setting",
    [
        {"binCount": 16},
        {"binWidth": 3.3},
        {"binWidth": 10, "voxelArrayShift": 300},
        {"minimumROIDimensions": 3},
    ],
)
def test_other_settings_have_pyradiomics_values(setting):
    image, mask = CASES["float32"]
    chosen = parse_settings({"setting": setting})
    assert find_differences(measure_region(image, mask, chosen), extract_stock(image, mask, chosen)) == []


def test_a_choice_of_features_gives_these_alone():
    image, mask = CASES["flat"]
    chosen = parse_settings({"featureClass": {"glcm": ["Imc1", "MCC"], "shape": None}})
    found = measure_region(image, mask, chosen)
    assert len(found) == 16
    assert find_differences(found, extract_stock(image, mask, chosen)) == []


@st.composite
def regions(draw):
    """A random mask and image of a few hundred voxels; a corner voxel stays outside, as pyradiomics wants."""
    shape = tuple(draw(st.integers(1, 7)) for _ in range(3))
    seed = draw(st.integers(0, 2**32 - 1))
    density = draw(st.sampled_from([0.1, 0.4, 0.8, 1.0]))
    deviation = draw(st.sampled_from([0.0, 12.0, 60.0, 400.0]))
    spacing_mm = draw(st.sampled_from([(1.0, 1.0, 1.0), (5.0, 0.7, 0.73), (2.5, 0.9765625, 0.9765625)]))
    rng = np.random.default_rng(seed)
    mask = (rng.random(shape) < density).astype(np.uint8)
    mask = np.pad(mask, ((0, 1), (0, 0), (0, 0)))
    image = rng.normal(60, deviation, mask.shape)
    image = image.round().astype(np.int16) if draw(st.booleans()) else image.astype(np.float32)
    where = grid(mask.shape, spacing_mm)
    return Volume(array=image, grid=where), Volume(array=mask, grid=where)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(regions())
def test_random_regions_have_pyradiomics_values_or_its_refusal(region):
    image, mask = region
    try:
        witness = extract_stock(image, mask, DEFAULTS)
    except FeatureRefused:
        with pytest.raises(FeatureRefused):
            measure_region(image, mask, DEFAULTS)
        return
    assert find_differences(measure_region(image, mask, DEFAULTS), witness) == []


def test_pyradiomics_gives_nan_where_we_do():
    image, mask = CASES["two voxels apart"]
    found = measure_region(image, mask, DEFAULTS)
    witness = extract_stock(image, mask, DEFAULTS)
    absent = {name for name, value in found.items() if math.isnan(value)}
    assert absent
    assert absent == {name for name, value in witness.items() if math.isnan(value)}
