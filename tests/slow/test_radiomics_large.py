"""Equality with stock pyradiomics at full size: real series, synthetic anatomy, a million voxels, many random regions."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from engines.errors import FeatureRefused
from engines.phantom.anatomy import abdomen_grid, draw_anatomy, render_masks, render_phase
from engines.phantom.traits import PhantomTraits
from engines.phase import Phase
from engines.radiomics.features import Extractor, extract_features
from engines.radiomics.measurement import measure_region
from engines.radiomics.settings import parse_settings
from engines.radiomics.stock import extract_stock
from engines.volume import Volume
from tests.radiomics_regions import blob, find_differences, grid, organ_cases, soft_tissue

DEFAULTS = parse_settings({})
ONE_MM = parse_settings({"setting": {"resampledPixelSpacing": [1, 1, 1], "binWidth": 25}})


def assert_equal(image: Volume, mask: Volume, chosen=DEFAULTS) -> None:
    assert find_differences(measure_region(image, mask, chosen), extract_stock(image, mask, chosen)) == []


def assert_equal_on_the_fixed_grid(image: Volume, mask: Volume, fewest_voxels: int) -> None:
    found, witness = (
        {
            value.name: value.value
            for value in extract_features(
                {Phase.PORTAL_VENOUS: image}, {}, {"liver": mask}, ONE_MM, extractor=extractor
            ).values
        }
        for extractor in (Extractor.FAST, Extractor.PYRADIOMICS)
    )
    assert len(found) == 107
    assert found["original_shape_VoxelVolume"] > fewest_voxels
    assert find_differences(found, witness) == []


def soft_organ(image: Volume) -> Volume:
    """The largest connected part of an abdomen's soft tissue, a region with a rough border and many levels."""
    candidate = ndimage.binary_opening((image.array > 40) & (image.array < 180), iterations=2)
    labels, _ = ndimage.label(candidate)
    largest = np.bincount(labels.ravel())[1:].argmax() + 1
    return Volume(array=labels == largest, grid=image.grid)


@pytest.mark.data
@pytest.mark.parametrize(
    "series", ["ct-liver-metastases/CRLM-CT-1004", "ct-liver-metastases/CRLM-CT-1006", "ct-hcc-tcga"]
)
def test_a_real_series_at_one_millimetre(series, test_data):
    reader = sitk.ImageSeriesReader()
    folder = next(
        path
        for path in [test_data / series, *sorted((test_data / series).rglob("*"))]
        if path.is_dir() and any(path.glob("*.dcm"))
    )
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = Volume.of_image(sitk.Cast(reader.Execute(), sitk.sitkInt16))
    # A box of the abdomen keeps stock pyradiomics' quadratic diameters in minutes.
    depth, height, width = image.grid.shape
    mask = soft_organ(image)
    inside = np.zeros_like(mask.array)
    box = (slice(depth // 3, 2 * depth // 3), slice(height // 4, height // 2), slice(width // 4, width // 2))
    inside[box] = mask.array[box]
    assert_equal_on_the_fixed_grid(image, Volume(array=inside, grid=image.grid), 10_000)


@pytest.mark.data
def test_every_organ_of_a_real_ct(test_data):
    for _, image, mask in organ_cases(test_data):
        assert_equal(image, mask)


def test_the_liver_of_a_synthetic_patient_at_one_millimetre():
    anatomy = draw_anatomy(PhantomTraits(seed=7, burden=0.5, heterogeneity=1.0, enhancement=0.0, washout=0.0))
    native = abdomen_grid()
    liver, _ = render_masks(anatomy, native)
    assert_equal_on_the_fixed_grid(render_phase(anatomy, Phase.PORTAL_VENOUS, native), liver, 1_000_000)


@pytest.mark.parametrize("deviation", [0.0, 15.0, 120.0], ids=["flat", "parenchyma", "rough"])
def test_a_million_voxels(deviation):
    shape = (120, 130, 140)
    image = soft_tissue(shape, 8, deviation)
    mask = blob(shape, 0.99)
    assert mask.sum() > 1_000_000
    where = grid(shape)
    assert_equal(Volume(array=image, grid=where), Volume(array=mask.astype(np.uint8), grid=where))


def test_a_million_voxels_of_fractions():
    shape = (120, 130, 140)
    image = soft_tissue(shape, 9) + np.random.default_rng(9).random(shape).astype(np.float32)
    where = grid(shape, (1.5, 0.8, 0.8))
    assert_equal(
        Volume(array=image, grid=where), Volume(array=blob(shape, 0.99).astype(np.uint8), grid=where)
    )


@settings(derandomize=True, deadline=None, max_examples=600)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.05, 0.2, 0.5, 0.9, 1.0]),
    st.sampled_from([0.0, 5.0, 20.0, 60.0, 400.0]),
    st.sampled_from([(1.0, 1.0, 1.0), (5.0, 0.7, 0.73), (2.5, 0.9765625, 0.9765625)]),
    st.sampled_from([np.int16, np.int32, np.float32, np.float64]),
    st.sampled_from([{}, {"binCount": 16}, {"binWidth": 3.3}, {"minimumROIDimensions": 1}]),
)
def test_many_random_regions(shape, seed, density, deviation, spacing_mm, pixel_type, setting):
    rng = np.random.default_rng(seed)
    mask = (rng.random(shape) < density).astype(np.uint8)
    values = rng.normal(60, deviation, shape)
    if np.issubdtype(pixel_type, np.integer):
        values = values.round()
    image = Volume(array=values.astype(pixel_type), grid=grid(shape, spacing_mm))
    chosen = parse_settings({"setting": setting} if setting else {})
    region = Volume(array=mask, grid=image.grid)
    try:
        witness = extract_stock(image, region, chosen)
    except FeatureRefused:
        with pytest.raises(FeatureRefused):
            measure_region(image, region, chosen)
        return
    assert find_differences(measure_region(image, region, chosen), witness) == []
