"""The fixed grid: it does not move with crops, and its one interpolation is ITK's."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import SimpleITK as sitk

from engines.errors import FeatureRefused
from engines.phase import ASSESSED_PHASES, Phase
from engines.radiomics.deformation import FieldStep, LinearStep, SplineStep, move_points, read_steps
from engines.radiomics.feature_file import read_features, write_features
from engines.radiomics.features import Extractor, MaskSource, extract_features
from engines.radiomics.grid import place_grid, sample_mask
from engines.radiomics.sampling import sample_points
from engines.radiomics.settings import parse_settings
from engines.volume import Grid, Volume, resample
from tests.radiomics_regions import blob, find_differences, soft_tissue

NATIVE = Grid(shape=(24, 60, 64), spacing_mm=(4.0, 1.5, 1.4), origin_mm=(-50.3, -71.7, 102.1))
ONE_MM = parse_settings({"setting": {"resampledPixelSpacing": [1, 1, 1], "binWidth": 25}})


def centred(shape=(8, 22, 20)) -> np.ndarray:
    """A blob in the middle of the native grid, well inside."""
    array = np.zeros(NATIVE.shape, np.bool_)
    start = [(n - m) // 2 for n, m in zip(NATIVE.shape, shape, strict=True)]
    array[tuple(slice(a, a + m) for a, m in zip(start, shape, strict=True))] = blob(shape)
    return array


LIVER = Volume(array=centred(), grid=NATIVE)
TUMOUR = Volume(array=centred((5, 12, 11)), grid=NATIVE)
IMAGE = Volume(array=soft_tissue(NATIVE.shape, 4), grid=NATIVE)


def rigid() -> sitk.Transform:
    turn = sitk.Euler3DTransform()
    turn.SetCenter((0.0, -30.0, 150.0))
    turn.SetRotation(0.03, -0.02, 0.05)
    turn.SetTranslation((1.2, -2.1, 3.3))
    return turn


def spline() -> sitk.Transform:
    bend = sitk.BSplineTransformInitializer(IMAGE.to_image(), [4, 5, 3], order=3)
    parameters = np.random.default_rng(0).normal(0, 1.0, len(bend.GetParameters()))
    bend.SetParameters(parameters.tolist())
    return bend


def test_points_of_the_grid_are_multiples_of_the_spacing():
    grid = place_grid([LIVER], (1.0, 1.0, 1.0))
    assert np.array_equal(np.asarray(grid.origin_mm), np.round(grid.origin_mm))
    inside = np.argwhere(LIVER.array)
    centres = inside @ np.diag(NATIVE.spacing_mm) + np.asarray(NATIVE.origin_mm)[::-1]
    low = np.asarray(grid.origin_mm)[::-1]
    assert (low <= centres.min(0)).all()
    assert (low + np.asarray(grid.shape) - 1 >= centres.max(0)).all()


@pytest.mark.parametrize(
    ("transform", "kinds"),
    [
        (sitk.Transform(3, sitk.sitkIdentity), [LinearStep]),
        (rigid(), [LinearStep]),
        (sitk.CompositeTransform([rigid(), spline()]), [SplineStep, LinearStep]),
        (sitk.CompositeTransform([spline(), rigid()]), [LinearStep, SplineStep]),
        (
            sitk.DisplacementFieldTransform(
                sitk.TransformToDisplacementField(
                    spline(), sitk.sitkVectorFloat64, (64, 60, 24), NATIVE.origin_mm, (1.4, 1.5, 4.0)
                )
            ),
            [FieldStep],
        ),
    ],
    ids=["identity", "rigid", "rigid after spline", "spline after rigid", "field"],
)
def test_points_move_as_the_transform_moves_them(transform, kinds):
    grid = place_grid([LIVER], (3.0, 3.0, 3.0))
    where = np.arange(int(np.prod(grid.shape)))[::37]
    steps = read_steps(transform, grid)
    assert [type(step) for step in steps] == kinds
    moved = move_points(steps, grid, where).T
    affine = grid.affine()
    indices = np.stack(np.unravel_index(where, grid.shape), axis=1)
    witness = [
        transform.TransformPoint((affine[:3, :3] @ index + affine[:3, 3]).tolist()) for index in indices
    ]
    assert np.abs(moved - np.asarray(witness)).max() < 1e-9


def test_spline_beyond_its_domain_moves_nothing():
    far = Grid(shape=(6, 6, 6), spacing_mm=(9.0, 9.0, 9.0), origin_mm=(30.0, 10.0, 180.0))
    where = np.arange(216)
    bend = spline()
    moved = move_points(read_steps(bend, far), far, where).T
    affine = far.affine()
    indices = np.stack(np.unravel_index(where, far.shape), axis=1)
    witness = [bend.TransformPoint((affine[:3, :3] @ index + affine[:3, 3]).tolist()) for index in indices]
    assert np.abs(moved - np.asarray(witness)).max() < 1e-9


@pytest.mark.parametrize("transform", [None, sitk.CompositeTransform([rigid(), spline()])])
def test_the_interpolation_is_that_of_itk(transform):
    floating = Volume(array=IMAGE.array.astype(np.float64), grid=NATIVE)
    grid = place_grid([LIVER], (1.0, 1.0, 1.0))
    where = np.flatnonzero(sample_mask(LIVER, grid).array)
    steps = () if transform is None else read_steps(transform, grid)
    ours = sample_points(floating, steps, grid, where).values
    image = sitk.Resample(
        floating.to_image(),
        grid.image(),
        transform or sitk.Transform(),
        sitk.sitkBSpline,
        0.0,
        sitk.sitkFloat64,
    )
    # ITK sums the spline's prefilter only until its terms fall below 1e-10 of the value.
    assert np.abs(ours - sitk.GetArrayFromImage(image).ravel()[where]).max() < 1e-7


def test_hounsfield_units_stay_whole_numbers():
    grid = place_grid([LIVER], (1.0, 1.0, 1.0))
    where = np.flatnonzero(sample_mask(LIVER, grid).array)
    whole = sample_points(IMAGE, (), grid, where).values
    exact = sample_points(Volume(array=IMAGE.array.astype(np.float64), grid=NATIVE), (), grid, where).values
    assert whole.dtype == np.int32
    assert np.abs(whole - exact).max() <= 0.5 + 1e-6


def test_halves_on_a_ramp_are_rounded_alike_however_they_are_reached():
    ramp = np.broadcast_to(np.arange(40, dtype=np.int16) * 3, (40, 40, 40)).copy()
    native = Grid(shape=(40, 40, 40), spacing_mm=(2.0, 2.0, 2.0), origin_mm=(0.1, 0.1, 0.1))
    points = Grid(shape=(20, 20, 20), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(31.1, 31.1, 31.1))
    everywhere = np.arange(20**3)
    along_axes = sample_points(Volume(array=ramp, grid=native), (), points, everywhere).values
    few = everywhere[::23]
    one_by_one = sample_points(Volume(array=ramp, grid=native), (), points, few).values
    cut = Grid(shape=(40, 38, 37), spacing_mm=(2.0, 2.0, 2.0), origin_mm=(6.1, 4.1, 0.1))
    cropped = sample_points(Volume(array=ramp[:, 2:, 3:], grid=cut), (), points, everywhere).values
    assert np.array_equal(along_axes[few], one_by_one)
    assert np.array_equal(along_axes, cropped)
    halves = along_axes.reshape(20, 20, 20)[0, 0, ::2]
    assert np.array_equal(halves, np.arange(10) * 3 + 47)  # 46.5 and every third after it, each up


def test_cropping_the_series_moves_no_value():
    shape = (90, 100, 110)
    grid = Grid(shape=shape, spacing_mm=(1.7, 1.3, 1.3), origin_mm=(0.4, 0.2, 0.1))
    noise = np.random.default_rng(1).normal(0, 1000, shape)
    points = Grid(shape=(12, 12, 12), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(60.0, 60.0, 70.0))
    where = np.arange(12**3)
    whole = sitk.GetArrayFromImage(
        sitk.Resample(
            Volume(array=noise, grid=grid).to_image(),
            points.image(),
            sitk.Transform(),
            sitk.sitkBSpline,
            0.0,
            sitk.sitkFloat64,
        )
    )
    cropped = sample_points(Volume(array=noise, grid=grid), (), points, where).values
    assert np.abs(cropped - whole.ravel()).max() < 1e-9 * 1000


def test_a_cropped_study_has_the_same_features():
    whole = extract_features({Phase.PORTAL_VENOUS: IMAGE}, {}, {"tumour": TUMOUR}, ONE_MM)
    cut = (slice(2, 22), slice(5, 56), slice(3, 60))
    origin = NATIVE.affine() @ np.array([2.0, 5.0, 3.0, 1.0])
    smaller = Grid(shape=(20, 51, 57), spacing_mm=NATIVE.spacing_mm, origin_mm=tuple(origin[:3].tolist()))
    cropped = extract_features(
        {Phase.PORTAL_VENOUS: Volume(array=IMAGE.array[cut], grid=smaller)},
        {},
        {"tumour": Volume(array=TUMOUR.array[cut], grid=smaller)},
        ONE_MM,
    )
    apart = [
        (a.name, a.value, b.value)
        for a, b in zip(whole.values, cropped.values, strict=True)
        if not np.isclose(a.value, b.value, rtol=1e-9, atol=0)
    ]
    assert apart == []


def test_every_phase_and_region_lies_on_one_grid_and_equals_pyradiomics():
    transforms = {Phase.ARTERIAL: sitk.CompositeTransform([rigid(), spline()]), Phase.DELAYED: rigid()}
    volumes = {
        phase: Volume(array=soft_tissue(NATIVE.shape, seed), grid=NATIVE)
        for seed, phase in enumerate(ASSESSED_PHASES)
    }
    regions = {"liver": LIVER, "tumour": TUMOUR}
    sources = {"liver": MaskSource(provider="reader", version="2")}
    ours = extract_features(volumes, transforms, regions, ONE_MM, sources=sources)
    stock = extract_features(volumes, transforms, regions, ONE_MM, extractor=Extractor.PYRADIOMICS)
    assert ours.refusals == stock.refusals == ()
    assert len(ours.values) == 2 * 14 + 3 * 2 * 93
    assert len({value.origin.grid for value in ours.values}) == 1
    assert {value.origin.settings_sha256 for value in ours.values} == {ONE_MM.sha256}
    assert {value.origin.source.provider for value in ours.values if value.region == "liver"} == {"reader"}
    for region in regions:
        for phase in (None, *ASSESSED_PHASES):
            found, witness = (
                {v.name: v.value for v in table.values if v.region == region and v.phase == phase}
                for table in (ours, stock)
            )
            assert len(found) == (14 if phase is None else 93)
            assert find_differences(found, witness) == []


def test_an_executor_changes_nothing_but_the_time():
    volumes = {Phase.ARTERIAL: IMAGE, Phase.DELAYED: Volume(array=soft_tissue(NATIVE.shape, 7), grid=NATIVE)}
    regions = {"liver": LIVER, "tumour": TUMOUR, "empty": Volume(array=LIVER.array & False, grid=NATIVE)}
    alone = extract_features(volumes, {Phase.ARTERIAL: rigid()}, regions, ONE_MM)
    with ThreadPoolExecutor(2) as pool:
        together = extract_features(volumes, {Phase.ARTERIAL: rigid()}, regions, ONE_MM, executor=pool)
    assert together == alone


def test_a_phase_that_does_not_cover_a_region_refuses_that_region_alone():
    low = NATIVE.affine() @ np.array([10.0, 0.0, 0.0, 1.0])
    half = Grid(shape=(14, 60, 64), spacing_mm=NATIVE.spacing_mm, origin_mm=tuple(low[:3].tolist()))
    volumes = {
        Phase.ARTERIAL: Volume(array=IMAGE.array[10:], grid=half),
        Phase.PORTAL_VENOUS: IMAGE,
    }
    upper = Volume(array=TUMOUR.array & (np.arange(24) >= 11)[:, None, None], grid=NATIVE)
    table = extract_features(volumes, {}, {"liver": LIVER, "tumour": upper}, ONE_MM)
    assert [(refusal.region, refusal.phase) for refusal in table.refusals] == [("liver", Phase.ARTERIAL)]
    assert "outside the image" in table.refusals[0].reason
    assert table.find("tumour", Phase.ARTERIAL, "original_glcm_Imc1") is not None
    assert table.find("liver", Phase.ARTERIAL, "original_glcm_Imc1") is None
    assert table.find("liver", Phase.PORTAL_VENOUS, "original_glcm_Imc1") is not None


def test_an_empty_region_is_a_refusal_beside_the_others():
    empty = Volume(array=np.zeros(NATIVE.shape, np.bool_), grid=NATIVE)
    table = extract_features({Phase.DELAYED: IMAGE}, {}, {"tumour": empty, "liver": TUMOUR}, ONE_MM)
    assert [refusal.region for refusal in table.refusals] == ["tumour"]
    assert {value.region for value in table.values} == {"liver"}
    with pytest.raises(FeatureRefused, match="empty"):
        extract_features({Phase.DELAYED: IMAGE}, {}, {"tumour": empty}, ONE_MM)


def test_filters_are_left_to_pyradiomics_on_the_same_grid():
    filtered = parse_settings(
        {
            "imageType": {"Original": {}, "LoG": {"sigma": [2.0]}},
            "featureClass": {"firstorder": ["Mean"]},
            "setting": {"resampledPixelSpacing": [1, 1, 1], "binWidth": 25},
        }
    )
    table = extract_features({Phase.PORTAL_VENOUS: IMAGE}, {}, {"tumour": TUMOUR}, filtered)
    assert {value.name for value in table.values} == {
        "original_firstorder_Mean",
        "log-sigma-2-0-mm-3D_firstorder_Mean",
    }
    assert {value.origin.extractor for value in table.values} == {Extractor.PYRADIOMICS}
    plain = extract_features({Phase.PORTAL_VENOUS: IMAGE}, {}, {"tumour": TUMOUR}, ONE_MM)
    assert table.find("tumour", Phase.PORTAL_VENOUS, "original_firstorder_Mean") == pytest.approx(
        plain.find("tumour", Phase.PORTAL_VENOUS, "original_firstorder_Mean"), rel=1e-12
    )


@pytest.mark.parametrize("turned", [False, True], ids=["straight", "oblique"])
def test_the_mask_on_the_grid_is_that_of_nearest_neighbour_resampling(turned):
    angle = 0.2 if turned else 0.0
    axes = ((0.0, 0.0, 1.0), (-np.sin(angle), np.cos(angle), 0.0), (np.cos(angle), np.sin(angle), 0.0))
    native = Grid(shape=NATIVE.shape, spacing_mm=NATIVE.spacing_mm, origin_mm=NATIVE.origin_mm, axes=axes)
    # This spacing puts no point halfway between two voxels, where ITK's answer hangs on rounding.
    grid = place_grid([Volume(array=LIVER.array, grid=native)], (1.03, 0.97, 1.01))
    witness = resample(
        Volume(array=LIVER.array.astype(np.uint8), grid=native),
        grid,
        interpolator=sitk.sitkNearestNeighbor,
        outside=0,
    )
    found = sample_mask(Volume(array=LIVER.array, grid=native), grid)
    assert found.array.dtype == np.bool_
    assert np.array_equal(found.array, witness.array != 0)


def test_the_file_gives_back_every_value_with_its_origin(tmp_path):
    table = extract_features({Phase.PORTAL_VENOUS: IMAGE}, {}, {"tumour": TUMOUR}, ONE_MM)
    path = tmp_path / "features.csv"
    write_features(table, path)
    lines = read_features(path)
    assert [(line.feature, line.value, line.phase) for line in lines] == [
        (value.name, value.value, value.phase) for value in table.values
    ]
    assert {line.settings_sha256 for line in lines} == {ONE_MM.sha256}
    assert {line.grid for line in lines} == {
        "spacing (1.0, 1.0, 1.0) mm, size (15, 17, 14), first voxel (-14.0, -35.0, 140.0) mm"
    }
