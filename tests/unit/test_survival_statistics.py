"""Survival statistics: behaviour at the edges, properties that must hold, and lifelines as a second witness."""

import csv
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import InvalidInput, SurvivalRefused, VariableSeparates
from engines.survival import bootstrap
from engines.survival.bootstrap import (
    bootstrap_concordance,
    compare_paired,
    count_draws,
    draw_resamples,
    percentile_interval,
)
from engines.survival.brier import integrate_brier
from engines.survival.calibration import assess_calibration, calibration_slope
from engines.survival.concordance import compare_concordance, harrell_c, measure_concordance, uno_c
from engines.survival.cox import Ties, compare_nested, fit_cox, log_hazard, predict_survival
from engines.survival.cutoff import is_high, median_cutoff, select_cutoff
from engines.survival.decision import decision_curve
from engines.survival.kaplan_meier import (
    censoring_survival,
    compare_groups,
    estimate_survival,
    survival_at,
    survival_quantile,
)
from engines.survival.outcome import Outcome
from engines.survival.proportionality import assess_proportionality
from engines.survival.risk_sets import arrange_risk_sets, partial_likelihood
from engines.survival.roc import bootstrap_auc, measure_auc

cohorts = st.integers(min_value=3, max_value=25).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n),
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
    )
)


def simulate(n, seed, effect=0.8):
    """A synthetic cohort with rounded times and a known effect of its first variable."""
    random = np.random.default_rng(seed)
    x = np.column_stack([random.normal(size=n), random.integers(0, 2, n)])
    latent = random.exponential(20 * np.exp(-effect * x[:, 0]))
    leaving = random.exponential(40, n)
    return x, Outcome(np.round(np.minimum(latent, leaving), 1), latent <= leaving)


def comparable_pairs(outcome):
    time, event = outcome.time, outcome.event
    same = (time[:, None] == time[None, :]) & ~event[None, :]
    return event[:, None] & ((time[:, None] < time[None, :]) | same)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(cohorts)
def test_concordance_counts_equal_the_pair_matrix(drawn):
    time, event, score = (np.array(part, dtype=float) for part in drawn)
    outcome = Outcome(time, event)
    pairs = comparable_pairs(outcome)
    if not pairs.any():
        with pytest.raises(SurvivalRefused, match="can be compared"):
            measure_concordance(score, outcome)
        return
    got = measure_concordance(score, outcome)
    higher, equal = score[:, None] > score[None, :], score[:, None] == score[None, :]
    assert got.concordant == (pairs & higher).sum()
    assert got.tied_score == (pairs & equal).sum()
    assert got.discordant == pairs.sum() - got.concordant - got.tied_score
    assert harrell_c(score, outcome) == got.c_index
    assert harrell_c(-score, outcome) == pytest.approx(1 - got.c_index, abs=1e-12)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(cohorts, st.integers(0, 2**32 - 1))
def test_bootstrap_by_pair_matrix_equals_counting_each_resample(drawn, seed):
    time, event, score = (np.array(part, dtype=float) for part in drawn)
    outcome = Outcome(time, event)
    rows = np.random.default_rng(seed).integers(0, outcome.n, (4, outcome.n))
    got = bootstrap_concordance(score[None], outcome, count_draws(rows, outcome.n))[:, 0]
    for value, drawn_rows in zip(got, rows, strict=True):
        sample = outcome.take(drawn_rows)
        if comparable_pairs(sample).any():
            assert value == harrell_c(score[drawn_rows], sample)
        else:
            assert np.isnan(value)


def test_bootstrap_equals_a_lifelines_loop_on_the_same_resamples():
    from lifelines.utils import concordance_index

    x, outcome = simulate(120, 3)
    score = np.round(x[:, 0], 1)
    rows = np.random.default_rng(5).integers(0, outcome.n, (20, outcome.n))
    got = bootstrap_concordance(score[None], outcome, count_draws(rows, outcome.n))[:, 0]
    loop = [concordance_index(outcome.time[r], -score[r], outcome.event[r]) for r in rows]
    np.testing.assert_allclose(got, loop, rtol=0, atol=1e-12)


