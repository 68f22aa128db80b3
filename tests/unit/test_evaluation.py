"""What the evaluation measures, on a synthetic table, against lifelines and against its own definitions."""

import csv
import json

import numpy as np
import pytest

from engines.clinical.variables import Variable
from engines.survival.concordance import harrell_c
from train.evaluate.absolute_risk import measure_risk
from train.evaluate.folder import encode_json
from train.evaluate.hazards import list_covariates, tabulate_cox, tabulate_subgroups
from train.evaluate.json_form import encode_records
from train.evaluate.measures import (
    CutoffRule,
    Settings,
    derive_cutoff,
    find_reference_model,
    measure_models,
)
from train.evaluate.published import MODELS, canonical_model, read_published
from train.evaluate.score_file import read_score_table

SETTINGS = Settings(repeats=100, seed=1)


def write_table(path, n=240, seed=0, spoil=None):
    """A synthetic table: MMF knows the risk well, Network 1 less, mRECIST is a response."""
    random = np.random.default_rng(seed)
    risk = random.normal(size=n)
    lung = (random.random(n) < 0.3).astype(int)
    death = random.exponential(18 * np.exp(-0.9 * risk - 0.5 * lung))
    leaving = random.uniform(6, 48, n)
    progression = np.minimum(death, random.exponential(10 * np.exp(-0.7 * risk)))
    mmf = np.round(risk + random.normal(size=n) / 2, 3)
    columns = {
        "patient_id": [f"S{k:04d}" for k in range(n)],
        "cohort": [
            "training" if k < n // 2 else "validation" if k < 2 * n // 3 else "testing" for k in range(n)
        ],
        "os_months": np.minimum(death, leaving).round(2),
        "os_event": (death <= leaving).astype(int),
        "pfs_months": np.minimum(progression, leaving).round(2),
        "pfs_event": (progression <= leaving).astype(int),
        "mRECIST": (random.normal(size=n) + risk > 0).astype(int),
        "Network 1": np.round(risk + 2 * random.normal(size=n), 3),
        "MMF": mmf,
        "age": random.integers(30, 80, n),
        "lung_metastasis": lung,
    }
    if spoil is not None:
        spoil(columns)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return read_score_table(write_table(tmp_path_factory.mktemp("table") / "scores.csv"))


@pytest.fixture(scope="module")
def records(table):
    return measure_models(table, SETTINGS)


@pytest.fixture(scope="module")
def risks(table):
    return measure_risk(table)


def pick(records, cohort, endpoint, model):
    (found,) = [r for r in records if (r.cohort, r.endpoint, r.model) == (cohort, endpoint, model)]
    return found


def test_there_is_a_record_for_each_cohort_endpoint_and_model(table, records):
    assert len(records) == 4 * 2 * 3
    assert {record.cohort for record in records} == {"training", "validation", "discovery", "testing"}


def test_c_and_logrank_equal_lifelines(table, records):
    from lifelines.statistics import logrank_test
    from lifelines.utils import concordance_index

    record = pick(records, "testing", "OS", "MMF")
    endpoint, rows = table.endpoints[0], table.rows("testing")
    time, event, score = endpoint.time[rows], endpoint.event[rows], table.scores["MMF"]["OS"][rows]
    assert record.c_index == pytest.approx(concordance_index(time, -score, event), abs=1e-12)
    cutoff = np.median(table.scores["MMF"]["OS"][table.rows("discovery")])
    high = score > cutoff
    peer = logrank_test(time[high], time[~high], event[high], event[~high])
    assert record.groups.cutoff == cutoff
    assert record.groups.logrank_p == pytest.approx(peer.p_value, rel=1e-8)


def test_cutoff_does_not_look_at_the_test_cohort(table, records):
    values = {pick(records, cohort, "OS", "MMF").groups.cutoff for cohort in table.cohorts}
    assert len(values) == 1


