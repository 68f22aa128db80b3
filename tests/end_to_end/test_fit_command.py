"""``mmf-train fit`` and ``release`` from case folders to a model that the node can load, resumed, in processes, refused."""

import csv
import json
from shutil import copytree

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from engines.endpoint import Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.models.comparator import ComparatorName
from engines.models.store import load_model
from engines.networks.settings import NetworkName
from tests.fit_cohort import make_fit_cohort, seal, write_fit_cohort
from train.cli import build_app
from train.data import Split
from train.errors import CohortRefused, FitRefused
from train.evaluate.score_file import read_score_table
from train.fit_cohort import read_fit_cohort
from train.fit_folder import MODELS, read_fit
from train.fit_units import is_finished
from train.fitted import read_external, score_cases, write_external_table

torch.set_num_threads(1)

TINY = """
[training]
epochs = 5
warm_up_epochs = 0
batch_size = 12
learning_rate = 3e-3
l1 = 0.0
augmentation = 0.0
[size]
side = 32
width = 0.0625
depth = 0.05
norm_momentum = 0.2
[network.network3.size]
width = 0.03125
"""
SPLITS = {Split.TRAINING: 24, Split.VALIDATION: 8, Split.TESTING: 10}

pytestmark = pytest.mark.timeout(1200)


def invoke(arguments):
    return CliRunner().invoke(build_app(arguments), arguments, catch_exceptions=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the recipe, a cohort of 43 cases and an external one of 8."""
    home = tmp_path_factory.mktemp("fit")
    (home / "recipes").mkdir()
    (home / "recipes" / "tiny.toml").write_text(TINY)
    write_fit_cohort(home / "hospital", *make_fit_cohort(SPLITS, seed=1, unlabelled=1))
    write_fit_cohort(home / "elsewhere", *make_fit_cohort({Split.TRAINING: 8}, seed=2))
    return home


def command(home, *more):
    arguments = [
        "fit",
        "--cohort",
        str(home / "hospital"),
        "--recipe",
        "tiny",
        "--folds",
        "2",
        "--device",
        "cpu",
    ]
    return [*arguments, "--trees", "20", *more]


@pytest.fixture(scope="module")
def fitted(home):
    patch = pytest.MonkeyPatch()
    patch.setenv("MMF_CONF", str(home))
    result = invoke(command(home, "--json"))
    yield json.loads(result.stdout), result.stderr
    patch.undo()


@pytest.fixture
def configured(home, monkeypatch):
    monkeypatch.setenv("MMF_CONF", str(home))


def test_a_fit_leaves_tables_that_evaluate_reads_and_a_record(home, fitted):
    record, progress = fitted
    fit = read_fit(home / "hospital-fit")
    assert record["cohort"]["splits"] == {"training": 24, "validation": 8, "testing": 10, "unlabelled": 1}
    assert "fold-1 network3 seed 0 finished (9 of 9)" in progress
    table = read_score_table(fit.paths.out_of_fold)
    assert (len(table.patient_ids), table.cohorts) == (32, ("training", "validation", "discovery"))
    assert set(table.scores) <= set(MODELS)
    assert {"Network 1", "Network 2", "Network 3", "Ensemble-DL", "MMF", "Benchmark"} <= set(table.scores)
    assert len(table.clinical) == 16
    assert set(table.groups) == {"centre", "scanner", "regimen"}
    assert read_score_table(fit.paths.apparent).cohorts == ("training", "validation", "discovery", "testing")
    ensembles = read_score_table(fit.paths.ensembles_out_of_fold)
    assert list(ensembles.scores)[-1] == "Network 1+2+3"
    with fit.paths.seeds.open() as file:
        seeds = list(csv.DictReader(file))
    assert {(row["network"], row["seed"]) for row in seeds} == {(f"network{k}", "0") for k in (1, 2, 3)}
    assert {row["rows"] for row in seeds} == {"validation", "testing"}
    folds = fit.read_folds()
    assert set(folds.values()) == {0, 1}
    assert len(folds) == 32
    for entry in fit.record.concordance:
        assert 0 <= entry.value <= 1
    assert {entry.rows for entry in fit.record.concordance} == {"out-of-fold", "testing"}


def test_the_released_model_says_of_a_case_what_the_table_says(home, fitted, tmp_path):
    out = tmp_path / "model"
    words = [
        "release",
        "--fit",
        str(home / "hospital-fit"),
        "--out",
        str(out),
        "--name",
        "mmf",
        "--version",
        "7",
    ]
    words += ["--intended-use", "Tests.", "--limits", "Made in a minute."]
    shown = invoke(words).stdout
    assert "demonstration" in shown
    with pytest.raises(ModelRefused, match="not empty"):
        invoke(words)
    with pytest.raises(ModelRefused, match="phantoms"):
        load_model(out, allow_demonstration=False)
    model = load_model(out, allow_demonstration=True)
    card = model.card
    assert (card.name, card.version, card.intended_use, card.demonstration) == ("mmf", "7", "Tests.", True)
    assert card.limits[:2] == (
        "Made in a minute.",
        "Trained on phantoms: its numbers have no clinical meaning at all.",
    )
    assert (card.training.patients, len(card.networks), len(card.cox)) == (32, 6, 6)
    assert any(entry.rows.startswith("out-of-fold") for entry in card.concordance)
    assert (Endpoint.OS, ComparatorName.MRECIST_FROM_START) in model.comparators
    cohort = read_fit_cohort(home / "hospital", card.preprocessing)
    apparent = read_score_table(read_fit(home / "hospital-fit").paths.apparent)
    row = 38  # a testing case
    scores = model.score(cohort.data.inputs[row], cohort.clinical[row])
    for endpoint in Endpoint:
        found = scores.of(endpoint)
        assert found.risk.log_hazard == pytest.approx(apparent.scores["MMF"][endpoint.value][row], abs=1e-6)
        assert found.ensemble_score == pytest.approx(
            apparent.scores["Ensemble-DL"][endpoint.value][row], abs=1e-6
        )


def test_an_external_cohort_is_scored_on_the_scale_of_the_tables(home, fitted, tmp_path):
    fit = read_fit(home / "hospital-fit")
    again = score_cases(
        fit,
        read_fit_cohort(
            home / "hospital", load_model(fit.paths.model, allow_demonstration=True).card.preprocessing
        ),
    )
    apparent = read_score_table(fit.paths.apparent)
    assert set(apparent.scores) == set(again)
    for title, pair in again.items():
        for endpoint, values in pair.items():
            np.testing.assert_allclose(values[:42], apparent.scores[title][endpoint.value], rtol=0, atol=2e-5)
    write_external_table(fit, home / "elsewhere", tmp_path / "external.csv")
    external = read_score_table(tmp_path / "external.csv")
    assert external.cohorts == ("elsewhere",)
    assert np.isfinite(external.scores["MMF"]["OS"]).all()
    with pytest.raises(CohortRefused, match="is the cohort that was fitted"):
        read_external(fit, home / "hospital")


def test_a_fit_that_was_killed_continues_and_changes_nothing(home, fitted, configured, tmp_path):
    copytree(home / "hospital-fit", tmp_path / "fit")
    before = read_fit(tmp_path / "fit")
    run = before.paths.run("fold-1", NetworkName.NETWORK1, 0)
    (run / "summary.json").unlink()
    before.paths.record.unlink()
    with pytest.raises(FitRefused, match="in progress"):
        read_fit(tmp_path / "fit")
    result = invoke(command(home, "--out", str(tmp_path / "fit"), "--processes", "2"))
    assert "8 of 9 networks are finished and read back" in result.stderr
    assert is_finished(run)
    for name in ("out_of_fold.csv", "apparent.csv", "folds.csv", "radiomic.csv"):
        assert (tmp_path / "fit" / name).read_bytes() == (home / "hospital-fit" / name).read_bytes(), name


def test_networks_of_another_plan_or_cohort_are_never_mixed_in(home, fitted, configured):
    with pytest.raises(FitRefused, match="another plan or cohort"):
        invoke(command(home, "--folds", "3"))
    read_fit(home / "hospital-fit")


def test_the_plan_names_runs_hours_and_memory_and_trains_nothing(home, fitted, configured, tmp_path):
    result = invoke(command(home, "--out", str(tmp_path / "none"), "--plan", "--seeds", "3", "--json"))
    costs = json.loads(result.stdout)
    assert [(cost["network"], cost["runs"]) for cost in costs] == [
        ("network1", 5),
        ("network2", 5),
        ("network3", 5),
    ]
    assert all(cost["hours"] > 0 and cost["memory_gib"] > 0 for cost in costs)
    assert not (tmp_path / "none").exists()


def test_bad_words_and_cohorts_are_one_clear_error(home, configured, tmp_path):
    for more, words in (
        (("--preset", "best"), "--preset best: expected one of pre-specified, all16, univariable"),
        (("--mmf", "tree"), "--mmf tree: expected one of cox, forest"),
        (("--cutoff", "high"), "expected median, maxstat"),
        (("--out", str(home / "hospital" / "fit")), "lies in the cohort"),
    ):
        with pytest.raises(InvalidInput, match=words):
            invoke(command(home, *more))
    mixed = tmp_path / "mixed"
    cohort, examinations = make_fit_cohort({Split.TRAINING: 6}, seed=3)
    write_fit_cohort(mixed, cohort, examinations)
    (mixed / "splits.csv").unlink()

    def refused(words):
        with pytest.raises(CohortRefused, match=words):
            invoke(["fit", "--cohort", str(mixed), "--recipe", "tiny", "--device", "cpu"])

    refused("has no OS event; use fewer than 5 folds")
    seal(mixed, "case-0001", "patient-0000")
    refused(r"1 patients have several cases with an outcome \(patient-0000\)")
    seal(mixed, "case-0001", "patient-0001", synthetic=False)
    refused("5 of 6 cases are synthetic")
    seal(mixed, "case-0001", "patient-0001")
    text = (mixed / "case-0002/features.csv").read_text()
    (mixed / "case-0002/features.csv").write_text(text.replace("synthetic", "another"))
    seal(mixed, "case-0002", "patient-0002")
    refused("case case-0002 come from fast, .* masks of another 1")


def test_dask_is_asked_for_by_name_where_it_is_missing(home, fitted, configured, monkeypatch):
    monkeypatch.setattr("train.commands.fit.find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"needs the package dask\.distributed"):
        invoke(command(home, "--dask", "tcp://127.0.0.1:1"))