def test_cox_equals_lifelines_and_the_known_effect():
    from lifelines import CoxPHFitter
    from pandas import DataFrame

    x, outcome = simulate(300, 1)
    fit = fit_cox(x, outcome, ("score", "group"))
    frame = DataFrame({"score": x[:, 0], "group": x[:, 1], "time": outcome.time, "event": outcome.event})
    peer = CoxPHFitter().fit(frame, "time", "event")
    np.testing.assert_allclose(fit.coefficients, peer.params_.to_numpy(), rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), peer.standard_errors_.to_numpy(), rtol=1e-5)
    assert fit.coefficients[0] == pytest.approx(0.8, abs=3 * np.sqrt(fit.covariance[0, 0]))


def test_cox_on_rossi_gives_the_printed_coefficients(test_data):
    with (test_data / "survival" / "rossi.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ("fin", "age", "race", "wexp", "mar", "paro", "prio")
    x = np.array([[float(row[name]) for name in names] for row in rows])
    outcome = Outcome(
        np.array([float(row["week"]) for row in rows]), np.array([int(row["arrest"]) for row in rows])
    )
    printed = (-0.3794222, -0.0574377, 0.3138998, -0.1497957, -0.4337039, -0.0848711, 0.0914971)
    np.testing.assert_allclose(fit_cox(x, outcome, names).coefficients, printed, atol=5e-8)


def test_concordance_on_whas500_gives_the_printed_counts(test_data):
    rows = np.loadtxt(test_data / "survival" / "whas500_predictions.csv", delimiter=",")
    outcome = Outcome(rows[:, 1], rows[:, 0])
    got = measure_concordance(rows[:, 2], outcome)
    same_time = outcome.time[:, None] == outcome.time[None, :]
    assert (comparable_pairs(outcome) & same_time).sum() == 14
    assert (got.concordant, got.discordant, got.tied_score) == (57849, 17300, 0)
    assert got.c_index == pytest.approx(0.7697907, abs=5e-8)


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("whas_train_test", 0.816003),
        ("support_train_test", 0.583074),
        ("metabric_IHC4_clinical_train_test", 0.632363),
        ("gbsg_cancer_train_test", 0.656291),
        ("linear_survival_data", 0.778274),
        ("gaussian_survival_data", 0.486842),
    ],
)
def test_cox_on_deepsurv_splits_gives_the_printed_concordance(name, printed, test_data):
    h5py = pytest.importorskip("h5py", reason="DeepSurv's splits are HDF5: pip install h5py to check them")
    with h5py.File(test_data / "survival" / "deepsurv" / f"{name}.h5") as file:
        parts = {part: {key: np.array(file[part][key]) for key in "xte"} for part in ("train", "test")}
    train, test = (Outcome(part["t"].astype(float), part["e"]) for part in (parts["train"], parts["test"]))
    fit = fit_cox(parts["train"]["x"].astype(float), train)
    assert harrell_c(log_hazard(fit, parts["test"]["x"].astype(float)), test) == pytest.approx(
        printed, abs=5e-7
    )


def test_cox_goes_to_the_maximum_itself_however_large_the_likelihood():
    # A stop by the relative gain leaves an error that grows with the cohort: 4e-6 at n = 1,000 before the last step.
    for seed in range(8):
        x, outcome = simulate(2000, seed)
        fit = fit_cox(x, outcome)
        centred = x - fit.means
        data = arrange_risk_sets(centred, outcome, Ties.EFRON)
        assert np.abs(partial_likelihood(data, fit.coefficients).gradient).max() < 1e-7


def test_statistics_of_extreme_scores_are_those_of_their_ranks_and_cox_refuses_what_floating_point_cannot_hold():
    x, outcome = simulate(80, 4)
    score, extreme = x[:, 0], x[:, 0].copy()
    extreme[np.argmax(score)], extreme[np.argmin(score)] = 1.7e308, -1.7e308
    resamples = draw_resamples(outcome.n, 20, 1)
    for measure in (
        lambda values: bootstrap_concordance(values[None], outcome, resamples),
        lambda values: bootstrap_auc(values[None], outcome, 12.0, resamples),
    ):
        np.testing.assert_array_equal(measure(extreme), measure(score))
    for values in (extreme, score * 1e-200):
        with pytest.raises(InvalidInput, match="another unit"):
            fit_cox(values, outcome, ("score",))


