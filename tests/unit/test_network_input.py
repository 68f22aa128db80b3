"""The network input: one interpolation per phase, the right place, the right scale, nothing mirrored."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

from engines.errors import InvalidInput, RegistrationRefused, SegmentationRefused
from engines.network_input import Preprocessing, network_grid, network_input
from engines.phase import ASSESSED_PHASES, Phase
from engines.volume import Grid, Volume

GRID = Grid(shape=(24, 40, 44), spacing_mm=(5.0, 2.0, 1.5), origin_mm=(-30.0, -40.0, -60.0))
SHARP = Preprocessing(side=16, smoothed=False)


def liver_mask(grid=GRID):
    """A box of liver, indices z 6..17, y 10..29, x 12..33."""
    array = np.zeros(grid.shape, dtype=bool)
    array[6:18, 10:30, 12:34] = True
    return Volume(array=array, grid=grid)


def ramp(grid, gradient=(0.4, -0.3, 0.5), offset=60.0):
    """HU that grow linearly in patient space: trilinear interpolation must give them exactly."""
    indices = np.indices(grid.shape).reshape(3, -1)
    points = grid.affine() @ np.vstack([indices, np.ones(indices.shape[1])])
    hu = offset + np.asarray(gradient) @ points[:3]
    return Volume(array=hu.reshape(grid.shape).astype(np.float32), grid=grid)


def alike(volume):
    """The same volume in all three phases, with identity transforms."""
    identity = sitk.Transform(3, sitk.sitkIdentity)
    return dict.fromkeys(ASSESSED_PHASES, volume), {Phase.ARTERIAL: identity, Phase.DELAYED: identity}


def points_of(grid):
    """Centres of all voxels, shape (3, n), (x, y, z) mm."""
    indices = np.indices(grid.shape).reshape(3, -1)
    return (grid.affine() @ np.vstack([indices, np.ones(indices.shape[1])]))[:3]


def test_the_cube_covers_the_liver_box_and_its_margin():
    cube = network_grid(liver_mask(), Preprocessing(side=10, margin_mm=5.0))
    low = np.array(cube.origin_mm) - np.array(cube.spacing_mm)[::-1] / 2
    high = low + np.array(cube.spacing_mm)[::-1] * 10
    assert low == pytest.approx([-30 + 11.5 * 1.5 - 5, -40 + 9.5 * 2 - 5, -60 + 5.5 * 5 - 5])
    assert high == pytest.approx([-30 + 33.5 * 1.5 + 5, -40 + 29.5 * 2 + 5, -60 + 17.5 * 5 + 5])


def test_a_linear_field_is_interpolated_exactly_and_scaled():
    volumes, transforms = alike(ramp(GRID))
    result = network_input(volumes, transforms, liver_mask(), SHARP)
    assert result.shape == (3, 16, 16, 16)
    assert result.dtype == np.float16
    x, y, z = points_of(network_grid(liver_mask(), SHARP))
    expected = np.clip((60 + 0.4 * x - 0.3 * y + 0.5 * z + 100) / 340, 0, 1).reshape(16, 16, 16)
    assert np.abs(result[0].astype(float) - expected).max() < 1e-3


def test_random_pixels_equal_an_independent_trilinear_interpolation():
    rng = np.random.default_rng(5)
    volume = Volume(array=rng.integers(-90, 230, GRID.shape).astype(np.int16), grid=GRID)
    volumes, transforms = alike(volume)
    result = network_input(volumes, transforms, liver_mask(), SHARP)
    indices = np.linalg.inv(GRID.affine()) @ np.vstack(
        [points_of(network_grid(liver_mask(), SHARP)), np.ones(16**3)]
    )
    witness = map_coordinates(volume.array.astype(float), indices[:3], order=1).reshape(16, 16, 16)
    assert np.abs(result[1].astype(float) * 340 - 100 - witness).max() < 0.3  # float16 has 11 bits


def test_each_phase_is_read_through_its_own_transform():
    shifted = sitk.TranslationTransform(3, (4.0, -6.0, 5.0))  # takes V points to points of the phase
    volumes, transforms = alike(ramp(GRID))
    transforms[Phase.ARTERIAL] = shifted
    result = network_input(volumes, transforms, liver_mask(), SHARP).astype(float)
    step = (0.4 * 4 - 0.3 * -6 + 0.5 * 5) / 340
    assert np.allclose(result[0] - result[1], step, atol=2e-3)
    assert np.array_equal(result[1], result[2])


def test_one_bright_voxel_comes_out_at_its_own_place_also_when_slices_run_downwards():
    array = np.zeros(GRID.shape, dtype=np.int16)
    array[14, 13, 30] = 240
    flipped = Grid(
        shape=GRID.shape,
        spacing_mm=GRID.spacing_mm,
        origin_mm=(-30.0, -40.0, -60.0 + 23 * 5.0),
        axes=((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    cubes = []
    for grid, values, mask in (
        (GRID, array, liver_mask().array),
        (flipped, array[::-1].copy(), liver_mask().array[::-1].copy()),
    ):
        volumes, transforms = alike(Volume(array=values, grid=grid))
        liver = Volume(array=mask, grid=grid)
        cube = network_input(volumes, transforms, liver, Preprocessing(side=32, smoothed=False))[0]
        where = network_grid(liver, Preprocessing(side=32)).affine() @ [
            *np.unravel_index(cube.argmax(), cube.shape),
            1,
        ]
        assert np.abs(where[:3] - (GRID.affine() @ [14, 13, 30, 1])[:3]).max() < 3.0
        cubes.append(cube)
    assert np.array_equal(cubes[0], cubes[1])


def test_smoothing_keeps_the_mean_and_lowers_the_noise_of_a_coarse_cube():
    rng = np.random.default_rng(8)
    fine = Grid(shape=(60, 90, 90), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    mask = np.zeros(fine.shape, dtype=bool)
    mask[10:50, 10:80, 10:80] = True
    noise = Volume(array=(70 + 20 * rng.standard_normal(fine.shape)).astype(np.float32), grid=fine)
    volumes, transforms = alike(noise)
    liver = Volume(array=mask, grid=fine)
    sharp = network_input(volumes, transforms, liver, Preprocessing(side=10, smoothed=False))[0].astype(float)
    soft = network_input(volumes, transforms, liver, Preprocessing(side=10))[0].astype(float)
    assert soft.mean() == pytest.approx(0.5, abs=0.003)
    assert soft.std() < 0.4 * sharp.std()


def test_a_subset_of_phases_gives_its_channels_in_order():
    volumes, transforms = alike(ramp(GRID))
    volumes[Phase.DELAYED] = ramp(GRID, offset=90.0)
    both = Preprocessing(side=8, phases=(Phase.DELAYED, Phase.PORTAL_VENOUS))
    result = network_input(volumes, transforms, liver_mask(), both)
    assert result.shape == (2, 8, 8, 8)
    assert np.all(result[0] > result[1])


def test_what_is_missing_or_does_not_cover_the_liver_is_refused():
    volumes, transforms = alike(ramp(GRID))
    empty = Volume(array=np.zeros(GRID.shape, dtype=bool), grid=GRID)
    with pytest.raises(SegmentationRefused, match="empty"):
        network_input(volumes, transforms, empty, SHARP)
    with pytest.raises(InvalidInput, match="no transform from PORTAL_VENOUS to DELAYED"):
        network_input(volumes, {Phase.ARTERIAL: transforms[Phase.ARTERIAL]}, liver_mask(), SHARP)
    with pytest.raises(InvalidInput, match="no ARTERIAL volume"):
        network_input({Phase.PORTAL_VENOUS: ramp(GRID)}, transforms, liver_mask(), SHARP)
    transforms[Phase.DELAYED] = sitk.TranslationTransform(3, (0.0, 0.0, 60.0))
    with pytest.raises(RegistrationRefused, match=r"DELAYED shows .* of the liver; expected at least 95%"):
        network_input(volumes, transforms, liver_mask(), SHARP)


@pytest.mark.parametrize(
    "values",
    [{"side": 1}, {"hu_window": (100.0, -100.0)}, {"margin_mm": -1.0}, {"phases": ()}],
)
def test_a_preprocessing_that_makes_no_sense_is_refused(values):
    with pytest.raises(InvalidInput):
        Preprocessing(**values)
