"""The synthetic abdomen: plausible, known to the voxel, the same on every grid, and its traits are visible."""

import dataclasses

import numpy as np
import pytest

from engines.phantom.anatomy import (
    LIVER_VOLUME_RANGE_ML,
    PhantomTraits,
    abdomen_grid,
    draw_anatomy,
    liver_grid,
    render_decoy,
    render_masks,
    render_phase,
    render_tissues,
)
from engines.phantom.tissues import Tissue
from engines.phase import Phase

COARSE = abdomen_grid(pixel_mm=3.0, slice_mm=4.0, columns=128, slices=60)
PLAIN = PhantomTraits(seed=11, burden=0.0, heterogeneity=0.0, enhancement=0.0, washout=0.0)


def median_hu(anatomy, phase, tissue):
    """Median HU of a tissue's voxels."""
    truth = render_tissues(anatomy, COARSE).array == list(Tissue).index(tissue)
    return float(np.median(render_phase(anatomy, phase, COARSE).array[truth]))


def tumour_hu(traits, phase):
    """HU inside the tumours, all voxels."""
    anatomy = draw_anatomy(traits)
    _, lesions = render_masks(anatomy, COARSE)
    return render_phase(anatomy, phase, COARSE).array[lesions.array > 0].astype(float)


def test_the_same_traits_give_the_same_voxels_and_another_seed_gives_others():
    first = render_phase(draw_anatomy(PLAIN), Phase.ARTERIAL, COARSE).array
    again = render_phase(draw_anatomy(PLAIN), Phase.ARTERIAL, COARSE).array
    other = render_phase(draw_anatomy(dataclasses.replace(PLAIN, seed=12)), Phase.ARTERIAL, COARSE).array
    assert first.dtype == np.int16
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("phase", "tissue", "low", "high"),
    [
        (Phase.PRE_CONTRAST, Tissue.AORTA, 35, 60),
        (Phase.ARTERIAL, Tissue.AORTA, 260, 380),
        (Phase.PORTAL_VENOUS, Tissue.AORTA, 140, 190),
        (Phase.DELAYED, Tissue.AORTA, 90, 130),
        (Phase.PORTAL_VENOUS, Tissue.LIVER, 95, 135),
        (Phase.DELAYED, Tissue.RENAL_PELVIS, 200, 350),
    ],
)
def test_hounsfield_units_are_those_of_the_phase(phase, tissue, low, high):
    assert low <= median_hu(draw_anatomy(PLAIN), phase, tissue) <= high


def test_livers_have_adult_volumes_and_lie_on_the_patients_right():
    for seed in range(12):
        liver, lesions = render_masks(draw_anatomy(dataclasses.replace(PLAIN, seed=seed, burden=1.5)), COARSE)
        volume_ml = np.count_nonzero(liver.array) * COARSE.voxel_volume_ml
        low, high = LIVER_VOLUME_RANGE_ML
        assert 0.93 * low < volume_ml < 1.07 * high
        center = COARSE.affine() @ [*np.argwhere(liver.array).mean(axis=0), 1]
        assert center[0] < -20  # LPS: the right is negative
        assert not np.any(lesions.array[~liver.array])
        assert set(np.unique(lesions.array)) - {0} == set(range(1, lesions.array.max() + 1))


def test_burden_makes_tumours_more_and_larger():
    volumes, counts = [], []
    for burden in (-1.5, 0.0, 1.5):
        anatomies = [draw_anatomy(dataclasses.replace(PLAIN, seed=s, burden=burden)) for s in range(6)]
        volumes.append(np.mean([sum(t.volume_ml for t in a.tumours) for a in anatomies]))
        counts.append(np.mean([len(a.tumours) for a in anatomies]))
    assert volumes[0] < volumes[1] < volumes[2]
    assert counts[0] < counts[1] < counts[2]


def test_each_other_trait_shows_in_its_own_phase_and_way():
    def changed(**latents):
        return dataclasses.replace(PLAIN, burden=1.0, **latents)

    weak, strong = (tumour_hu(changed(enhancement=e), Phase.ARTERIAL) for e in (-1.5, 1.5))
    assert np.mean(strong) - np.mean(weak) > 30
    kept, washed = (tumour_hu(changed(washout=w), Phase.DELAYED) for w in (-1.5, 1.5))
    assert np.mean(kept) - np.mean(washed) > 10
    even, mixed = (tumour_hu(changed(heterogeneity=h), Phase.ARTERIAL) for h in (-1.5, 1.5))
    assert np.std(mixed) > 1.5 * np.std(even)


def test_a_rendered_tumour_has_the_volume_of_its_formula():
    anatomy = draw_anatomy(dataclasses.replace(PLAIN, burden=1.0))
    _, lesions = render_masks(anatomy, abdomen_grid())
    voxels = np.count_nonzero(lesions.array == 1) * abdomen_grid().voxel_volume_ml
    assert voxels == pytest.approx(anatomy.tumours[0].volume_ml, rel=0.03)


def test_a_flipped_grid_shows_the_same_patient():
    anatomy = draw_anatomy(PLAIN)
    up = abdomen_grid(pixel_mm=4, slice_mm=5, columns=96, slices=48)
    down = abdomen_grid(pixel_mm=4, slice_mm=5, columns=96, slices=48, flipped=True)
    assert np.allclose(up.corners_mm().mean(axis=0), down.corners_mm().mean(axis=0))
    first = render_phase(anatomy, Phase.ARTERIAL, up, noise_hu=0).array
    second = render_phase(anatomy, Phase.ARTERIAL, down, noise_hu=0).array
    assert np.array_equal(first, second[::-1])


def test_breath_moves_the_liver_and_not_the_spine():
    anatomy = draw_anatomy(PLAIN)
    shift = (0.0, 0.0, 8.0)
    still, moved = (
        render_tissues(anatomy, COARSE, breathing_shift_mm=s).array for s in ((0.0, 0.0, 0.0), shift)
    )
    bone = list(Tissue).index(Tissue.SPONGY_BONE)
    assert np.array_equal(still == bone, moved == bone)
    a, b = (render_masks(anatomy, COARSE, breathing_shift_mm=s)[0].array for s in ((0.0, 0.0, 0.0), shift))
    differing = np.count_nonzero(a[20:40] ^ b[22:42])  # 8 mm are two slices up
    assert differing < 0.005 * np.count_nonzero(a)  # the wall, which stays, clips a few voxels


def test_the_decoy_lies_in_the_liver_box_but_not_in_the_liver():
    anatomy = draw_anatomy(PLAIN, decoy=True)
    grid = liver_grid(anatomy, 48)
    decoy = render_decoy(anatomy, grid).array
    liver, lesions = render_masks(anatomy, grid)
    assert decoy.sum() > 50
    assert not np.any(decoy & liver.array)
    assert lesions.array.max() == len(anatomy.tumours)
    bright = render_phase(anatomy, Phase.ARTERIAL, grid).array
    assert np.median(bright[decoy]) > 40
    assert not render_decoy(draw_anatomy(PLAIN), grid).array.any()
