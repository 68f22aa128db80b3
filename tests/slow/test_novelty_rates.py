"""How often the check for unlike input is right: rates on phantoms that no reference has seen."""

import sys

import numpy as np
import pytest

from engines.novelty import LEVEL, describe_input, fit_novelty, judge_novelty
from tests.phantom_inputs import cube

pytestmark = pytest.mark.slow

INPUTS, TRIED = 200, 400


def test_one_in_a_hundred_usual_inputs_is_flagged_and_nearly_every_exchange_of_phases():
    reference = fit_novelty(np.stack([describe_input(cube(seed)) for seed in range(INPUTS)]))
    assert reference.level == pytest.approx(LEVEL, abs=0.005)
    tried = [cube(seed) for seed in range(5000, 5000 + TRIED)]
    false = np.mean([judge_novelty(one, reference).unusual for one in tried])
    sys.stderr.write(f"\n{false:.2%} of {TRIED} usual inputs flagged, {1 - reference.level:.2%} stated\n")
    assert false <= 0.03
    for order in ([2, 1, 0], [1, 0, 2], [0, 2, 1]):
        right = np.mean([judge_novelty(one[order], reference).unusual for one in tried])
        sys.stderr.write(f"channels {order}: {right:.2%} flagged\n")
        assert right >= 0.95
