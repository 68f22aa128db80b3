"""The image engines on the synthetic abdomen, whose truth is known: alignment, segmentation, enhancement, network input."""

import numpy as np
import pytest
import SimpleITK as sitk

from engines.enhancement import measure_enhancement
from engines.errors import RegistrationRefused
from engines.network_input import Preprocessing, network_input
from engines.phantom.anatomy import (
    PhantomTraits,
    abdomen_grid,
    draw_anatomy,
    render_masks,
    render_phase,
)
from engines.phantom.tissues import Tissue
from engines.phase import Phase
from engines.registration import align
from engines.segmentation.baseline import BaselineSegmenter
from engines.segmentation.lesions import measure_lesions
from engines.segmentation.quality import check_segmentation
from engines.volume import Grid, Volume, resample
from tests.stored_order import store

GRID = abdomen_grid()
SHIFTS = {Phase.ARTERIAL: (2.0, -3.0, 10.0), Phase.DELAYED: (0.0, 2.0, -7.0)}


def patient(seed, **latents):
    """A synthetic patient; latents not given are 0."""
    zero = {"burden": 0.0, "heterogeneity": 0.0, "enhancement": 0.0, "washout": 0.0}
    return draw_anatomy(PhantomTraits(seed=seed, **{**zero, **latents}))


def dice(a, b):
    """Overlap of two bool arrays."""
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize(
    ("seed", "latents"),
    [
        (1, {"burden": 0.5}),
        (5, {"heterogeneity": 2.0, "washout": 1.0}),
        (6, {"burden": -1.5, "washout": -1.5}),
    ],
)
def test_the_baseline_finds_liver_and_tumours(seed, latents):
    anatomy = patient(seed, **latents)
    volume = render_phase(anatomy, Phase.PORTAL_VENOUS, GRID)
    segmentation = BaselineSegmenter().segment(volume)
    quality = check_segmentation(segmentation, volume)
    liver, lesions = render_masks(anatomy, GRID)
    assert dice(segmentation.liver.array, liver.array) > 0.93
    assert dice(segmentation.lesions.array > 0, lesions.array > 0) > 0.75
    assert quality.right_share > 0.7
    largest = measure_lesions(segmentation.lesions)[0]
    assert largest.longest_diameter_mm == pytest.approx(anatomy.tumours[0].longest_diameter_mm, abs=6)
    assert segmentation.provider == "baseline"


@pytest.mark.parametrize(
    ("slice_mm", "slices", "pixel_mm", "columns", "flipped", "noise_hu"),
    [(2.5, 92, 2.0, 192, False, 18.0), (8.0, 30, 0.8, 480, True, 8.0)],
)
def test_the_baseline_bears_noise_thin_and_thick_slices_and_flips(
    slice_mm, slices, pixel_mm, columns, flipped, noise_hu
):
    anatomy = patient(3, burden=0.5)
    grid = abdomen_grid(slice_mm=slice_mm, slices=slices, pixel_mm=pixel_mm, columns=columns, flipped=flipped)
    volume = render_phase(anatomy, Phase.PORTAL_VENOUS, grid, noise_hu=noise_hu)
    segmentation = BaselineSegmenter().segment(volume)
    check_segmentation(segmentation, volume)
    liver, lesions = render_masks(anatomy, grid)
    assert dice(segmentation.liver.array, liver.array) > 0.9
    assert dice(segmentation.lesions.array > 0, lesions.array > 0) > 0.6


def test_the_baseline_finds_the_same_in_slices_that_were_stored_sagittally():
    grid = abdomen_grid(slice_mm=3.0, slices=76, pixel_mm=1.7, columns=211)
    volume = render_phase(patient(3, burden=0.5), Phase.PORTAL_VENOUS, grid)
    order, backwards = (2, 0, 1), (True, False, True)
    usual = BaselineSegmenter().segment(volume)
    other = BaselineSegmenter().segment(store(volume, order, backwards))
    assert np.array_equal(store(usual.liver, order, backwards).array, other.liver.array)
    assert np.array_equal(store(usual.lesions, order, backwards).array, other.lesions.array)
    assert other.lesions.array.any()
    check_segmentation(other, store(volume, order, backwards))


