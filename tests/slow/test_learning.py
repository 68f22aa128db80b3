"""The three miniatures learn a known hazard from synthetic volumes, learn nothing where there is nothing, look at the lesion.

All with the mini recipe as it is. About forty CPU minutes on one thread. Synthetic: balls in noise, made by
tests/training_cohort.py.
"""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.endpoint import Endpoint
from engines.networks.registry import build_network
from engines.networks.settings import ENSEMBLE, NetworkName
from engines.phase import ASSESSED_PHASES
from engines.saliency import explain_risk, measure_mass
from engines.survival.bootstrap import bootstrap_concordance, draw_resamples, percentile_interval
from engines.survival.concordance import harrell_c
from tests.training_cohort import make_cohort
from train.data import Split
from train.loop import train_network
from train.progress import Selection
from train.recipes import read_recipe

torch.set_num_threads(1)

SIDE = 32
SPLITS = {Split.TRAINING: 320, Split.VALIDATION: 80, Split.TESTING: 1000}
DECOY_SPLITS = {Split.TRAINING: 320, Split.VALIDATION: 80, Split.TESTING: 20}
RECIPE = read_recipe("mini")
SEEDS = {NetworkName.NETWORK1: 3101, NetworkName.NETWORK2: 3201, NetworkName.NETWORK3: 3201}
"""Of the learning cohort; one more for the silent one, two for the decoys, three for the trainings. Fixed before the first
run on them. On 3101 the recipe of that day failed Network 2's map (ratio 2.4) and Network 3's phases (-.001 to +.034);
both were mended on other cohorts and got the next seed."""
RANDOM_SEEDS = (2107, 2108, 2109)
"""Of networks with untouched weights."""


def train(name, data, phases=ASSESSED_PHASES):
    """Log-risks of death of the testing rows, by the mini recipe; and the run's last epoch."""
    channels = [ASSESSED_PHASES.index(phase) for phase in phases]
    narrowed = replace(data, inputs=np.ascontiguousarray(data.inputs[:, channels]))
    settings = replace(RECIPE.settings[name], phases=phases)
    trained = train_network(name, settings, narrowed, RECIPE.schedules[name], seed=SEEDS[name] + 3)
    return trained.score(narrowed, data.rows(Split.TESTING)).os, trained.history[-1]


@pytest.fixture(scope="module", params=ENSEMBLE)
def learned(request):
    """A network trained on the three phases of a cohort; two tests look at it."""
    name = request.param
    data, hazard, _ = make_cohort(0, seed=SEEDS[name], side=SIDE, splits=SPLITS)
    return name, data, hazard, *train(name, data)


def test_each_network_learns_the_hazard_and_does_not_beat_the_oracle(learned):
    name, data, hazard, scores, last = learned
    outcome, rows = data.outcome("os", data.rows(Split.TESTING))
    oracle = hazard[rows]
    draws = bootstrap_concordance(np.stack([scores]), outcome, draw_resamples(outcome.n))
    interval = percentile_interval(draws[:, 0])
    found, best = harrell_c(scores, outcome), harrell_c(oracle, outcome)
    sys.stderr.write(
        f"\n{name}: test C {found:.3f} ({interval.low:.3f}-{interval.high:.3f}), oracle {best:.3f}, n {outcome.n}"
    )
    assert interval.low > 0.60
    assert found <= best + 0.01
    assert max(abs(last.log_variances[word]) for word in ("os", "pfs")) > 0.01, (
        "the task weights have not moved"
    )


def test_three_phases_beat_the_best_single_phase(learned):
    name, data, _, three, _ = learned
    outcome, _ = data.outcome("os", data.rows(Split.TESTING))
    scores = np.stack([three, *(train(name, data, (phase,))[0] for phase in ASSESSED_PHASES)])
    draws = bootstrap_concordance(scores, outcome, draw_resamples(outcome.n))
    single = [harrell_c(score, outcome) for score in scores[1:]]
    best = 1 + int(np.argmax(single))
    interval = percentile_interval(draws[:, 0] - draws[:, best])
    sys.stderr.write(
        f"\n{name}: three phases {harrell_c(three, outcome):.3f}, single {np.round(single, 3)}, difference from the best "
        f"{interval.low:+.3f} to {interval.high:+.3f}"
    )
    assert interval.low > 0


@pytest.mark.parametrize("name", ENSEMBLE)
def test_without_signal_nothing_is_learned(name):
    data, _, _ = make_cohort(0, seed=SEEDS[name] + 1, side=SIDE, splits=SPLITS, signal=0.0)
    outcome, _ = data.outcome("os", data.rows(Split.TESTING))
    found = harrell_c(train(name, data)[0], outcome)
    sys.stderr.write(f"\n{name}, no signal: test C {found:.3f}, n {outcome.n}")
    assert found == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ENSEMBLE)
def test_the_map_shows_the_lesion_not_an_equally_bright_decoy(name):
    data, _, balls = make_cohort(0, seed=SEEDS[name] + 2, side=SIDE, splits=DECOY_SPLITS, decoy=True)
    trained = train_network(name, RECIPE.settings[name], data, RECIPE.schedules[name], seed=SEEDS[name] + 3)
    networks = {Endpoint.OS: trained.network(Selection.OS), Endpoint.PFS: trained.network(Selection.PFS)}
    randomised = [draw_network(name, trained.settings, seed) for seed in RANDOM_SEEDS]
    cases = [(data.inputs[row], balls[row, 0], balls[row, 1]) for row in data.rows(Split.TESTING)]
    for endpoint, network in networks.items():
        ratios, of_random, agreement = [], [], []
        for inputs, lesion, decoy in cases:
            found = explain_risk(network, inputs, endpoint)
            ratios.append(measure_ratio(found, lesion, decoy))
            for other in randomised:
                scrambled = explain_risk(other, inputs, endpoint)
                of_random.append(measure_ratio(scrambled, lesion, decoy))
                agreement.append(correlate(found, scrambled))
        sys.stderr.write(
            f"\n{name} {endpoint}: median ratio {np.median(ratios):.1f} "
            f"(quartiles {np.quantile(ratios, 0.25):.1f}-{np.quantile(ratios, 0.75):.1f}), randomised "
            f"{np.median(of_random):.1f}, correlation with the randomised map {np.median(agreement):.2f}"
        )
        assert np.median(ratios) >= 3
        assert np.median(of_random) <= np.median(ratios) / 3
        assert np.median(of_random) < 3
        assert np.median(agreement) < 0.5, "the map is of the weights, not of the picture"


def draw_network(name, settings, seed):
    """The same network with weights that no training has touched."""
    torch.manual_seed(seed)
    return build_network(name, settings).eval()


def measure_ratio(found, lesion, decoy):
    """Mean importance in the lesion over that in the decoy; 1 where the map is empty in both."""
    inside, beside = measure_mass(found, lesion), measure_mass(found, decoy)
    return 1.0 if inside == beside == 0 else inside / max(beside, 1e-6)


def correlate(one, other):
    """Correlation of two maps, voxel by voxel; 0 where one is empty."""
    if one.peak == 0 or other.peak == 0:
        return 0.0
    return np.corrcoef(one.values.ravel(), other.values.ravel())[0, 1]
