"""Statistics judged by simulation with fixed seeds: coverage, size under the null, shuffled outcomes, a planted leak."""

import numpy as np
import pytest

from engines.survival.bootstrap import (
    bootstrap_concordance,
    compare_paired,
    draw_resamples,
    percentile_interval,
)
from engines.survival.concordance import compare_concordance, harrell_c
from engines.survival.cox import fit_cox, log_hazard
from engines.survival.cutoff import select_cutoff
from engines.survival.kaplan_meier import compare_groups
from engines.survival.outcome import Outcome
from engines.survival.roc import bootstrap_auc, measure_auc

COHORTS = 500
TESTING = 209  # the paper's testing cohort
DISCOVERY = 650
SHUFFLES = 50
HORIZON = 24.0


def draw(random, n, noise=1.0):
    """A fixed score of known quality: about 55 % events, last follow-up at 48 months, as the paper's testing cohort."""
    risk = random.normal(size=n)
    death = random.exponential(30 * np.exp(-0.8 * risk))
    leaving = np.minimum(random.exponential(48, n), 48)
    score = risk + noise * random.normal(size=n)
    return score, Outcome(np.minimum(death, leaving), death <= leaving)


def test_bootstrap_interval_of_c_and_auc_of_a_fixed_score_hold_the_truth():
    truth_score, truth = draw(np.random.default_rng(999), 1_000_000)
    c_index, auc = harrell_c(truth_score, truth), measure_auc(truth_score, truth, HORIZON).auc
    assert truth.event.mean() == pytest.approx(0.55, abs=0.02)
    held = np.zeros((COHORTS, 2), dtype=bool)
    for seed in range(COHORTS):
        score, outcome = draw(np.random.default_rng(seed), TESTING)
        resamples = draw_resamples(TESTING, 1000, seed)
        of_c = percentile_interval(bootstrap_concordance(score[None], outcome, resamples)[:, 0])
        of_auc = percentile_interval(bootstrap_auc(score[None], outcome, HORIZON, resamples)[:, 0])
        held[seed] = (of_c.low <= c_index <= of_c.high, of_auc.low <= auc <= of_auc.high)
    coverage = held.mean(axis=0)
    assert ((coverage >= 0.91) & (coverage <= 0.97)).all(), coverage


def test_comparison_of_two_equal_scores_is_rarely_significant():
    rejected = np.zeros((COHORTS, 2), dtype=bool)
    for seed in range(COHORTS):
        random = np.random.default_rng([1, seed])
        risk = random.normal(size=TESTING)
        death = random.exponential(30 * np.exp(-0.8 * risk))
        leaving = np.minimum(random.exponential(55, TESTING), 48)
        outcome = Outcome(np.minimum(death, leaving), death <= leaving)
        scores = risk + random.normal(size=(2, TESTING))
        values = bootstrap_concordance(scores, outcome, draw_resamples(TESTING, 1000, seed))
        difference = harrell_c(scores[0], outcome) - harrell_c(scores[1], outcome)
        rejected[seed] = (
            compare_paired(difference, values[:, 0], values[:, 1]).p_value < 0.05,
            compare_concordance(scores[0], scores[1], outcome).p_value < 0.05,
        )
    size = rejected.mean(axis=0)
    assert 0.02 <= size[0] <= 0.08
    assert size[1] <= 0.10


def test_logrank_and_the_corrected_p_of_a_selected_cutoff_keep_their_size():
    rejected = np.zeros((COHORTS, 2), dtype=bool)
    for seed in range(COHORTS):
        random = np.random.default_rng([2, seed])
        _, outcome = draw(random, TESTING)
        noise = random.normal(size=TESTING)
        groups = ["high" if value > 0 else "low" for value in noise]
        rejected[seed] = (
            compare_groups(outcome, groups).p_value < 0.05,
            select_cutoff(noise, outcome).p_value < 0.05,
        )
    size = rejected.mean(axis=0)
    assert 0.03 <= size[0] <= 0.075
    assert size[1] <= 0.06


def shuffled_c(leak):
    """Mean C on the test part when outcomes are shuffled, of a Cox model on 13 variables; ``leak`` fits on test rows too."""
    found = []
    for seed in range(SHUFFLES):
        random = np.random.default_rng([3, seed])
        n = DISCOVERY + TESTING
        variables = random.normal(size=(n, 13))
        death = random.exponential(30 * np.exp(-variables @ np.full(13, 0.25)))
        leaving = np.minimum(random.exponential(55, n), 48)
        order = random.permutation(n)
        time, event = np.minimum(death, leaving)[order], (death <= leaving)[order]
        outcome = Outcome(time, event)
        discovery, testing = np.arange(DISCOVERY), np.arange(DISCOVERY, n)
        fitted_on = testing if leak else discovery
        fit = fit_cox(variables[fitted_on], outcome.take(fitted_on))
        found.append(harrell_c(log_hazard(fit, variables[testing]), outcome.take(testing)))
    return float(np.mean(found))


def test_shuffled_outcomes_cannot_be_predicted():
    assert shuffled_c(leak=False) == pytest.approx(0.5, abs=0.01)


def test_a_planted_leak_is_caught_by_the_same_test():
    assert shuffled_c(leak=True) > 0.53
