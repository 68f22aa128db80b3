"""``mmf-train ablate``: its plan and cost, a small run, and that what is finished is never trained again."""

import csv
import json
import sys
from concurrent.futures import Executor, Future

import numpy as np
import pytest

from engines.errors import MmfError
from tests.evaluation_cohort import write_evaluation_cohort
from train.cli import main

RECIPE = """
[training]
epochs = 6
warm_up_epochs = 1
batch_size = 8
learning_rate = 3e-3
l1 = 0.0
augmentation = 0.0
[size]
side = 32
width = 0.0625
depth = 0.25
norm_momentum = 0.1
"""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablate") / "home"
    write_evaluation_cohort(folder, 24, seed=1, parts=(0.5, 0.25))
    (folder.parent / "conf" / "recipes").mkdir(parents=True)
    (folder.parent / "conf" / "recipes" / "tiny.toml").write_text(RECIPE)
    return folder


@pytest.fixture
def ablate(cohort, monkeypatch, capsys):
    """Exit status, standard output and standard error of ``mmf-train ablate`` on the cohort."""

    def run(*arguments):
        monkeypatch.setenv("MMF_CONF", str(cohort.parent / "conf"))
        monkeypatch.setattr(
            sys, "argv", ["mmf-train", "ablate", "--cohort", str(cohort), "--recipe", "tiny", *arguments]
        )
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return run


def test_plan_names_every_run_of_the_grids_and_its_cost(ablate):
    code, printed, _ = ablate("--plan", "--json", "--networks", "network1,unsupervised")
    assert code == 0
    plan = json.loads(printed)
    runs = {(run["network"], run["phases"]) for run in plan["runs"]}
    phases = ("A", "V", "D", "A+V", "A+D", "V+D", "A+V+D")
    assert runs == {("unsupervised", "A+V+D"), *(("network1", words) for words in phases)}
    assert sum(cost["runs"] for cost in plan["costs"]) == 8
    assert all(cost["hours_together"] > 0 for cost in plan["costs"])


def test_small_ablation_is_made_and_what_is_finished_is_never_trained_again(ablate, cohort, tmp_path):
    out = tmp_path / "ablation"
    options = ("--tables", "2", "--networks", "network1", "--out", str(out))
    code, printed, told = ablate(*options, "--json")
    assert code == 0
    record = json.loads(printed)
    assert (record["complete"], record["missing"], record["synthetic"]) == (True, [], True)
    assert "network1 on A+V+D, seed 0 starts" in told
    lines = (out / "ablation.csv").read_text().splitlines()
    assert len(lines) == 1 + 2 * 3
    run = out / "networks" / "A+V+D" / "network1" / "seed-0"
    before = (run / "scores.csv").stat().st_mtime_ns
    code, _, told = ablate(*options)
    assert code == 0
    assert "starts" not in told
    assert "1 finished" in told
    assert (run / "scores.csv").stat().st_mtime_ns == before
    # killed after the last epoch, before its scores were written: the checkpoint gives the same weights again
    scores = (run / "scores.csv").read_text()
    (run / "scores.csv").unlink()
    assert ablate(*options)[0] == 0
    assert (run / "scores.csv").read_text() == scores


def test_folder_of_another_run_fails_alone_and_is_named(ablate, tmp_path):
    out = tmp_path / "ablation"
    options = ("--tables", "2", "--networks", "network1", "--out", str(out))
    run = out / "networks" / "A+V+D" / "network1" / "seed-0"
    run.mkdir(parents=True)
    (run / "checkpoint.safetensors").write_bytes(b"nonsense")
    code, _, told = ablate(*options)
    assert code == 1
    assert "failed: network1 on A+V+D, seed 0" in told
    assert json.loads((out / "ablation.json").read_text())["complete"] is False


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--tables", "5"), "expected 2, 3, 4"),
        (("--tables", "3,4", "--networks", "vit"), "Table 3 and 4 holds no run of vit"),
        (("--networks", "network9"), "network9"),
        (("--seeds", "1,1"), "each seed once"),
        (("--dask", "tcp://127.0.0.1:1"), "mmf-node[train,dask]"),
    ],
)
def test_bad_options_are_one_clear_error(ablate, options, words, monkeypatch):
    monkeypatch.setattr("train.commands.fit.find_spec", lambda name: None)
    code, printed, told = ablate(*options)
    assert code == 2
    assert printed == ""
    assert words in told


