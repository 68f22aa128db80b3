"""The statistics that only the report computes, against R, whose values lie in tests/golden beside the script."""

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from engines.survival.bootstrap import bootstrap_concordance, compare_paired, draw_resamples
from engines.survival.concordance import harrell_c
from engines.survival.cox import fit_cox
from engines.survival.outcome import Outcome
from train.evaluate.collinearity import inflate_variances
from train.evaluate.hazards import tabulate_subgroups
from train.evaluate.recalibration import intercept_factor
from train.evaluate.refits import FusionInputs, leave_centres_out
from train.evaluate.sample_size import patients_needed
from train.evaluate.score_table import EndpointColumns, ScoreTable
from train.evaluate.treatment import exact_interval

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


@pytest.fixture(scope="module")
def values():
    with (GOLDEN / "evaluation_values.csv").open(newline="") as file:
        return {row["name"]: float(row["value"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def cohort():
    with (GOLDEN / "survival_cohort.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


@pytest.fixture(scope="module")
def outcome(cohort):
    return Outcome(cohort["time"], cohort["event"])


def test_intercept_update_equals_observed_over_expected_of_r(values, cohort, outcome):
    first, rest = np.arange(100), np.arange(100, 160)
    fit = fit_cox(cohort["score"][first], outcome.take(first))
    later = outcome.take(rest)
    factor = intercept_factor(fit, cohort["score"][rest], later)
    # R counts every event; those past the last event of the fit have nothing expected of them and are left out here.
    within = (later.event & (later.time <= fit.baseline.time[-1])).sum() / later.events
    assert within < 1
    assert factor == pytest.approx(values["recalibration.factor"] * within, rel=1e-9)


def test_variance_inflation_equals_r(values, cohort):
    names = ("score", "age", "female", "child_b", "rival")
    got = inflate_variances(np.column_stack([cohort[name] for name in names]))
    np.testing.assert_allclose(got, [values[f"vif.{name}"] for name in names], rtol=1e-10)


def test_exact_interval_equals_r(values):
    expected = (values["exact.interval.1"], values["exact.interval.2"])
    assert exact_interval(23, 61) == pytest.approx(expected, rel=1e-9)


def test_rank_correlation_equals_r(values, cohort):
    assert stats.spearmanr(cohort["score"], cohort["rival"]).statistic == pytest.approx(
        values["spearman"], rel=1e-12
    )


def test_paired_difference_of_c_and_its_spread_agree_with_r(values, cohort, outcome):
    pair = np.stack((cohort["score"], cohort["rival"]))
    drawn = bootstrap_concordance(pair, outcome, draw_resamples(outcome.n, 2000, 1))
    difference = harrell_c(pair[0], outcome) - harrell_c(pair[1], outcome)
    assert difference == pytest.approx(values["paired.difference"], rel=1e-10)
    assert (drawn[:, 0] - drawn[:, 1]).std() == pytest.approx(values["paired.error"], rel=0.1)
    found = compare_paired(difference, drawn[:, 0], drawn[:, 1])
    z = values["paired.difference"] / values["paired.error"]
    assert found.normal_p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.5, abs=0.01)


def test_fusion_without_a_centre_equals_a_ridge_cox_of_r(values, cohort, outcome):
    inputs = FusionInputs(
        names=("score", "age"),
        columns=np.column_stack((cohort["score"], cohort["age"])),
        rows=np.arange(outcome.n),
        outcome=outcome,
    )
    centres = [f"{group:g}" for group in cohort["coarse"]]
    found = {entry.centre: entry for entry in leave_centres_out(inputs, centres, "OS", "fusion")}
    assert found["2"].c_index == pytest.approx(values["left.out.c"], rel=1e-10)


def test_interaction_of_a_subgroup_equals_r(values, cohort, outcome):
    endpoint = EndpointColumns(name="OS", time=outcome.time, event=outcome.event)
    table = ScoreTable(
        name="golden",
        sha256="0" * 64,
        patient_ids=tuple(map(str, range(outcome.n))),
        cohort=np.array(["testing"] * outcome.n),
        cohorts=("testing",),
        cutoff_cohort="testing",
        endpoints=(endpoint,),
        scores={"score": {"OS": cohort["score"]}},
        clinical={},
        groups={"centre": tuple(f"{group:g}" for group in cohort["child_b"])},
        notes=(),
    )
    rows = tabulate_subgroups(table, cohort["score"], 0.0, endpoint, np.ones(outcome.n, dtype=bool))
    assert all(row.shown for row in rows)
    assert rows[0].interaction_p == pytest.approx(values["interaction.p"], rel=1e-6)


def test_sample_size_follows_the_cox_snell_r_squared_of_r(values, cohort, outcome):
    fit = fit_cox(np.column_stack((cohort["score"], cohort["age"])), outcome)
    explained = 1 - np.exp(-2 * (fit.log_likelihood - fit.null_log_likelihood) / outcome.n)
    assert explained == pytest.approx(values["cox.snell"], rel=1e-9)
    assert patients_needed(2, explained) == int(np.ceil(2 / (-0.1 * np.log(1 - explained / 0.9))))