def test_a_patient_far_beyond_the_model_has_a_survival_of_0_and_before_the_first_event_of_1():
    x, outcome = simulate(80, 4)
    fit = fit_cox(x[:, 0], outcome)
    got = predict_survival(fit, [[1e200]], (outcome.time[outcome.event].min() / 2, 12.0))
    np.testing.assert_array_equal(got.survival[0], (1.0, 0.0))
    assert np.isfinite(got.low).all()
    assert np.isfinite(got.high).all()


def test_calibration_of_a_model_that_expects_no_event_is_refused():
    _, outcome = simulate(80, 4)
    with pytest.raises(SurvivalRefused, match="expects no event by 12"):
        assess_calibration(np.zeros(outcome.n), outcome, 12.0)


def test_calibration_slope_has_a_finite_interval_however_wide():
    _, outcome = simulate(80, 4)
    middle = np.argsort(outcome.time)[40]
    slope = calibration_slope(np.where(np.arange(outcome.n) == middle, 1e-6, 0.0), outcome)
    assert (
        slope.low < slope.value < slope.high
    )  # the bounds of the hazard ratio, exp(-2e6), would be 0 and infinite
    assert np.isfinite((slope.low, slope.high)).all()


def test_median_of_a_curve_that_ends_on_one_half_is_that_of_r():
    # R: quantile(survfit(Surv(c(1.7, 24.2), c(1, 0)) ~ 1), .5) gives 12.95
    assert survival_quantile(estimate_survival(Outcome([1.7, 24.2], [1, 0]))).time == pytest.approx(12.95)


def test_cox_does_not_depend_on_units_or_order_of_rows():
    x, outcome = simulate(150, 2)
    fit = fit_cox(x, outcome)
    order = np.random.default_rng(0).permutation(outcome.n)
    other = fit_cox((x * (1000, 1) + (5, 0))[order], outcome.take(order))
    np.testing.assert_allclose(other.coefficients * (1000, 1), fit.coefficients, rtol=1e-8)
    assert other.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-12)


def test_separating_variable_is_named_and_a_ridge_fits_it():
    time = np.arange(1.0, 41)
    leading = (time <= 15).astype(float)
    noise = np.random.default_rng(0).normal(size=40)
    outcome = Outcome(time, np.ones(40, dtype=bool))
    with pytest.raises(VariableSeparates, match=r"^leading: the hazard ratio is infinite") as caught:
        fit_cox(np.column_stack([noise, leading]), outcome, ("noise", "leading"))
    assert caught.value.variables == ("leading",)
    fit = fit_cox(np.column_stack([noise, leading]), outcome, ("noise", "leading"), ridge=1.0)
    assert 1 < fit.coefficients[1] < 6


def test_group_without_events_separates():
    _, outcome = simulate(100, 4)
    group = (np.arange(100) < 12).astype(float)
    without = Outcome(outcome.time, outcome.event & (group == 0))
    with pytest.raises(VariableSeparates):
        fit_cox(group, without)


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (
            lambda x, o: (x, Outcome(o.time, np.zeros(o.n, bool))),
            SurvivalRefused,
            "all 60 patients are censored",
        ),
        (lambda x, o: (np.column_stack([x, np.ones(60)]), o), InvalidInput, "x2: the same value"),
        (lambda x, o: (np.column_stack([x, x[:, 0] - x[:, 1]]), o), InvalidInput, "linear combination"),
        (lambda x, o: (np.where(x > 2, np.nan, x), o), InvalidInput, "missing or infinite"),
        (lambda x, o: (x[:-1], o), InvalidInput, "60 rows"),
    ],
)
def test_cox_refuses_what_it_cannot_fit(spoil, error, words):
    x, outcome = simulate(60, 11)
    x[0, 0] = 3.0
    with pytest.raises(error, match=words):
        fit_cox(*spoil(x, outcome))


