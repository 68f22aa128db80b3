"""Every survival statistic against R, whose values lie in tests/golden beside the script that made them."""

import csv
from pathlib import Path

import numpy as np
import pytest

from engines.survival.brier import brier_score, kaplan_meier_brier
from engines.survival.calibration import assess_calibration
from engines.survival.concordance import compare_concordance, measure_concordance, uno_c
from engines.survival.cox import Ties, compare_nested, fit_cox, hazard_ratios, predict_survival
from engines.survival.cutoff import select_cutoff
from engines.survival.decision import decision_curve
from engines.survival.kaplan_meier import (
    compare_groups,
    count_at_risk,
    estimate_follow_up,
    estimate_survival,
    survival_at,
    survival_quantile,
)
from engines.survival.outcome import Outcome
from engines.survival.proportionality import TimeScale, assess_proportionality
from engines.survival.roc import measure_auc

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
VARIABLES = ("score", "age", "female", "child_b")
HORIZONS = (6.0, 12.0, 24.0)


@pytest.fixture(scope="module")
def values():
    with (GOLDEN / "survival_values.csv").open(newline="") as file:
        read = {row["name"]: float(row["value"]) for row in csv.DictReader(file)}

    def golden(name):
        """A single value, or the vector name.1, name.2 ..."""
        if name in read:
            return read[name]
        vector = []
        while f"{name}.{len(vector) + 1}" in read:
            vector.append(read[f"{name}.{len(vector) + 1}"])
        assert vector, f"no golden value {name}"
        return np.array(vector)

    return golden


