"""What a reviewer asks: each number against its own definition or another implementation, on synthetic patients."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from engines.endpoint import Endpoint
from engines.mmf import ModelName, RiskModel
from engines.survival.calibration import assess_calibration
from engines.survival.cox import fit_cox, log_hazard, predict_survival
from engines.survival.outcome import Outcome
from train.evaluate.absolute_risk import fit_scores, measure_risk
from train.evaluate.collinearity import collinearity_table, inflate_variances
from train.evaluate.hazards import list_covariates, list_subgroups
from train.evaluate.recalibration import Place, Update, intercept_factor, recalibrate, recalibration_table
from train.evaluate.refits import (
    FusionInputs,
    gather_inputs,
    leave_centres_out,
    left_out_table,
    measure_instability,
)
from train.evaluate.sample_size import measure_sample_size, patients_needed
from train.evaluate.score_file import read_score_table
from train.evaluate.shortcuts import measure_shortcuts, shortcut_table, warn_of_shortcuts
from train.evaluate.treatment import agent_table, exact_interval, regimen_table, response_table
from train.evaluate.tripod import BY_AUTHORS, NOT_HERE, tripod_table


def draw(n, seed=0, scale=1.0, speed=1.0):
    """Score, and follow-up whose log hazard is ``scale`` times it, events ``speed`` times as fast."""
    random = np.random.default_rng(seed)
    score = random.normal(size=n)
    death = random.exponential(20 * np.exp(-scale * score) / speed)
    leaving = random.uniform(12, 60, n)
    return score, Outcome(np.minimum(death, leaving), death <= leaving)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """150 synthetic patients of two centres, of whom one is scanned at 80 kV when the tumour is bad."""
    random = np.random.default_rng(4)
    n = 150
    risk = random.normal(size=n)
    death = random.exponential(18 * np.exp(-risk))
    leaving = random.uniform(6, 48, n)
    header = (
        "patient_id,cohort,os_months,os_event,pfs_months,pfs_event,Ensemble-DL,pvtt,lung_metastasis,centre,regimen,"
        "response,kvp,slice_thickness_mm,liver_box_ml"
    )
    lines = [header]
    for k in range(n):
        time, event = min(death[k], leaving[k]), int(death[k] <= leaving[k])
        lines.append(
            f"S{k},{'training' if k < 100 else 'testing'},{time:.3f},{event},{time * 0.7:.3f},1,"
            f"{risk[k] + random.normal():.3f},{int(risk[k] > 0.5)},{k % 3 // 2},{'A' if k % 2 else 'B'},"
            f"{'camrelizumab+apatinib' if k % 3 else 'other-ici+sorafenib'},"
            f"{('CR', 'PR', 'SD', 'PD', 'NE')[k % 5]},{80 if risk[k] > 0 else 120},5,{random.normal(5000, 100):.0f}"
        )
    path = tmp_path_factory.mktemp("table") / "scores.csv"
    path.write_text("\n".join(lines) + "\n")
    return read_score_table(path)


def test_sample_size_needed_equals_its_formula():
    # Riley et al. 2019, worked by hand: 20 parameters, R2 = 0.1, S = 0.9
    assert patients_needed(20, 0.1) == int(np.ceil(20 / (-0.1 * np.log(1 - 0.1 / 0.9))))
    assert patients_needed(20, 0.0) is None


def test_every_candidate_counts_as_screened(table):
    covariates = list_covariates(table, "Ensemble-DL", "OS")
    endpoint = table.endpoints[0]
    size = measure_sample_size(covariates, endpoint, table.rows("training"), "all")
    assert (size.parameters, size.patients) == (3, 100)
    assert size.events == endpoint.event[table.rows("training")].sum()


def test_variance_inflation_is_that_of_the_regression_on_the_others():
    random = np.random.default_rng(1)
    x = random.normal(size=(200, 3))
    x[:, 2] = x[:, 0] + 0.5 * x[:, 1] + 0.5 * random.normal(size=200)
    others = np.column_stack((np.ones(200), x[:, :2]))
    residual = x[:, 2] - others @ np.linalg.lstsq(others, x[:, 2], rcond=None)[0]
    assert inflate_variances(x)[2] == pytest.approx(x[:, 2].var() / residual.var(), rel=1e-9)


def test_a_variable_that_others_add_up_to_is_infinitely_inflated():
    random = np.random.default_rng(1)
    x = random.normal(size=(50, 2))
    assert np.isinf(inflate_variances(np.column_stack((x, x.sum(axis=1))))).all()


def test_collinearity_names_the_strongest_partner(table):
    found = collinearity_table(list_covariates(table, None, "OS"), table.rows("training"), "training")
    assert [row.cells[3] for row in found.rows] == [row.cells[0] for row in reversed(found.rows)]


def test_intercept_update_restores_observed_over_expected():
    score, outcome = draw(800)
    fit = fit_cox(score, outcome)
    other, faster = draw(4000, seed=1, speed=2.0)
    factor = intercept_factor(fit, other, faster)
    assert factor == pytest.approx(2.0, rel=0.1)
    again = np.exp(log_hazard(fit, other[:, None])) * factor
    reached = np.concatenate(([0], fit.baseline.cumulative_hazard))
    expected = (again * reached[np.searchsorted(fit.baseline.time, faster.time, side="right")]).sum()
    counted = faster.event & (faster.time <= fit.baseline.time[-1])
    assert expected == pytest.approx(counted.sum(), rel=1e-9)


def test_risk_of_a_fit_is_the_released_one_not_a_refit_of_the_score(table):
    """The released baseline is of twice the hazard of the cohort: a refit of the score would hide that."""
    endpoint, discovery = table.endpoints[0], table.rows("training")
    deep = table.scores["Ensemble-DL"]["OS"]
    columns = np.column_stack((deep, table.background["kvp"] == 80))
    early = Outcome(endpoint.time[discovery] / 2, endpoint.event[discovery])
    released = {}
    for name, inputs, used in (
        (ModelName.MMF, ("ensemble_dl", "pvtt"), columns),
        (ModelName.ENSEMBLE_DL, ("ensemble_dl",), columns[:, :1]),
    ):
        released[Endpoint.OS, name] = RiskModel(
            name=name,
            endpoint=Endpoint.OS,
            cox=fit_cox(used[discovery], early, inputs),
            cutoff=0.0,
            cutoff_rule="median",
            quantiles=np.linspace(-1, 1, 99),
        )
    fused = released[Endpoint.OS, ModelName.MMF].log_hazards(columns)
    scored = replace(table, scores={**table.scores, "MMF": {"OS": fused, "PFS": fused}})
    testing = table.rows("testing")
    for model, used in (("MMF", columns), ("Ensemble-DL", columns[:, :1])):
        cox = released[Endpoint.OS, ModelName(model)].cox
        stated = 1 - predict_survival(cox, used[testing], (12.0,)).survival[:, 0]
        found = {
            r.released: r.horizons[0].calibration
            for fits in (fit_scores(scored, released), fit_scores(scored))
            for r in measure_risk(scored, fits)
            if (r.cohort, r.endpoint, r.model) == ("testing", "OS", model)
        }
        assert found[True].ratio == pytest.approx(
            assess_calibration(stated, endpoint.outcome(testing), 12.0).ratio, rel=1e-9
        )
        assert found[True].ratio < 0.8 * found[False].ratio
    other = next(f for f in fit_scores(scored, released) if (f.endpoint, f.model) == ("PFS", "MMF"))
    assert not other.released


def test_the_row_of_a_risk_that_is_not_released_says_so():
    score, outcome = draw(300)
    fit = fit_cox(score, outcome)
    titles = []
    for released in (True, False):
        place = Place(cohort="testing", endpoint="OS", model="MMF", released=released)
        table = recalibration_table(recalibrate(place, fit, score, outcome, (12.0,), seed=3), "OS")
        titles.append([row.cells[0] for row in table.rows][1:])
    assert titles[0] == ["as released", "intercept updated", "slope and baseline updated"]
    assert titles[1] == ["score's own Cox", *titles[0][1:]]


def test_recalibration_mends_what_is_wrong_and_released_risk_stays_as_it_is():
    fit = fit_cox(*(lambda s, o: (s, o))(*draw(800)))
    score, outcome = draw(2000, seed=2, scale=0.5, speed=2.0)
    place = Place(cohort="testing", endpoint="OS", model="MMF")
    found = {r.update: r for r in recalibrate(place, fit, score, outcome, (12.0,), seed=3)}
    released = 1 - predict_survival(fit, score[:, None], (12.0,)).survival[:, 0]
    assert found[Update.NONE].calibration == assess_calibration(released, outcome, 12.0)
    assert found[Update.NONE].calibration.ratio > 1.2
    assert found[Update.INTERCEPT].calibration.ratio == pytest.approx(1, abs=0.15)
    assert found[Update.SLOPE].calibration.ratio == pytest.approx(1, abs=0.05)
    assert found[Update.NONE].calibration.slope.value == pytest.approx(0.5, abs=0.1)
    assert found[Update.SLOPE].calibration.slope.value == pytest.approx(1, abs=0.15)
    assert found[Update.SLOPE].brier < found[Update.NONE].brier


@pytest.mark.parametrize("last", [6.0, 12.0, 24.0, 48.0])
def test_intercept_update_is_one_wherever_nothing_changed_however_long_the_follow_up(last):
    def follow(n, seed, end):
        random = np.random.default_rng(seed)
        score = random.normal(size=n)
        death = random.exponential(12 * np.exp(-0.7 * score))
        return score, Outcome(np.minimum(death, end), death <= end)

    fit = fit_cox(*follow(2000, 0, 12.0))
    assert intercept_factor(fit, *follow(2000, 1, last)) == pytest.approx(1, abs=0.08)


def test_horizon_past_the_last_follow_up_is_not_estimable_after_any_update():
    score, outcome = draw(100)
    fit = fit_cox(score, outcome)
    place = Place(cohort="testing", endpoint="OS", model="MMF")
    found = recalibrate(place, fit, score, outcome, (500.0,), seed=3)
    assert [r.calibration for r in found] == [None] * 3
    assert all("not estimable" in r.reason for r in found)


def test_each_centre_is_measured_by_a_fusion_that_has_not_seen_it(table):
    endpoint = table.endpoints[0]
    inputs = gather_inputs(table, "Ensemble-DL", endpoint, np.ones(150, dtype=bool))
    centres = np.array(table.groups["centre"])[inputs.rows]
    found = leave_centres_out(inputs, list(centres), "OS", "fusion")
    assert {entry.centre: entry.n for entry in found} == {"A": 75, "B": 75}
    held = centres == "A"
    alone = fit_cox(inputs.columns[~held], inputs.outcome.take(~held), ridge=1.0)
    values = log_hazard(alone, inputs.columns[held])
    from lifelines.utils import concordance_index

    outcome = inputs.outcome.take(held)
    peer = concordance_index(outcome.time, -values, outcome.event)
    assert next(e for e in found if e.centre == "A").c_index == pytest.approx(peer, abs=1e-12)
    assert len(left_out_table(found).rows) == 2


def test_small_centre_is_not_shown(table):
    inputs = gather_inputs(table, "Ensemble-DL", table.endpoints[0], np.ones(150, dtype=bool))
    centres = ["small" if k < 9 else "large" for k in range(150)]
    found = {entry.centre: entry.shown for entry in leave_centres_out(inputs, centres, "OS", "fusion")}
    assert found == {
        "small": False,
        "large": False,
    }  # the large one has nobody to learn from but nine patients


def test_instability_shrinks_with_the_cohort():
    sizes = {}
    for n in (60, 600):
        score, outcome = draw(n)
        inputs = FusionInputs(names=("s",), columns=score[:, None], rows=np.arange(n), outcome=outcome)
        sizes[n] = measure_instability(inputs, "OS", seed=1, repeats=20).difference
    assert sizes[600] < sizes[60] / 2


def test_header_that_predicts_warns_and_noise_does_not(table):
    found = {(s.name.split(" (")[0], s.cohort, s.endpoint): s for s in measure_shortcuts(table, seed=1)}
    assert found["header only", "training", "OS"].warns
    assert not found["size of the liver's box only", "training", "OS"].warns
    assert any("header only" in line for line in warn_of_shortcuts(tuple(found.values())))
    marks = [row.cells[-1] for row in shortcut_table(tuple(found.values())).rows]
    assert marks.count("WARNING: above 0.55") == sum(s.warns for s in found.values())


def test_response_is_a_rate_and_never_a_subgroup(table):
    rows = {row.cells[0]: row.cells for row in response_table(table).rows}
    assert rows["training"][1:4] == ("80", "40", "50.0 (38.6-61.4)")  # binom.test(40, 80) in R
    assert not any(name.lower() == "response" for name in list_subgroups(table))


@pytest.mark.parametrize(("count", "n"), [(0, 12), (12, 12), (5, 40)])
def test_exact_interval_equals_scipy(count, n):
    interval = stats.binomtest(count, n).proportion_ci(method="exact")
    assert exact_interval(count, n) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_agents_have_targets_doses_and_shares_of_those_known(table):
    rows = {row.cells[0]: row.cells for row in agent_table(table).rows}
    assert rows["apatinib"][1:] == ("VEGFR2", "250 mg, oral, once a day", "66 (66%)", "34 (68%)")
    assert rows["other-ici"][1:3] == ("", "not listed")
    assert regimen_table(table).rows[0].cells[0] == "camrelizumab+apatinib"


def test_every_tripod_item_is_answered_or_named_as_the_authors():
    everything = tripod_table({"model_card", "flow", "cohorts", "Intended use and limits", "coefficients"})
    assert all(row.cells[2] for row in everything.rows)
    linked = {row.cells[0]: row.target for row in everything.rows}
    assert linked["3b"] == "model_card"
    assert linked["22"] == "coefficients"
    assert linked["2"] == ""
    nothing = tripod_table(set())
    assert {row.cells[2] for row in nothing.rows if row.cells[0] == "22"} == {BY_AUTHORS}


def test_tripod_answers_nothing_that_a_table_of_scores_alone_cannot_tell():
    rows = {
        row.cells[0]: row
        for row in tripod_table({"cohorts", "Subgroups", "Heterogeneity and stability"}).rows
    }
    for number in ("12b", "12d", "14", "16", "20b", "23b"):
        assert rows[number].cells[2].startswith(NOT_HERE), number
        assert rows[number].target == ""
    assert "need a score" in rows["14"].cells[2], "variables may be known where there is no score"
    assert "needs a score" in rows["12f"].cells[2], "there may be a cohort beside discovery, and no score"
    assert {row.cells[0]: row for row in tripod_table({"subgroups_mmf_os"}).rows}[
        "14"
    ].target == "subgroups_mmf_os"
