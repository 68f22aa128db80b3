"""The forest of plain arrays gives what scikit-survival gives, and refuses arrays that are no forest."""

import dataclasses

import numpy as np
import pytest

from engines.errors import InvalidInput, ModelRefused
from engines.forest import LEAF, Forest, forest_of_arrays
from train.fusion import PAPER_FOREST, ForestSettings, fit_forest, lay_out_forest

sksurv_ensemble = pytest.importorskip("sksurv.ensemble")
sksurv_util = pytest.importorskip("sksurv.util")


def draw_cohort(rows, seed, columns=3):
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(rows, columns))
    months = np.round(random.exponential(10.0 * np.exp(-inputs[:, 0])), 1) + 0.1
    events = random.random(rows) < 0.65
    return inputs, months, events


@pytest.fixture(scope="module")
def fitted():
    inputs, months, events = draw_cohort(120, seed=1)
    theirs = sksurv_ensemble.RandomSurvivalForest(
        n_estimators=40,
        max_depth=2,
        min_samples_leaf=2,
        min_samples_split=5,
        max_features="sqrt",
        random_state=88,
    ).fit(inputs, sksurv_util.Surv.from_arrays(event=events, time=months))
    return theirs, lay_out_forest(theirs)


def test_equals_scikit_survival_on_new_rows(fitted):
    theirs, ours = fitted
    rows = np.random.default_rng(2).normal(size=(500, 3))
    np.testing.assert_allclose(ours.mortalities(rows), theirs.predict(rows), rtol=1e-12, atol=0)


def test_equals_scikit_survival_on_rows_placed_on_and_beside_thresholds(fitted):
    theirs, ours = fitted
    inner = ours.left != LEAF
    rows = np.zeros((0, 3))
    for feature, threshold in zip(ours.feature[inner], ours.threshold[inner], strict=True):
        base = np.random.default_rng(int(feature)).normal(size=(5, 3))
        base[:, feature] = [
            threshold,
            np.nextafter(threshold, np.inf),
            np.nextafter(threshold, -np.inf),
            np.nextafter(np.float32(threshold), np.float32(np.inf)),
            np.nextafter(np.float32(threshold), np.float32(-np.inf)),
        ]
        rows = np.vstack([rows, base])
    assert len(rows) > 300
    np.testing.assert_allclose(ours.mortalities(rows), theirs.predict(rows), rtol=1e-12, atol=0)


def test_the_value_on_a_threshold_goes_left_and_float32_decides():
    threshold = 0.1  # float32(0.1) is above 0.1, so a float64 comparison would go the other way
    forest = stump(threshold)
    assert forest.mortalities(np.array([[0.5], [0.25]])).tolist() == [2.0, 2.0]
    assert forest.mortalities(np.array([[0.1]])).tolist() == [2.0]
    assert stump(float(np.float32(0.1))).mortalities(np.array([[0.1]])).tolist() == [1.0]


def test_fit_uses_the_settings_of_the_paper_and_is_repeatable():
    assert ForestSettings(trees=500, depth=2, smallest_leaf=2, smallest_split=5, seed=88) == PAPER_FOREST
    cohort = draw_cohort(60, seed=3)
    small = ForestSettings(trees=5)
    first, second = (fit_forest(*cohort, small) for _ in range(2))
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, second.arrays()[name])
    assert first.event_times == len(np.unique(cohort[1][cohort[2]]))


def test_arrays_go_out_and_come_back(fitted):
    _, ours = fitted
    back = forest_of_arrays(ours.arrays())
    rows = np.random.default_rng(4).normal(size=(20, 3))
    np.testing.assert_array_equal(back.mortalities(rows), ours.mortalities(rows))


def test_refuses_rows_that_do_not_fit(fitted):
    _, ours = fitted
    with pytest.raises(InvalidInput, match="expected \\(rows, 3\\)"):
        ours.mortalities(np.zeros((2, 2)))
    with pytest.raises(InvalidInput, match="not a finite"):
        ours.mortalities(np.array([[0.0, np.nan, 0.0]]))
    with pytest.raises(InvalidInput, match="not a finite"):
        ours.mortalities(np.array([[0.0, 1e300, 0.0]]))


def test_refuses_training_rows_without_an_event():
    with pytest.raises(InvalidInput, match="no event"):
        fit_forest(np.zeros((5, 1)), np.ones(5), np.zeros(5, dtype=bool))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"left": np.array([0, LEAF, LEAF], dtype=np.int32)}, "left child"),
        ({"right": np.array([3, LEAF, LEAF], dtype=np.int32)}, "right child"),
        ({"right": np.array([LEAF, LEAF, LEAF], dtype=np.int32)}, "one child"),
        ({"feature": np.array([1, 0, 0], dtype=np.int32)}, "column outside"),
        ({"threshold": np.array([np.nan, 0.0, 0.0])}, "threshold is not finite"),
        ({"mortality": np.array([0.0, -1.0, 1.0])}, "mortality"),
        ({"mortality": np.array([0.0, 1.0])}, "has 2 nodes"),
        ({"roots": np.array([0, 5], dtype=np.int32)}, "roots"),
        ({"event_times": 0}, "event times"),
    ],
)
def test_refuses_arrays_that_are_no_forest(change, fault):
    with pytest.raises(ModelRefused, match=fault):
        dataclasses.replace(stump(0.5), **change)


def stump(threshold):
    return Forest(
        roots=np.array([0], dtype=np.int32),
        left=np.array([1, LEAF, LEAF], dtype=np.int32),
        right=np.array([2, LEAF, LEAF], dtype=np.int32),
        feature=np.array([0, 0, 0], dtype=np.int32),
        threshold=np.array([threshold, 0.0, 0.0]),
        mortality=np.array([0.0, 1.0, 2.0]),
        features=1,
        event_times=10,
    )