@pytest.mark.parametrize(("seed", "phase"), list(enumerate(Phase, start=2)))
def test_measured_enhancement_is_that_of_the_rendered_phase(seed, phase):
    anatomy = patient(seed)
    found = measure_enhancement(render_phase(anatomy, phase, GRID)).medians()

    def truth(tissue):
        return anatomy.hu[tissue, phase]

    assert found["aorta"] == pytest.approx(truth(Tissue.AORTA), abs=6)
    assert found["liver"] == pytest.approx(truth(Tissue.LIVER), abs=6)
    assert found["vena_cava"] == pytest.approx(truth(Tissue.VENA_CAVA), abs=12)
    if phase is Phase.PRE_CONTRAST:
        assert not {"portal_vein", "kidney_cortex", "renal_pelvis"} & set(found)
        return
    assert found["portal_vein"] == pytest.approx(truth(Tissue.PORTAL_VEIN), abs=12)
    assert found["kidney_cortex"] == pytest.approx(truth(Tissue.KIDNEY_CORTEX), abs=15)
    assert found["kidney_medulla"] == pytest.approx(truth(Tissue.KIDNEY_MEDULLA), abs=20)
    assert ("renal_pelvis" in found) == (phase is Phase.DELAYED)


def test_breath_is_undone_and_the_phases_lie_on_each_other_in_the_network_input():
    anatomy = patient(2, burden=0.5)
    fixed = render_phase(anatomy, Phase.PORTAL_VENOUS, GRID)
    liver, _ = render_masks(anatomy, GRID)
    volumes, transforms = {Phase.PORTAL_VENOUS: fixed}, {}
    for phase, shift in SHIFTS.items():
        volumes[phase] = render_phase(anatomy, phase, GRID, breathing_shift_mm=shift)
        there, _ = render_masks(anatomy, GRID, breathing_shift_mm=shift)
        alignment = align(volumes[phase], fixed)
        transforms[phase] = alignment.transform
        label = Volume(array=there.array.astype(np.uint8), grid=GRID)
        back = resample(label, GRID, alignment.transform, interpolator=sitk.sitkNearestNeighbor, outside=0)
        assert dice(back.array > 0, liver.array) > max(0.94, dice(there.array, liver.array))
        assert alignment.quality.inversion_error_mm < 0.5
        assert alignment.quality.information_gain > 0
    moved = network_input(volumes, transforms, liver, Preprocessing(side=48)).astype(float)
    still = network_input(
        {phase: render_phase(anatomy, phase, GRID) for phase in volumes},
        dict.fromkeys(SHIFTS, sitk.Transform(3, sitk.sitkIdentity)),
        liver,
        Preprocessing(side=48),
    ).astype(float)
    apart = network_input(
        volumes, dict.fromkeys(SHIFTS, sitk.Transform(3, sitk.sitkIdentity)), liver, Preprocessing(side=48)
    ).astype(float)
    for channel in (0, 2):
        aligned_error = np.abs(moved[channel] - still[channel]).mean()
        assert aligned_error < 0.75 * np.abs(apart[channel] - still[channel]).mean()


def test_the_deformable_alignment_repeats_itself_bit_for_bit():
    anatomy = patient(4)
    coarse = abdomen_grid(pixel_mm=6.0, slice_mm=6.0, columns=64, slices=40)
    fixed = render_phase(anatomy, Phase.PORTAL_VENOUS, coarse)
    moving = render_phase(anatomy, Phase.DELAYED, coarse, breathing_shift_mm=(0.0, 3.0, 9.0))
    first, again = (align(moving, fixed) for _ in range(2))
    assert first.quality == again.quality
    assert first.transform.TransformPoint((-60.0, 0.0, 0.0)) == again.transform.TransformPoint(
        (-60.0, 0.0, 0.0)
    )


def test_half_of_another_patient_is_refused():
    fixed = render_phase(patient(4), Phase.PORTAL_VENOUS, GRID)
    other = render_phase(patient(3), Phase.ARTERIAL, GRID).array.copy()
    other[30:] = -1000
    with pytest.raises(RegistrationRefused):
        align(Volume(array=other, grid=GRID), fixed)


def test_organs_are_the_same_in_slices_that_run_downwards_and_absent_in_air():
    anatomy = patient(4)
    found = []
    for flipped in (False, True):
        grid = abdomen_grid(pixel_mm=3.0, slice_mm=6.0, columns=128, slices=40, flipped=flipped)
        volume = render_phase(anatomy, Phase.PORTAL_VENOUS, grid, noise_hu=0.0)
        found.append(measure_enhancement(volume))
    assert found[0] == found[1]
    assert found[0].aorta_hu is not None
    air = Volume(array=np.full((20, 64, 64), -1000, dtype=np.int16), grid=Grid(shape=(20, 64, 64),
                 spacing_mm=(5.0, 6.0, 6.0), origin_mm=(0.0, 0.0, 0.0)))  # fmt: skip
    assert measure_enhancement(air).medians() == {}
