"""How often the gate releases honest and spoiled models, over many simulated score populations."""

from collections import Counter

import numpy as np
import pytest

from engines.endpoint import Endpoint
from engines.models.promotion import Decision
from tests.score_populations import HARMLESS, SPOILED, make_locked
from train.gate import GateRules, judge_candidate

TRIES = 100


def rates(n, spoilage):
    found = Counter(
        judge_candidate(make_locked(seed, n, spoilage), GateRules()).decision for seed in range(TRIES)
    )
    return {decision: found[decision] / TRIES for decision in Decision}


@pytest.mark.parametrize("n", [209, 400])
def test_honest_models_are_released(n):
    assert rates(n, "equal")[Decision.RELEASE] >= 0.80
    assert rates(n, "better")[Decision.RELEASE] >= 0.95


@pytest.mark.parametrize("n", [60, 209, 400])
@pytest.mark.parametrize("spoilage", SPOILED)
def test_spoiled_models_are_not_released(n, spoilage):
    limit = 0.12 if spoilage == "labels swapped" else 0.02
    assert rates(n, spoilage)[Decision.RELEASE] <= limit


def test_what_the_gate_cannot_see_does_little_harm():
    assert rates(209, HARMLESS)[Decision.RELEASE] >= 0.5
    lost = []
    for seed in range(TRIES):
        locked = make_locked(seed, 4000, HARMLESS)[Endpoint.OS]
        lost.append(np.corrcoef(locked.candidate, locked.running)[0, 1])
    assert np.mean(lost) > 0.97