def test_score_rounded_beside_the_variables_it_was_made_of_counts_as_dependent():
    x, outcome = simulate(90, 22)
    score = (0.3 * x[:, 0] + 0.5 * x[:, 1]).round(4)
    with pytest.raises(InvalidInput, match="linear combination of the other variables, or nearly"):
        fit_cox(np.column_stack([score, x]), outcome)


@pytest.mark.parametrize("time", [np.arange(1.0, 201), np.full(200, 3.0) + (np.arange(200) > 0)])
def test_score_that_orders_every_event_separates_whatever_its_size(time):
    outcome = Outcome(time, np.ones(200, dtype=bool))
    with pytest.raises(VariableSeparates):
        fit_cox(np.column_stack([-time, np.random.default_rng(3).normal(size=200)]), outcome)


def test_units_of_any_size_give_the_same_tests():
    x, outcome = simulate(120, 23)
    small, large = (fit_cox(x * unit, outcome) for unit in (1.0, 1e12))
    np.testing.assert_allclose(large.coefficients * 1e12, small.coefficients, rtol=1e-8)
    tests = [assess_proportionality(fit, x * unit, outcome) for fit, unit in ((small, 1.0), (large, 1e12))]
    np.testing.assert_allclose(tests[1][-1].statistic, tests[0][-1].statistic, rtol=1e-6)


def test_dependent_variables_fit_with_a_ridge():
    x, outcome = simulate(80, 6)
    both = np.column_stack([x[:, 0], x[:, 0]])
    fit = fit_cox(both, outcome, ridge=0.5)
    assert fit.coefficients[0] == pytest.approx(fit.coefficients[1], rel=1e-9)


def test_survival_is_unknown_beyond_follow_up_and_one_at_time_zero():
    x, outcome = simulate(80, 7)
    got = predict_survival(fit_cox(x, outcome), x[:3], (0.0, 5.0, outcome.time.max() + 1))
    assert (got.survival[:, 0] == 1).all()
    assert (got.low[:, 1] < got.survival[:, 1]).all()
    assert (got.survival[:, 1] < got.high[:, 1]).all()
    assert np.isnan(got.survival[:, 2]).all()


def test_log_hazard_is_zero_at_the_means_and_refuses_other_columns():
    x, outcome = simulate(50, 8)
    fit = fit_cox(x, outcome)
    assert log_hazard(fit, fit.means)[0] == 0
    with pytest.raises(InvalidInput, match="2 variables"):
        log_hazard(fit, x[:, :1])


def test_nested_comparison_refuses_other_patients_and_other_variables():
    x, outcome = simulate(60, 9)
    large = fit_cox(x, outcome, ("a", "b"))
    with pytest.raises(InvalidInput, match="same patients"):
        compare_nested(fit_cox(x[:50, :1], outcome.take(np.arange(50)), ("a",)), large)
    with pytest.raises(InvalidInput, match="nested"):
        compare_nested(fit_cox(x[:, :1], outcome, ("c",)), large)
    with pytest.raises(InvalidInput, match="ridge"):
        compare_nested(fit_cox(x[:, :1], outcome, ("a",), ridge=1.0), large)
    with pytest.raises(InvalidInput, match="ridge"):
        assess_proportionality(replace(large, ridge=1.0), x, outcome)


@pytest.mark.parametrize(
    ("time", "event", "words"),
    [
        ([1.0, -2.0], [1, 0], "before time zero"),
        ([1.0, np.nan], [1, 0], "finite"),
        ([1.0, 2.0], [1, 2], "events must be 0 or 1"),
        ([1.0, 2.0], [1], "one length"),
        ([], [], "no patient"),
    ],
)
def test_outcome_refuses_bad_follow_up(time, event, words):
    with pytest.raises(InvalidInput, match=words):
        Outcome(np.array(time), np.array(event))


def test_kaplan_meier_without_censoring_is_the_share_alive():
    outcome = Outcome(np.arange(1.0, 11), np.ones(10, dtype=bool))
    curve = estimate_survival(outcome)
    np.testing.assert_allclose(curve.survival, np.arange(9, -1, -1) / 10, atol=1e-12)
    assert survival_quantile(curve).time == 5.5
    assert survival_at(curve, 99).survival == 0