def test_better_model_wins_the_comparison_in_both_directions(records):
    mmf = pick(records, "discovery", "OS", "MMF")
    other = pick(records, "discovery", "OS", "Network 1")
    forward = next(c for c in mmf.comparisons if c.model == "Network 1")
    backward = next(c for c in other.comparisons if c.model == "MMF")
    assert forward.c_index.low > 0
    assert forward.c_index.p_value < 0.05
    assert forward.t_test_p < 0.05
    assert backward.c_index.difference == -forward.c_index.difference
    assert (backward.c_index.low, backward.c_index.high) == (-forward.c_index.high, -forward.c_index.low)
    assert forward.c_index.difference == pytest.approx(mmf.c_index - other.c_index)


def test_month_beyond_follow_up_is_not_estimable_with_a_reason(records):
    auc = pick(records, "validation", "OS", "MMF").auc[-1]
    assert auc.month == 36
    assert auc.value is None
    assert auc.reason.startswith("not estimable")


def test_same_seed_gives_the_same_records(table, records):
    assert measure_models(table, SETTINGS) == records


def test_json_is_one_flat_list_without_rounding_or_nan(records, risks):
    encoded = json.loads(encode_json(encode_records(records, risks)))
    assert len(encoded) == len(records)
    record = next(r for r in encoded if (r["cohort"], r["endpoint"], r["model"]) == ("testing", "OS", "MMF"))
    assert record["c_index"] == pick(records, "testing", "OS", "MMF").c_index
    assert set(record["auc"]) == {"12", "24", "36"}
    assert set(record["medians"]) == {"low", "high"}
    assert {c["model"] for c in record["comparisons"]} == {"mRECIST", "Network 1"}
    assert record["calibration_apparent"] is False


def test_missing_scores_use_the_patients_that_have_them(tmp_path):
    def spoil(columns):
        columns["Network 1"] = ["" if k % 5 == 0 else value for k, value in enumerate(columns["Network 1"])]

    table = read_score_table(write_table(tmp_path / "scores.csv", spoil=spoil))
    records = measure_models(table, SETTINGS)
    network, mmf = (pick(records, "testing", "OS", name) for name in ("Network 1", "MMF"))
    assert (network.n, mmf.n) == (64, 80)
    comparison = next(c for c in mmf.comparisons if c.model == "Network 1")
    rows = table.rows("testing") & ~np.isnan(table.scores["Network 1"]["OS"])
    outcome = table.endpoints[0].outcome(rows)
    one, two = (table.scores[name]["OS"][rows] for name in ("MMF", "Network 1"))
    assert comparison.n == 64
    assert comparison.c_index.difference == pytest.approx(harrell_c(one, outcome) - harrell_c(two, outcome))


def test_all_censored_cohort_has_no_c_and_says_why(tmp_path):
    def spoil(columns):
        columns["os_event"] = np.zeros_like(columns["os_event"])

    table = read_score_table(write_table(tmp_path / "scores.csv", spoil=spoil))
    record = pick(measure_models(table, SETTINGS), "testing", "OS", "MMF")
    assert record.c_index is None
    assert "0 events" in record.reason
    json.loads(encode_json(encode_records((record,), measure_risk(table))))


def same(name, value):
    def spoil(columns):
        columns[name] = [value] * len(columns[name])

    return spoil


def perfect(columns):
    columns["MMF"] = -columns["os_months"]
    columns["os_event"] = np.ones_like(columns["os_event"])


def one_patient_tested(columns):
    columns["cohort"] = ["training"] * (len(columns["cohort"]) - 1) + ["testing"]


def unscored_in_discovery(columns):
    columns["MMF"] = [
        value if cohort == "testing" else ""
        for cohort, value in zip(columns["cohort"], columns["MMF"], strict=True)
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        same("MMF", 1.0),
        same("os_months", 5.0),
        same("os_months", 0.0),
        same("lung_metastasis", 0),
        same("age", ""),
        perfect,
        one_patient_tested,
        unscored_in_discovery,
    ],
)
def test_odd_tables_are_measured_or_said_not_to_be_estimable(tmp_path, spoil):
    table = read_score_table(write_table(tmp_path / "scores.csv", n=30, spoil=spoil))
    records = measure_models(table, SETTINGS)
    encoded = json.loads(encode_json(encode_records(records, measure_risk(table))))
    assert all(record["c_index"] is not None or record["reason"] for record in encoded)
    for endpoint in table.endpoints:
        for cohort in table.cohorts:
            tabulate_cox(list_covariates(table, "MMF", endpoint.name), endpoint, table.rows(cohort))


