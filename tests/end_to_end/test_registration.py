"""Alignment: its direction, its inverse, its file, what it recovers, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from engines.errors import InvalidInput, RegistrationRefused
from engines.phantom.anatomy import PhantomTraits, abdomen_grid, draw_anatomy, render_phase
from engines.phase import Phase
from engines.registration import align, invert, read_transform, write_transform
from engines.volume import Grid, Volume, resample
from tests.stored_order import store

SMALL = abdomen_grid(pixel_mm=4.0, slice_mm=5.0, columns=96, slices=48)
BOX = Grid(shape=(20, 24, 24), spacing_mm=(10.0, 10.0, 10.0), origin_mm=(-120.0, -120.0, -100.0))
PATIENT = PhantomTraits(seed=4, burden=0.5, heterogeneity=0.0, enhancement=0.5, washout=0.0)
MIRRORED_ROWS = ((0, 1, 2), (False, False, True))
SAGITTAL_FROM_THE_HEAD = ((2, 0, 1), (False, True, False))
PLACES = ((-60.0, 0.0, 0.0), (20.0, -30.0, 30.0), (-90.0, 30.0, -40.0))


def spline_over(grid):
    """A smooth deformation of some millimetres over a grid."""
    spline = sitk.BSplineTransformInitializer(grid.image(), [3, 3, 3], order=3)
    rng = np.random.default_rng(2)
    spline.SetParameters(rng.uniform(-9, 9, len(spline.GetParameters())).tolist())
    return spline


def test_a_resampled_marker_moves_against_the_transform():
    grid = Grid(shape=(9, 9, 9), spacing_mm=(2.0, 2.0, 2.0), origin_mm=(0.0, 0.0, 0.0))
    array = np.zeros(grid.shape, dtype=np.int16)
    array[4, 5, 6] = 100  # at x 12, y 10, z 8
    takes_fixed_to_moving = sitk.TranslationTransform(3, (4.0, 2.0, -2.0))
    moved = resample(Volume(array=array, grid=grid), grid, takes_fixed_to_moving, outside=0.0).array
    assert np.argwhere(moved == 100).tolist() == [[5, 4, 4]]  # by hand: x 12 - 4, y 10 - 2, z 8 + 2


def test_a_known_shift_is_recovered_to_half_a_voxel_in_both_directions():
    anatomy = draw_anatomy(PATIENT)
    fixed = render_phase(anatomy, Phase.PORTAL_VENOUS, SMALL)
    arterial = render_phase(anatomy, Phase.ARTERIAL, SMALL)
    x, y, z = SMALL.origin_mm
    moving = (
        Volume(  # the same pixels, said to lie 7 mm more to the left, 5 mm more to the front, 9 mm higher
            array=arterial.array,
            grid=Grid(shape=SMALL.shape, spacing_mm=SMALL.spacing_mm, origin_mm=(x + 7.0, y - 5.0, z + 9.0)),
        )
    )
    alignment = align(moving, fixed, deformable=False)
    for place in PLACES:
        expected = np.asarray(place) + np.array([7.0, -5.0, 9.0])
        assert np.abs(np.asarray(alignment.transform.TransformPoint(place)) - expected).max() < 2.0
        back = alignment.inverse.TransformPoint(expected.tolist())
        assert np.abs(np.asarray(back) - place).max() < 2.0
    quality = alignment.quality
    assert quality.information_after > quality.information_before
    assert quality.body_overlap > 0.97
    assert quality.least_jacobian == 1.0


def test_the_same_voxels_give_the_same_transform():
    anatomy = draw_anatomy(PATIENT)
    coarse = abdomen_grid(pixel_mm=8.0, slice_mm=8.0, columns=48, slices=30)
    fixed = render_phase(anatomy, Phase.PORTAL_VENOUS, coarse)
    moving = render_phase(anatomy, Phase.DELAYED, coarse, breathing_shift_mm=(0.0, 0.0, 6.0))
    first, again = (align(moving, fixed, deformable=False) for _ in range(2))
    assert first.quality == again.quality
    for place in PLACES:
        assert first.transform.TransformPoint(place) == again.transform.TransformPoint(place)


def test_the_alignment_does_not_depend_on_the_order_in_which_the_voxels_were_stored():
    anatomy = draw_anatomy(replace(PATIENT, seed=2))
    coarse = abdomen_grid(pixel_mm=5.0, slice_mm=5.0, columns=77, slices=40)
    fixed = render_phase(anatomy, Phase.PORTAL_VENOUS, coarse)
    moving = render_phase(anatomy, Phase.ARTERIAL, coarse, breathing_shift_mm=(2.0, -3.0, 10.0))
    usual = align(moving, fixed)
    assert usual.transform.GetName() == "CompositeTransform"  # with a B-spline
    for order, backwards in MIRRORED_ROWS, SAGITTAL_FROM_THE_HEAD:
        other = align(store(moving, order, backwards), store(fixed, order, backwards))
        assert usual.quality == other.quality
        for place in PLACES:
            assert usual.transform.TransformPoint(place) == other.transform.TransformPoint(place)
            assert usual.inverse.TransformPoint(place) == other.inverse.TransformPoint(place)


def test_the_inverse_of_rigid_and_spline_comes_back():
    rigid = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.05, -0.03, 0.08, (4.0, -7.0, 12.0))
    transform = sitk.CompositeTransform([rigid, spline_over(BOX)])
    inverse = invert(transform, BOX)
    for place in PLACES:
        there = transform.TransformPoint(place)
        assert np.linalg.norm(np.asarray(there) - place) > 3
        assert np.linalg.norm(np.asarray(inverse.TransformPoint(there)) - place) < 0.5


def test_a_transform_is_the_same_after_writing_and_reading(tmp_path):
    rigid = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.05, -0.03, 0.08, (4.0, -7.0, 12.0))
    for name, transform in (
        ("rigid", rigid),
        ("spline", sitk.CompositeTransform([rigid, spline_over(BOX)])),
    ):
        path = tmp_path / f"{name}.tfm"
        write_transform(transform, path)
        assert path.read_text(encoding="ascii").startswith("#Insight Transform File")
        back = read_transform(path)
        for place in PLACES:
            assert back.TransformPoint(place) == pytest.approx(transform.TransformPoint(place), abs=1e-9)
        there = back.TransformPoint(PLACES[0])
        assert np.linalg.norm(np.asarray(invert(back, BOX).TransformPoint(there)) - PLACES[0]) < 0.5


def test_a_file_that_is_no_transform_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no such transform"):
        read_transform(tmp_path / "none.tfm")
    broken = tmp_path / "broken.tfm"
    broken.write_text("not a transform")
    with pytest.raises(InvalidInput, match="not an ITK transform"):
        read_transform(broken)


def test_phases_that_do_not_overlap_or_hold_no_body_are_refused():
    anatomy = draw_anatomy(PATIENT)
    fixed = render_phase(anatomy, Phase.PORTAL_VENOUS, SMALL)
    x, y, z = SMALL.origin_mm
    far = Volume(
        array=fixed.array,
        grid=Grid(shape=SMALL.shape, spacing_mm=SMALL.spacing_mm, origin_mm=(x, y, z + 900.0)),
    )
    with pytest.raises(RegistrationRefused):
        align(far, fixed, deformable=False)
    air = Volume(array=np.full(SMALL.shape, -1000, dtype=np.int16), grid=SMALL)
    with pytest.raises(RegistrationRefused, match="no body"):
        align(fixed, air, deformable=False)