def test_survival_beyond_the_last_censoring_is_not_estimable():
    curve = estimate_survival(Outcome(np.array([1.0, 2.0, 3.0]), np.array([True, False, False])))
    assert not survival_at(curve, 3.5).estimable
    assert survival_quantile(curve).time is None


def test_events_come_before_censorings_of_the_same_time():
    outcome = Outcome(np.array([1.0, 1.0, 2.0]), np.array([True, False, True]))
    assert censoring_survival(outcome, [1.0], before=True)[0] == 1
    assert censoring_survival(outcome, [1.0], before=False)[0] == 0.5


def test_logrank_refuses_one_group():
    with pytest.raises(InvalidInput, match="two groups"):
        compare_groups(Outcome(np.array([1.0, 2.0]), np.array([True, True])), ["a", "a"])


def test_uno_c_without_censoring_is_harrell_c():
    x, outcome = simulate(90, 12)
    complete = Outcome(outcome.time, np.ones(outcome.n, dtype=bool))
    assert uno_c(x[:, 0], complete) == pytest.approx(harrell_c(x[:, 0], complete), rel=1e-12)


def test_weighted_statistics_equal_scikit_survival_where_no_times_are_tied():
    from sksurv.metrics import (
        concordance_index_ipcw,
        cumulative_dynamic_auc,
        integrated_brier_score,
    )
    from sksurv.util import Surv

    random = np.random.default_rng(24)
    risk = random.normal(size=200)
    death, leaving = random.exponential(20 * np.exp(-risk)), random.exponential(30, 200)
    outcome = Outcome(np.minimum(death, leaving), death <= leaving)
    surv = Surv.from_arrays(outcome.event, outcome.time)
    score = risk + random.normal(size=200)
    peer_c = concordance_index_ipcw(surv, surv, score, tau=24)[0]
    assert uno_c(score, outcome, until=24) == pytest.approx(peer_c, rel=1e-10)
    times = np.array([6.0, 12.0, 24.0])
    peer_auc = cumulative_dynamic_auc(surv, surv, score, times)[0]
    np.testing.assert_allclose([measure_auc(score, outcome, t).auc for t in times], peer_auc, rtol=1e-10)
    grid = np.linspace(2, 24, 20)
    survival = np.exp(-np.exp(score)[:, None] * grid[None, :] / 30)
    peer_brier = integrated_brier_score(surv, surv, survival, grid)
    assert integrate_brier(survival, outcome, grid).score == pytest.approx(peer_brier, rel=1e-10)


def test_score_against_itself_is_no_difference():
    x, outcome = simulate(60, 13)
    test = compare_concordance(x[:, 0], 2 * x[:, 0], outcome)
    assert (test.difference, test.p_value) == (0, 1)


def test_auc_is_not_estimable_with_fewer_than_ten_at_risk():
    x, outcome = simulate(60, 14)
    horizon = float(np.sort(outcome.time)[-9])
    got = measure_auc(x[:, 0], outcome, horizon)
    assert got.auc is None
    assert got.reason.startswith("not estimable: 8 at risk beyond")
    beyond = measure_auc(x[:, 0], outcome, 500.0)
    assert beyond.reason.startswith("not estimable: the last follow-up")


def test_bootstrap_auc_equals_the_auc_of_each_resample():
    x, outcome = simulate(100, 15)
    score = np.round(x[:, 0], 1)
    rows = np.random.default_rng(2).integers(0, 100, (10, 100))
    got = bootstrap_auc(score[None], outcome, 10.0, count_draws(rows, 100))[:, 0]
    expected = [measure_auc(score[r], outcome.take(r), 10.0).auc for r in rows]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_large_cohorts_are_bootstrapped_without_a_pair_matrix_to_the_same_values(monkeypatch):
    x, outcome = simulate(80, 25)
    scores = np.stack([np.round(x[:, 0], 1), x[:, 1]])
    resamples = draw_resamples(80, 300, 4)
    c_index = bootstrap_concordance(scores, outcome, resamples)
    monkeypatch.setattr(bootstrap, "LARGEST_PAIR_MATRIX", 10)
    np.testing.assert_array_equal(bootstrap_concordance(scores, outcome, resamples), c_index)


