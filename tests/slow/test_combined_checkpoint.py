"""What one checkpoint for both endpoints costs and saves beside a checkpoint each: C on unseen cases, passes a study.

Synthetic: balls in noise, made by tests/training_cohort.py. About five CPU minutes on one thread.
"""

import sys
import time

import numpy as np
import pytest
import torch

from engines.networks.settings import ENSEMBLE
from engines.survival.bootstrap import bootstrap_concordance, draw_resamples, percentile_interval
from engines.survival.concordance import harrell_c
from tests.training_cohort import make_cohort
from train.data import Split
from train.loop import train_network
from train.progress import Selection
from train.recipes import read_recipe
from train.scoring import score_cases

torch.set_num_threads(1)

SPLITS = {Split.TRAINING: 240, Split.VALIDATION: 80, Split.TESTING: 600}
TIMED_CASES = 64
LARGEST_LOSS = 0.03
"""Of C: the epochs differ, the network is one; what is lost must stay near the noise of choosing."""
RECIPE = read_recipe("mini")


@pytest.fixture(scope="module")
def cohort():
    data, _, _ = make_cohort(0, seed=4, side=32, splits=SPLITS)
    return data


def cost(networks, data, rows):
    """Least CPU seconds a case of passing cases through all of these networks."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        for network in networks:
            score_cases(network, data.inputs, rows)
        seconds.append(time.process_time() - started)
    return min(seconds) / rows.size


@pytest.mark.parametrize("name", ENSEMBLE)
def test_one_checkpoint_halves_the_passes_and_costs_little(name, cohort):
    trained = train_network(name, RECIPE.settings[name], cohort, RECIPE.schedules[name])
    rows = cohort.rows(Split.TESTING)
    combined = trained.score(cohort, rows, Selection.COMBINED)
    for selection in (Selection.OS, Selection.PFS):
        endpoint = selection.value
        own = trained.score(cohort, rows, selection)
        outcome, _ = cohort.outcome(endpoint, rows)
        scores = np.stack([own.endpoint(endpoint), combined.endpoint(endpoint)])
        draws = bootstrap_concordance(scores, outcome, draw_resamples(outcome.n))
        interval = percentile_interval(draws[:, 1] - draws[:, 0])
        values = [harrell_c(score, outcome) for score in scores]
        sys.stderr.write(
            f"\n{name} {endpoint}: own checkpoint (epoch {trained.chosen_epoch[selection]}) C {values[0]:.3f}, combined "
            f"(epoch {trained.chosen_epoch[Selection.COMBINED]}) {values[1]:.3f}, difference {interval.low:+.3f} to "
            f"{interval.high:+.3f}, n {outcome.n}"
        )
        assert values[1] > values[0] - LARGEST_LOSS
    two = cost([trained.network(Selection.OS), trained.network(Selection.PFS)], cohort, rows[:TIMED_CASES])
    one = cost([trained.network(Selection.COMBINED)], cohort, rows[:TIMED_CASES])
    sys.stderr.write(
        f"\n{name}: {two * 1e3:.1f} CPU ms a study with two checkpoints, {one * 1e3:.1f} with one\n"
    )
    assert one < 0.65 * two
