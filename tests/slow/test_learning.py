"""The three miniatures learn a known hazard from synthetic volumes, learn nothing where there is nothing, look at the lesion.

About ten CPU minutes on one thread. Synthetic: balls in noise, made by tests/training_cohort.py.
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
RECIPE = read_recipe("mini")


def train(name, data, phases=ASSESSED_PHASES):
    channels = [ASSESSED_PHASES.index(phase) for phase in phases]
    narrowed = replace(data, inputs=np.ascontiguousarray(data.inputs[:, channels]))
    trained = train_network(
        name, replace(RECIPE.settings[name], phases=phases), narrowed, RECIPE.schedules[name]
    )
    rows = data.rows(Split.TESTING)
    return trained, trained.score(narrowed, rows)


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(0, seed=1, side=SIDE, splits=SPLITS)


@pytest.fixture(scope="module")
def test_outcome(cohort):
    data, hazard, _ = cohort
    outcome, rows = data.outcome("os", data.rows(Split.TESTING))
    return outcome, hazard[rows]


@pytest.mark.parametrize("name", ENSEMBLE)
def test_each_network_learns_the_hazard_and_does_not_beat_the_oracle(name, cohort, test_outcome):
    outcome, oracle = test_outcome
    trained, scores = train(name, cohort[0])
    draws = bootstrap_concordance(np.stack([scores.os]), outcome, draw_resamples(outcome.n))
    interval = percentile_interval(draws[:, 0])
    found, best = harrell_c(scores.os, outcome), harrell_c(oracle, outcome)
    sys.stderr.write(
        f"\n{name}: test C {found:.3f} ({interval.low:.3f}-{interval.high:.3f}), oracle {best:.3f}, n {outcome.n}"
    )
    assert interval.low > 0.60
    assert found <= best + 0.01
    moved = trained.history[-1].log_variances
    assert max(abs(value) for value in moved.values()) > 0.01


def test_without_signal_nothing_is_learned():
    data, _, _ = make_cohort(0, seed=2, side=SIDE, splits=SPLITS, signal=0.0)
    outcome, _ = data.outcome("os", data.rows(Split.TESTING))
    _, scores = train(NetworkName.NETWORK2, data)
    found = harrell_c(scores.os, outcome)
    sys.stderr.write(f"\nno signal: test C {found:.3f}, n {outcome.n}")
    assert found == pytest.approx(0.5, abs=0.03)


def test_three_phases_beat_the_best_single_phase(cohort, test_outcome):
    outcome, _ = test_outcome
    subsets = [ASSESSED_PHASES, *((phase,) for phase in ASSESSED_PHASES)]
    scores = np.stack([train(NetworkName.NETWORK2, cohort[0], phases)[1].os for phases in subsets])
    draws = bootstrap_concordance(scores, outcome, draw_resamples(outcome.n))
    single = [harrell_c(score, outcome) for score in scores[1:]]
    best = 1 + int(np.argmax(single))
    interval = percentile_interval(draws[:, 0] - draws[:, best])
    sys.stderr.write(
        f"\nthree phases {harrell_c(scores[0], outcome):.3f}, single {np.round(single, 3)}, difference {interval}"
    )
    assert interval.low > 0


@pytest.mark.parametrize("name", ENSEMBLE)
def test_the_map_shows_the_lesion_not_an_equally_bright_decoy(name):
    data, _, balls = make_cohort(0, seed=3, side=SIDE, splits={**SPLITS, Split.TESTING: 20}, decoy=True)
    trained, _ = train(name, data)
    networks = {Endpoint.OS: trained.network(Selection.OS), Endpoint.PFS: trained.network(Selection.PFS)}
    torch.manual_seed(9)
    random_network = build_network(name, trained.settings).eval()
    for endpoint, network in networks.items():
        ratios, overlap = [], []
        for row in data.rows(Split.TESTING):
            found = explain_risk(network, data.inputs[row], endpoint)
            lesion, decoy = measure_mass(found, balls[row, 0]), measure_mass(found, balls[row, 1])
            ratios.append(lesion / max(decoy, 1e-6))
            scrambled = explain_risk(random_network, data.inputs[row], endpoint)
            flat = scrambled.peak == 0 or found.peak == 0
            overlap.append(0.0 if flat else np.corrcoef(found.values.ravel(), scrambled.values.ravel())[0, 1])
        sys.stderr.write(
            f"\n{name} {endpoint}: median ratio {np.median(ratios):.1f}, correlation after randomising {np.median(overlap):.2f}"
        )
        assert np.median(ratios) >= 3
        assert np.median(overlap) < 0.5, "the map is of the weights, not of the picture"