def test_ensembles_are_made_of_the_finished_runs_of_the_three_networks(ablate, cohort, tmp_path, monkeypatch):
    from engines.network_input import Preprocessing
    from engines.networks.settings import ENSEMBLE
    from engines.survival.concordance import harrell_c
    from engines.survival.outcome import Outcome
    from train.ablation import Source, plan_grid
    from train.evaluate.ablation_cells import read_ablation
    from train.fit_cohort import read_fit_cohort
    from train.recipes import read_recipe

    monkeypatch.setenv("MMF_CONF", str(cohort.parent / "conf"))
    out, random = tmp_path / "ablation", np.random.default_rng(0)
    read = read_fit_cohort(cohort, Preprocessing(side=32), seed=0)
    source = Source(folder=cohort, digest=read.digest, seed=0)
    data = read.data
    said = {name: random.normal(size=(data.n, 2)) for name in ENSEMBLE}
    for unit in plan_grid(source, out, read_recipe("tiny"), (0,), tables=(4,)).units:
        leave_run(unit, data, said[unit.network])
    code, _, told = ablate("--tables", "4", "--out", str(out))
    assert code == 0
    assert "3 finished" in told
    with (out / "ensembles.csv").open(newline="") as file:
        found = {(row["ensemble"], row["endpoint"], row["cohort"]): row for row in csv.DictReader(file)}
    assert list(dict.fromkeys(name for name, _, _ in found)) == [
        "Network 1", "Network 2", "Network 3", "Network 1+2", "Network 1+3", "Network 2+3", "Network 1+2+3",
    ]  # fmt: skip
    assert {cohort for _, _, cohort in found} == {
        "training (apparent)",
        "validation (networks selected on, fused models apparent)",
        "testing",
    }
    testing = np.array([split.value == "testing" for split in data.splits])
    outcome = Outcome(data.pfs.months[testing], data.pfs.event[testing] > 0)
    expected = harrell_c(said[ENSEMBLE[1]][testing, 1], outcome)
    assert float(found["Network 2", "PFS", "testing"]["c_index"]) == expected
    assert float(found["Network 1+2+3", "OS", "training (apparent)"]["c_index"]) > 0.6
    for unit in plan_grid(source, out, read_recipe("tiny"), (0,), tables=(4,)).units:
        if unit.network is ENSEMBLE[1]:
            leave_run(unit, data, np.zeros((data.n, 2)))
    code, _, _ = ablate("--tables", "4", "--out", str(out))
    assert code == 0
    left = read_ablation(out)
    names = {cell.ensemble for cell in left.ensembles}
    assert names == {"Network 1", "Network 2", "Network 3", "Network 1+3"}, (
        "what needs no forest of Network 2 stays"
    )
    assert len(left.record.missing) == 3
    assert left.record.missing[0].startswith("Network 1+2, seed 0 (network2: the same OS log-risk")
    assert {cell.network for cell in left.cells} == set(ENSEMBLE)


def leave_run(unit, data, scores):
    """Writes what a finished run leaves in its folder."""
    unit.folder.mkdir(parents=True, exist_ok=True)
    (unit.folder / "plan.json").write_text(json.dumps({"plan": unit.plan}))
    (unit.folder / "summary.json").write_text("{}")
    rows = zip(data.case_ids, data.splits, *scores.T, strict=True)
    lines = ["case_id,split,os,pfs", *(f"{case},{split.value},{os},{pfs}" for case, split, os, pfs in rows)]
    (unit.folder / "scores.csv").write_text("\n".join(lines) + "\n")


class InlineExecutor(Executor):
    """An executor as dask's is: it takes functions and gives futures; it runs them at once, here."""

    def submit(self, function, /, *arguments, **options):
        future = Future()
        try:
            future.set_result(function(*arguments, **options))
        except MmfError as error:
            future.set_exception(error)
        return future


def test_an_executor_makes_the_runs_and_one_that_fails_does_not_stop_the_others(
    cohort, tmp_path, monkeypatch
):
    from engines.networks.settings import NetworkName
    from train.ablation import Source, plan_grid, run_grid
    from train.recipes import read_recipe

    monkeypatch.setenv("MMF_CONF", str(cohort.parent / "conf"))
    networks = (NetworkName.NETWORK1, NetworkName.UNSUPERVISED)
    source = Source(folder=cohort, digest="a" * 64, seed=0)
    grid = plan_grid(source, tmp_path, read_recipe("tiny"), (0,), tables=(2,), networks=networks)
    broken = grid.units[0]
    broken.folder.mkdir(parents=True)
    (broken.folder / "checkpoint.safetensors").write_bytes(b"nonsense")
    told = []
    failed = run_grid(grid, "cpu", executor=InlineExecutor(), progress=told.append)
    assert [words.split(":")[0] for words in failed] == [broken.words]
    assert [unit.finished for unit in grid.units] == [False, True]
    assert f"{grid.units[1].words} is finished" in told


def test_fit_of_another_recipe_or_without_the_seed_is_refused(cohort, tmp_path, monkeypatch):
    from types import SimpleNamespace

    from train.ablation import Source, plan_grid
    from train.errors import AblationRefused
    from train.recipes import read_recipe

    monkeypatch.setenv("MMF_CONF", str(cohort.parent / "conf"))
    recipe = read_recipe("tiny")
    source = Source(folder=cohort, digest="a" * 64, seed=0)
    for words, record in (
        ("made with the recipe paper", SimpleNamespace(recipe="paper", seeds=(0,))),
        ("asks for 0 too", SimpleNamespace(recipe="tiny", seeds=(7,))),
    ):
        with pytest.raises(AblationRefused, match=words):
            plan_grid(source, tmp_path, recipe, (0,), fit=SimpleNamespace(record=record))
