"""Novelty: usual inputs are usual, wrong ones stand out, and the numbers are those worked out by hand."""

import numpy as np
import pytest

from engines.errors import InvalidInput
from engines.novelty import describe_input, fit_novelty, judge_novelty
from engines.phantom.anatomy import PhantomTraits, draw_anatomy, liver_grid, render_phase
from engines.phase import ASSESSED_PHASES, Phase


def cube(seed, phases=ASSESSED_PHASES):
    """The input of a synthetic patient at side 16."""
    latents = np.random.default_rng(seed).normal(size=4)
    anatomy = draw_anatomy(PhantomTraits(seed=seed, burden=latents[0], heterogeneity=latents[1],
                                         enhancement=latents[2], washout=latents[3]))  # fmt: skip
    grid = liver_grid(anatomy, 16)
    hu = [render_phase(anatomy, phase, grid).array for phase in phases]
    return np.clip((np.stack(hu) + 100.0) / 340, 0, 1).astype(np.float16)


def test_block_means_and_quantiles_are_those_of_numpy():
    array = np.random.default_rng(1).random((2, 10, 10, 10))
    numbers = describe_input(array)
    assert numbers.shape == (2 * 69,)
    assert numbers[2] == pytest.approx(np.median(array[0]))
    assert numbers[5] == pytest.approx(array[0, :2, :2, :2].mean())  # 10 is cut at 0, 2, 5, 7, 10
    assert numbers[-1] == pytest.approx(array[1, 7:, 7:, 7:].mean())


def test_usual_inputs_are_usual_and_wrong_ones_stand_out():
    reference = fit_novelty(np.stack([describe_input(cube(seed)) for seed in range(24)]))
    usual = judge_novelty(cube(99), reference)
    assert usual.percentile < 1
    assert usual.distance < 2
    swapped = judge_novelty(cube(99)[::-1].copy(), reference)
    native = judge_novelty(cube(99, (Phase.PRE_CONTRAST,) * 3), reference)
    upside_down = judge_novelty(cube(99)[:, ::-1].copy(), reference)
    for wrong in (swapped, native, upside_down):
        assert wrong.percentile == 1
        assert wrong.distance > 1.5 * usual.distance


def test_what_is_no_input_or_no_cohort_is_refused():
    with pytest.raises(InvalidInput, match="expected"):
        describe_input(np.zeros((3, 8, 8, 4)))
    with pytest.raises(InvalidInput, match="not finite"):
        describe_input(np.full((3, 8, 8, 8), np.nan))
    with pytest.raises(InvalidInput, match="at least 20"):
        fit_novelty(np.zeros((5, 207)))
    reference = fit_novelty(np.random.default_rng(0).random((20, 69)))
    with pytest.raises(InvalidInput, match="describe the input"):
        judge_novelty(np.zeros((3, 8, 8, 8)), reference)
