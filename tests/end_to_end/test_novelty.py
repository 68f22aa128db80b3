"""Novelty: usual inputs are usual, wrong ones stand out, and the numbers are those worked out by hand."""

import numpy as np
import pytest

from engines.errors import InvalidInput
from engines.novelty import describe_input, fit_novelty, judge_novelty
from tests.phantom_inputs import cube, native, noise, other_organ

INPUTS, TRIED = 60, 40


@pytest.fixture(scope="module")
def descriptions():
    return np.stack([describe_input(cube(seed)) for seed in range(INPUTS)])


@pytest.fixture(scope="module")
def reference(descriptions):
    return fit_novelty(descriptions)


def test_block_means_and_quantiles_are_those_of_numpy():
    array = np.random.default_rng(1).random((2, 10, 10, 10))
    numbers = describe_input(array)
    assert numbers.shape == (2 * 69,)
    assert numbers[2] == pytest.approx(np.median(array[0]))
    assert numbers[5] == pytest.approx(array[0, :2, :2, :2].mean())  # 10 is cut at 0, 2, 5, 7, 10
    assert numbers[-1] == pytest.approx(array[1, 7:, 7:, 7:].mean())


def test_the_distance_is_mahalanobis_under_the_model_written_out(descriptions, reference):
    scaled = (descriptions - np.array(reference.mean)) / np.array(reference.deviation)
    kept, size = len(reference.components), len(reference.mean)
    assert (kept, size) == (INPUTS // 5, 207)
    along = np.array(reference.components)
    np.testing.assert_allclose(along @ along.T, np.eye(kept), atol=1e-9)
    values = np.linalg.eigvalsh(scaled.T @ scaled / (INPUTS - 1))[::-1]
    np.testing.assert_allclose(reference.variances, values[:kept], rtol=1e-6)
    assert reference.rest == pytest.approx(values[kept:].sum() / (size - kept))
    covariance = along.T @ np.diag(np.array(reference.variances) - reference.rest) @ along
    covariance += reference.rest * np.eye(size)
    one = (describe_input(cube(99)) - np.array(reference.mean)) / np.array(reference.deviation)
    expected = np.sqrt(one @ np.linalg.solve(covariance, one) / size)
    assert judge_novelty(cube(99), reference).distance == pytest.approx(expected, rel=1e-9)


def test_swapped_phases_noise_and_another_organ_are_unlike_and_usual_inputs_are_not(reference):
    assert reference.level == pytest.approx(INPUTS / (INPUTS + 1))
    tried = [cube(seed) for seed in range(1000, 1000 + TRIED)]
    usual = [judge_novelty(one, reference).unusual for one in tried]
    assert sum(usual) <= 4, "stated: 1 in 61; 4 or fewer of 40 with probability 0.9995"
    swapped = [judge_novelty(one[::-1].copy(), reference) for one in tried]
    assert sum(one.unusual for one in swapped) >= 0.95 * TRIED
    assert sum(one.exchanged == (0, 2) for one in swapped if one.unusual) >= 0.9 * TRIED
    late = [judge_novelty(one[[0, 2, 1]], reference).unusual for one in tried]
    assert sum(late) >= 0.95 * TRIED
    for wrong in (noise, native, other_organ):
        found = [judge_novelty(wrong(seed), reference) for seed in range(1000, 1005)]
        assert all(one.unusual and one.exchanged is None for one in found), wrong.__name__


def test_what_is_no_input_or_no_cohort_is_refused(reference):
    with pytest.raises(InvalidInput, match="expected"):
        describe_input(np.zeros((3, 8, 8, 4)))
    with pytest.raises(InvalidInput, match="not finite"):
        describe_input(np.full((3, 8, 8, 8), np.nan))
    with pytest.raises(InvalidInput, match="at least 20"):
        fit_novelty(np.zeros((5, 207)))
    with pytest.raises(InvalidInput, match="describe the input"):
        judge_novelty(np.zeros((2, 8, 8, 8)), reference)


def test_inputs_that_are_all_alike_make_no_small_difference_unusual():
    reference = fit_novelty(np.tile(describe_input(cube(1)), (20, 1)))
    assert np.isfinite(judge_novelty(cube(2), reference).distance)
