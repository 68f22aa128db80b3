"""Out-of-fold scores: nothing of the rows a fold holds out, outcome or input, changes what is fitted for it."""

import hashlib

import numpy as np
import pytest

from engines.endpoint import Endpoint
from engines.errors import InvalidInput
from engines.survival.outcome import Outcome
from train.errors import CohortRefused
from train.fusion import ForestSettings
from train.out_of_fold import Cohort, draw_folds, fit_ensembles, score_out_of_fold

ROWS = 90
SMALL = ForestSettings(trees=8)


def draw(seed=1, rows=ROWS):
    """Features, and follow-up that depends on the first of them."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 4))
    outcomes = {}
    for scale, endpoint in ((20.0, Endpoint.OS), (8.0, Endpoint.PFS)):
        time = scale * random.exponential(np.exp(-features[:, 0])) + 0.01
        contact = random.uniform(10, 48, rows)
        outcomes[endpoint] = (np.minimum(time, contact), time <= contact)
    return features, outcomes


def make_cohort(outcomes, keys=None):
    return Cohort(
        networks=("one", "two"),
        patient_keys=keys or [f"P{row}" for row in range(len(outcomes[Endpoint.OS][0]))],
        outcomes={endpoint: Outcome(*pair) for endpoint, pair in outcomes.items()},
    )


def linear_networks(features, outcomes):
    """Stands where the networks do: two linear fits of log time, on the rows they are given and no others."""

    def fit(rows):
        weights = {}
        for endpoint, (time, _) in outcomes.items():
            design = np.column_stack([features[rows], np.ones(len(rows))])
            solved = np.linalg.lstsq(design, -np.log(time[rows]))[0]
            weights[endpoint] = np.column_stack([solved[:4], np.eye(4)[1]])
        return lambda wanted: {endpoint: features[wanted] @ matrix for endpoint, matrix in weights.items()}

    return fit


def hash_of(ensembles):
    digest = hashlib.sha256()
    for endpoint in sorted(ensembles):
        ensemble = ensembles[endpoint]
        for array in (ensemble.mean, ensemble.sd, *ensemble.forest.arrays().values()):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def fitted_hashes(features, outcomes, fold):
    cohort = make_cohort(outcomes)
    scored = score_out_of_fold(cohort, linear_networks(features, outcomes), fold, SMALL)
    return [hash_of(ensembles) for ensembles in scored.ensembles], scored


@pytest.fixture(scope="module")
def drawn():
    features, outcomes = draw()
    fold = draw_folds(make_cohort(outcomes), 3, seed=0)
    return features, outcomes, fold


def spoil(features, outcomes, rows):
    """Other inputs and other outcomes in some rows."""
    features = features.copy()
    features[rows] += 7.0
    changed = {}
    for endpoint, (time, event) in outcomes.items():
        time, event = time.copy(), event.copy()
        time[rows], event[rows] = time[rows][::-1] * 0.5, ~event[rows]
        changed[endpoint] = (time, event)
    return features, changed


def test_nothing_of_the_held_out_rows_changes_a_fitted_array(drawn):
    features, outcomes, fold = drawn
    before, _ = fitted_hashes(features, outcomes, fold)
    for number in range(3):
        after, _ = fitted_hashes(*spoil(features, outcomes, np.flatnonzero(fold == number)), fold)
        assert [one == other for one, other in zip(before, after, strict=True)] == [
            place == number for place in range(3)
        ]


def test_a_planted_leak_is_caught_by_the_same_hash(drawn):
    features, outcomes, fold = drawn

    def leaky(features, outcomes):
        fit = linear_networks(features, outcomes)
        return lambda rows: fit(np.arange(ROWS))  # looks at everyone

    hashes = []
    for inputs in (drawn[:2], spoil(features, outcomes, np.flatnonzero(fold == 0))):
        scored = score_out_of_fold(make_cohort(inputs[1]), leaky(*inputs), fold, SMALL)
        hashes.append(hash_of(scored.ensembles[0]))
    assert hashes[0] != hashes[1]


def test_every_row_is_scored_by_the_fold_that_held_it_out(drawn):
    features, outcomes, fold = drawn
    _, scored = fitted_hashes(features, outcomes, fold)
    fit = linear_networks(features, outcomes)
    for endpoint in Endpoint:
        assert np.isfinite(scored.scores[endpoint]).all()
        for number in range(3):
            held = np.flatnonzero(fold == number)
            ensemble = scored.ensembles[number][endpoint]
            raw = fit(np.flatnonzero(fold != number))(held)[endpoint]
            np.testing.assert_array_equal(scored.scores[endpoint][held], ensemble.scores(raw))
            np.testing.assert_array_equal(scored.standardised[endpoint][held], ensemble.standardise(raw))


def test_scores_of_two_cohort_sizes_lie_on_one_scale():
    means = []
    for rows in (60, 240):
        features, outcomes = draw(seed=4, rows=rows)
        cohort = make_cohort(outcomes)
        everyone = np.arange(rows)
        log_risks = linear_networks(features, outcomes)(everyone)(everyone)
        ensemble = fit_ensembles(cohort, log_risks, everyone, SMALL)[Endpoint.OS]
        means.append(
            (
                ensemble.mortalities(log_risks[Endpoint.OS]).mean(),
                ensemble.scores(log_risks[Endpoint.OS]).mean(),
            )
        )
    assert means[1][0] > 2.5 * means[0][0]  # mortality grows with the cohort
    assert means[1][1] == pytest.approx(means[0][1], abs=0.25)


def test_folds_are_balanced_and_keep_patients_together():
    _, outcomes = draw()
    keys = [f"P{row // 2}" for row in range(ROWS)]
    fold = draw_folds(make_cohort(outcomes, keys), 3, seed=5)
    assert (fold[::2] == fold[1::2]).all()
    single = draw_folds(make_cohort(outcomes), 3, seed=5)
    events = outcomes[Endpoint.OS][1]
    counts = [int(events[single == number].sum()) for number in range(3)]
    assert max(counts) - min(counts) <= 2
    assert np.bincount(single).tolist() == [30, 30, 30]
    np.testing.assert_array_equal(single, draw_folds(make_cohort(outcomes), 3, seed=5))


def test_refuses_folds_that_cannot_be():
    _, outcomes = draw(rows=6)
    with pytest.raises(CohortRefused, match="6 patients cannot make 7 folds"):
        draw_folds(make_cohort(outcomes), 7, seed=0)
    lone = {endpoint: (time, np.arange(6) == 0) for endpoint, (time, _) in outcomes.items()}
    with pytest.raises(CohortRefused, match="has no OS event"):
        draw_folds(make_cohort(lone), 3, seed=0)


def test_refuses_a_network_that_says_the_same_of_everyone(drawn):
    _, outcomes, _ = drawn
    cohort = make_cohort(outcomes)
    everyone = np.arange(ROWS)
    flat = np.column_stack([np.arange(ROWS, dtype=float), np.zeros(ROWS)])
    with pytest.raises(InvalidInput, match="two: the same OS log-risk"):
        fit_ensembles(cohort, dict.fromkeys(Endpoint, flat), everyone, SMALL)
    with pytest.raises(InvalidInput, match="for 90 rows"):
        fit_ensembles(cohort, dict.fromkeys(Endpoint, flat[:5]), everyone, SMALL)