@pytest.fixture(scope="module")
def cohort():
    with (GOLDEN / "survival_cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def outcome(cohort):
    return Outcome(cohort["time"], cohort["event"])


@pytest.fixture(scope="module")
def variables(cohort):
    return np.column_stack([cohort[name] for name in VARIABLES])


@pytest.fixture(scope="module")
def risk(cohort):
    """Predicted risk at each horizon: the formula of the R script."""
    return np.column_stack([1 - np.exp(-0.05 * np.exp(0.8 * cohort["score"]) * t) for t in HORIZONS])


@pytest.mark.parametrize("ties", list(Ties))
def test_cox_coefficients_covariance_and_likelihood_equal_r(ties, values, outcome, variables):
    fit = fit_cox(variables, outcome, VARIABLES, ties=ties)
    np.testing.assert_allclose(fit.coefficients, values(f"cox.{ties.value}.coef"), rtol=1e-9)
    np.testing.assert_allclose(fit.covariance.ravel(), values(f"cox.{ties.value}.var"), rtol=1e-8)
    np.testing.assert_allclose(
        (fit.null_log_likelihood, fit.log_likelihood), values(f"cox.{ties.value}.loglik"), rtol=1e-12
    )


@pytest.mark.parametrize("ties", list(Ties))
def test_predicted_survival_and_its_interval_equal_r(ties, values, outcome, variables):
    fit = fit_cox(variables, outcome, VARIABLES, ties=ties)
    got = predict_survival(fit, [(0, 50, 0, 0), (1.5, 70, 1, 1)], (3, 12, 24, 40))
    for name, array in (
        ("surv", got.survival),
        ("low", got.low),
        ("high", got.high),
        ("se", got.standard_error),
    ):
        np.testing.assert_allclose(array.ravel(), values(f"cox.{ties.value}.{name}"), rtol=1e-7)


def test_ridge_coefficients_and_covariance_equal_r(values, outcome, variables):
    fit = fit_cox(variables, outcome, VARIABLES, ridge=5.0)
    np.testing.assert_allclose(fit.coefficients, values("cox.ridge.coef"), rtol=1e-7)
    np.testing.assert_allclose(fit.covariance.ravel(), values("cox.ridge.var"), rtol=1e-7)
    assert fit.effective_degrees < len(VARIABLES)


def test_likelihood_ratio_equals_r(values, outcome, variables):
    test = compare_nested(
        fit_cox(variables[:, 1:3], outcome, VARIABLES[1:3]), fit_cox(variables, outcome, VARIABLES)
    )
    np.testing.assert_allclose(
        (test.statistic, test.p_value), (values("cox.lr.chisq"), values("cox.lr.p")), rtol=1e-8
    )


@pytest.mark.parametrize("ties", list(Ties))
@pytest.mark.parametrize("scale", list(TimeScale))
def test_proportional_hazards_equal_r(ties, scale, values, outcome, variables):
    fit = fit_cox(variables, outcome, VARIABLES, ties=ties)
    tests = assess_proportionality(fit, variables, outcome, scale)
    name = f"zph.{ties.value}.{scale.value}"
    np.testing.assert_allclose([test.statistic for test in tests], values(f"{name}.chisq"), rtol=1e-7)
    np.testing.assert_allclose([test.p_value for test in tests], values(f"{name}.p"), rtol=1e-7)
    assert tests[-1].name == "GLOBAL"


def test_kaplan_meier_equals_r(values, outcome):
    curve = estimate_survival(outcome)
    times = (3.0, 12.0, 24.0, 40.0)
    points = [survival_at(curve, time) for time in times]
    np.testing.assert_allclose([point.survival for point in points], values("km.surv"), rtol=1e-12)
    np.testing.assert_allclose([point.low for point in points], values("km.low"), rtol=1e-10)
    np.testing.assert_allclose([point.high for point in points], values("km.high"), rtol=1e-10)
    assert count_at_risk(curve, times) == tuple(values("km.risk").astype(int))
    index = np.searchsorted(curve.time, times, side="right") - 1
    np.testing.assert_allclose(curve.standard_error[index], values("km.se"), rtol=1e-10)


def test_quantiles_and_follow_up_equal_r(values, outcome):
    curve = estimate_survival(outcome)
    found = [survival_quantile(curve, share) for share in (0.25, 0.5)]
    assert [quantile.time for quantile in found] == list(values("km.quantile"))
    assert [quantile.low for quantile in found] == list(values("km.quantile.low"))
    assert [quantile.high for quantile in found] == list(values("km.quantile.high"))
    follow_up = survival_quantile(estimate_follow_up(outcome))
    assert (follow_up.time, follow_up.low) == (values("followup.median"), values("followup.low"))


def test_logrank_of_two_and_four_groups_equals_r(values, outcome, cohort):
    two = compare_groups(outcome, [str(group) for group in cohort["child_b"]])
    np.testing.assert_allclose(
        (two.statistic, two.p_value), (values("logrank.two.chisq"), values("logrank.two.p")), rtol=1e-9
    )
    np.testing.assert_allclose(two.expected, values("logrank.two.exp"), rtol=1e-10)
    assert two.observed == tuple(values("logrank.two.obs"))
    four = compare_groups(outcome, [str(group) for group in cohort["coarse"]])
    np.testing.assert_allclose(
        (four.statistic, four.p_value), (values("logrank.four.chisq"), values("logrank.four.p")), rtol=1e-9
    )
    assert four.degrees == 3


@pytest.mark.parametrize("name", ["score", "rival", "coarse"])
def test_concordance_and_its_counts_equal_r(name, values, outcome, cohort):
    got = measure_concordance(cohort[name], outcome)
    counts = (got.concordant, got.discordant, got.tied_score, got.tied_time, got.tied_both)
    assert counts == tuple(values(f"concordance.{name}.count"))
    assert got.c_index == pytest.approx(values(f"concordance.{name}"), rel=1e-14)
    assert got.standard_error == pytest.approx(values(f"noether.{name}"), rel=1e-10)


@pytest.mark.parametrize("name", ["score", "rival", "coarse"])
def test_uno_c_equals_r(name, values, outcome, cohort):
    assert uno_c(cohort[name], outcome) == pytest.approx(values(f"uno.{name}"), rel=1e-12)
    assert uno_c(cohort[name], outcome, until=24) == pytest.approx(values(f"uno24.{name}"), rel=1e-12)


def test_t_test_of_two_concordances_is_two_sided_and_equals_its_definition(values, outcome, cohort):
    test = compare_concordance(cohort["score"], cohort["rival"], outcome)
    assert test.statistic == pytest.approx(values("ttest.t"), rel=1e-10)
    assert test.p_value == pytest.approx(values("ttest.p"), rel=1e-9)
    reverse = compare_concordance(cohort["rival"], cohort["score"], outcome)
    assert reverse.p_value == pytest.approx(test.p_value, rel=1e-12)
    assert reverse.statistic == pytest.approx(-test.statistic, rel=1e-12)


@pytest.mark.parametrize("name", ["score", "rival", "coarse"])
def test_dynamic_auc_equals_r(name, values, outcome, cohort):
    got = [measure_auc(cohort[name], outcome, time).auc for time in HORIZONS]
    np.testing.assert_allclose(got, values(f"auc.{name}"), rtol=1e-12)


def test_brier_scores_equal_r(values, outcome, risk):
    got = [brier_score(1 - risk[:, k], outcome, time) for k, time in enumerate(HORIZONS)]
    np.testing.assert_allclose(got, values("brier.model"), rtol=1e-12)
    reference = [kaplan_meier_brier(outcome, time) for time in HORIZONS]
    np.testing.assert_allclose(reference, values("brier.null"), rtol=1e-12)


@pytest.mark.parametrize(("column", "name"), [("score", "maxstat"), ("age", "maxstat.age")])
def test_maximally_selected_cutoff_equals_r(column, name, values, outcome, cohort):
    cut = select_cutoff(cohort[column], outcome)
    assert cut.cutoff == pytest.approx(values(f"{name}.cutoff"), rel=1e-14)
    assert cut.statistic == pytest.approx(values(f"{name}.statistic"), rel=1e-10)
    assert cut.p_value == pytest.approx(values(f"{name}.p"), rel=1e-8)


def test_calibration_equals_r(values, outcome, risk):
    got = assess_calibration(risk[:, 1], outcome, 12.0)
    assert got.slope is not None
    assert got.slope.value == pytest.approx(values("calibration.slope"), rel=1e-9)
    np.testing.assert_allclose((got.slope.low, got.slope.high), values("calibration.slope.ci"), rtol=1e-8)
    assert got.ici == pytest.approx(values("calibration.ici"), rel=1e-7)
    assert got.e50 == pytest.approx(values("calibration.e50"), rel=1e-7)
    assert got.e90 == pytest.approx(values("calibration.e90"), rel=1e-7)
    assert got.ratio == pytest.approx(values("calibration.oe"), rel=1e-12)


def test_net_benefit_equals_r(values, outcome, risk):
    for point in decision_curve(risk[:, 1], outcome, 12.0, (0.3, 0.5, 0.7)):
        np.testing.assert_allclose(
            (point.model, point.everyone), values(f"benefit.{point.threshold}"), rtol=1e-12
        )


def test_hazard_ratio_interval_is_wald(values, outcome, variables):
    first = hazard_ratios(fit_cox(variables, outcome, VARIABLES))[0]
    b, error = values("cox.efron.coef")[0], np.sqrt(values("cox.efron.var")[0])
    expected = np.exp([b, b - 1.959963984540054 * error, b + 1.959963984540054 * error])
    np.testing.assert_allclose((first.hazard_ratio, first.low, first.high), expected, rtol=1e-8)