def test_coarse_score_is_split_between_its_two_values():
    from engines.survival.outcome import Outcome

    outcome = Outcome(np.arange(1.0, 11), np.ones(10, dtype=bool))
    mostly_high = np.array([0.0] * 3 + [1.0] * 7)
    assert derive_cutoff(mostly_high, outcome, CutoffRule.MEDIAN) == 0
    assert derive_cutoff(np.arange(10.0), outcome, CutoffRule.LOGRANK) in np.arange(10.0)


def test_cox_table_has_the_score_first_then_the_variables(table):
    covariates = list_covariates(table, "MMF", "OS")
    assert [c.variable for c in covariates] == [None, Variable.AGE, Variable.LUNG_METASTASIS]
    got = tabulate_cox(covariates, table.endpoints[0], table.rows("discovery"))
    lung = got.rows["Lung metastasis (absent vs present)"]
    assert lung.univariable.low < np.exp(0.5) < lung.univariable.high
    assert got.n == 160
    assert [test.name for test in got.proportionality][-1] == "GLOBAL"


def test_separating_variable_gets_a_ridge_and_a_note(tmp_path):
    def spoil(columns):
        columns["bone_metastasis"] = (np.arange(240) % 20 == 0).astype(int)
        columns["os_event"] = np.where(columns["bone_metastasis"] == 1, 0, columns["os_event"])

    table = read_score_table(write_table(tmp_path / "scores.csv", spoil=spoil))
    got = tabulate_cox(list_covariates(table, "MMF", "OS"), table.endpoints[0], table.rows("discovery"))
    assert got.ridge > 0
    assert any("separates the events; a ridge was used" in note for note in got.notes)
    bone = got.rows["Bone metastasis (absent vs present)"]
    assert bone.univariable is None
    assert bone.univariable_reason.startswith("hazard ratio infinite")


def test_small_subgroups_are_not_shown(table):
    values = list(table.clinical[Variable.LUNG_METASTASIS])
    rows = table.rows("testing") & np.array([v.category == "absent" for v in values])
    present = np.flatnonzero(table.rows("testing") & np.array([v.category == "present" for v in values]))
    rows[present[:4]] = True
    got = tabulate_subgroups(table, table.scores["MMF"]["OS"], 0.0, table.endpoints[0], rows)
    level = next(row for row in got if (row.subgroup, row.level) == ("Lung metastasis", "present"))
    assert (level.n, level.shown, level.hazard_ratio) == (4, False, None)


def test_absolute_risk_is_calibrated_where_it_was_fitted_and_marked_apparent(risks):
    here = next(r for r in risks if (r.cohort, r.endpoint, r.model) == ("discovery", "OS", "MMF"))
    assert here.apparent
    calibration = here.horizons[0].calibration
    assert calibration.ratio == pytest.approx(1, abs=0.05)
    assert calibration.slope.value == pytest.approx(1, abs=0.05)
    assert here.horizons[0].brier < here.horizons[0].brier_reference
    test = next(r for r in risks if (r.cohort, r.endpoint, r.model) == ("testing", "OS", "MMF"))
    assert not test.apparent


def test_published_values_cover_the_tables_and_keep_their_misprints_apart():
    published = read_published()
    assert len(published.auc) == 2 * 8 * 3
    assert len(published.hazard_ratios) == 2 * 17 * 4
    assert {key[2] for key in published.c_index if key[:2] == ("testing", "OS")} >= set(MODELS)
    assert published.auc["testing", "PFS", "MMF", 6.0].value == 0.81
    assert published.hazard_ratios["OS", "bclc", "discovery", "univariable"].value == 0.28
    assert all(v.low is None or v.low <= v.value <= v.high for v in published.hazard_ratios.values())


def test_spellings_of_the_eight_models_are_known():
    assert canonical_model("ensemble_dl") == "Ensemble-DL"
    assert canonical_model("network2") == "Network 2"
    assert canonical_model("my score") == "my score"
    assert find_reference_model(("mmf", "a")) == "mmf"
    assert find_reference_model(("a", "b")) == "b"
    assert find_reference_model(()) is None
