"""Shuffled outcomes through the whole fit of what stands on scores, features and clinical variables; a leak is caught."""

from dataclasses import replace

import numpy as np
import pytest

from engines.endpoint import Endpoint
from engines.survival.concordance import harrell_c
from engines.survival.outcome import Outcome
from tests.fit_cohort import fit_imaginary, imaginary_networks, make_fit_cohort, units_of
from train.clinical_model import CoxSettings
from train.data import Split
from train.fit_folder import MODELS, MRECIST
from train.fit_plan import FitPlan
from train.fusion import ForestSettings
from train.recipes import Recipe

REPEATS = 60
LEAKS = 30
LEAKED = 150
PLAN = FitPlan(
    recipe=Recipe(name="none"),
    folds=3,
    forest=ForestSettings(trees=15),
    clinical=CoxSettings(),
)
SPLITS = {Split.TRAINING: 240, Split.VALIDATION: 60, Split.TESTING: 1200}

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def population():
    cohort = make_fit_cohort(SPLITS, seed=4, images=False)[0]
    return cohort, imaginary_networks(cohort, 4, units_of(PLAN))


def shuffle(cohort, seed):
    """Times and events of both endpoints, moved together from patient to patient, within discovery and within testing."""
    order = np.arange(cohort.n)
    for part in ((Split.TRAINING, Split.VALIDATION), (Split.TESTING,)):
        rows = cohort.data.rows(*part)
        order[rows] = np.random.default_rng([seed, len(part)]).permutation(rows)
    data = cohort.data
    follow = [replace(one, months=one.months[order], event=one.event[order]) for one in (data.os, data.pfs)]
    return replace(cohort, data=replace(data, os=follow[0], pfs=follow[1]))


def leak_testing(cohort, leaked):
    """The leak: the rows that are judged are those that are fitted on."""
    words = [Split.TRAINING if row in leaked else Split.TESTING for row in range(cohort.n)]
    return replace(cohort, data=replace(cohort.data, splits=words))


def judge(cohort, scores, rows, title, endpoint):
    months = cohort.follow(endpoint).months
    used = rows[np.isfinite(scores[rows])]
    outcome = cohort.outcome(endpoint, used)
    if title == MRECIST and endpoint is Endpoint.PFS:
        outcome = Outcome(months[used] - cohort.responses.months[used], outcome.event)
    return harrell_c(scores[used], outcome)


def measure(cohort, said, testing):
    """C of the released parts on the testing rows, and of what is out-of-fold within the folds, by model and endpoint."""
    models = fit_imaginary(cohort, PLAN, said)
    rows = cohort.discovery()
    released, held_out = {}, {}
    for title in models.out_of_fold:
        for endpoint in Endpoint:
            key = f"{title} {endpoint}"
            released[key] = judge(cohort, models.apparent[title][endpoint], testing, title, endpoint)
            within = [
                judge(
                    cohort, models.out_of_fold[title][endpoint], rows[models.fold == number], title, endpoint
                )
                for number in range(PLAN.folds)
            ]
            held_out[key] = float(np.mean(within))
    return released, held_out


def test_shuffled_outcomes_leave_every_model_without_skill_and_a_planted_leak_is_caught(population):
    cohort, said = population
    testing = cohort.data.rows(Split.TESTING)
    drawn = [measure(shuffle(cohort, seed), said, testing) for seed in range(REPEATS)]
    for place, words in enumerate(("released parts on testing rows", "out-of-fold")):
        mean = {key: float(np.mean([one[place][key] for one in drawn])) for key in drawn[0][place]}
        assert len(mean) == len(MODELS) * len(Endpoint)
        assert max(abs(value - 0.5) for value in mean.values()) <= 0.01, (words, mean)
    leaked = testing[:LEAKED]
    leaking = [
        measure(leak_testing(shuffle(cohort, seed), set(leaked)), said, leaked)[0] for seed in range(LEAKS)
    ]
    learned = [
        key for key in leaking[0] if not key.startswith(("Network", "mRECIST"))
    ]  # those fit nothing here
    caught = {key: float(np.mean([one[key] for one in leaking])) for key in learned}
    assert min(caught.values()) > 0.515, caught
    honest = measure(cohort, said, testing)[0]
    assert (
        min(honest[f"{title} {endpoint}"] for title in ("MMF", "Benchmark") for endpoint in Endpoint) > 0.55
    )