def test_paired_bootstrap_finds_a_real_difference_and_none_where_there_is_none():
    x, outcome = simulate(250, 16)
    noise = np.random.default_rng(1).normal(size=250)
    drawn = bootstrap_concordance(np.stack([x[:, 0], noise, noise]), outcome, draw_resamples(250, 400, 1))
    found = compare_paired(0.2, drawn[:, 0], drawn[:, 1])
    assert found is not None
    assert found.low > 0
    assert found.p_value == pytest.approx(2 / 401)
    none = compare_paired(0.0, drawn[:, 1], drawn[:, 2])
    assert none is not None
    assert none.p_value == 1


def test_interval_is_withheld_when_many_resamples_cannot_be_computed():
    values = np.concatenate([np.full(10, np.nan), np.linspace(0, 1, 90)])
    assert percentile_interval(values) is None


def test_same_seed_gives_the_same_resamples():
    np.testing.assert_array_equal(draw_resamples(50, 5, 9), draw_resamples(50, 5, 9))
    assert (draw_resamples(50, 5, 9) != draw_resamples(50, 5, 10)).any()


def test_perfect_prediction_explains_more_brier_than_none():
    x, outcome = simulate(200, 17)
    times = np.linspace(2, 20, 10)
    good = predict_survival(fit_cox(x, outcome), x, times).survival
    flat = np.tile(estimate_survival(outcome).survival[-1], (200, 10))
    assert integrate_brier(good, outcome, times).explained > 0.1
    assert integrate_brier(flat, outcome, times).explained < 0


def test_survival_at_an_extreme_score_is_0_without_a_warning():
    x, outcome = simulate(100, 19)
    fit = fit_cox(x[:, :1], outcome)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predict_survival(fit, [[1e6]], (float(np.median(outcome.time)),))
    assert found.survival[0, 0] == 0


def test_calibration_of_the_true_risk_is_good_and_of_a_doubled_log_hazard_is_not():
    x, outcome = simulate(2000, 18)
    true = 1 - np.exp(-np.exp(0.8 * x[:, 0]) / 20 * 12)
    got = assess_calibration(true, outcome, 12.0)
    assert got.slope is not None
    assert got.ratio == pytest.approx(1, abs=0.05)
    assert got.slope.value == pytest.approx(1, abs=0.1)
    assert got.ici is not None
    assert got.ici < 0.03
    extreme = assess_calibration(1 - np.exp(-np.exp(1.6 * x[:, 0]) / 20 * 12), outcome, 12.0)
    assert extreme.slope is not None
    assert extreme.slope.value == pytest.approx(0.5, abs=0.05)
    assert extreme.ici is not None
    assert extreme.ici > 2 * got.ici


def test_calibration_of_a_constant_prediction_has_no_slope():
    _, outcome = simulate(100, 19)
    got = assess_calibration(np.full(100, 0.4), outcome, 10.0)
    assert got.slope is None
    assert got.ici is None
    assert len(got.groups) == 1


def test_acting_on_everyone_below_every_risk_equals_treating_all():
    x, outcome = simulate(100, 20)
    (point,) = decision_curve(np.full(100, 0.5), outcome, 10.0, (0.2,))
    assert point.model == point.everyone
    (nobody,) = decision_curve(np.full(100, 0.1), outcome, 10.0, (0.2,))
    assert nobody.model == 0
    with pytest.raises(InvalidInput, match="between 0 and 1"):
        decision_curve(x[:, 0], outcome, 10.0, (0.2,))


def test_cutoffs_are_strict_and_refuse_scores_of_two_values_on_one_side():
    assert list(is_high([1.0, 2.0, 3.0], median_cutoff([1.0, 2.0, 3.0]))) == [False, False, True]
    _, outcome = simulate(100, 21)
    with pytest.raises(SurvivalRefused, match="too many equal scores"):
        select_cutoff((np.arange(100) < 3).astype(float), outcome)
