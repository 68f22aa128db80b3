"""Units of a fit: whose folder it is, what counts as finished, and what is said when a process dies."""

import json
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from engines.case import hash_file
from engines.networks.settings import NetworkName, NetworkSettings
from tests.fit_cohort import make_fit_cohort
from train.data import Split
from train.errors import FitRefused, TrainingStopped
from train.fit_folder import FitFolder
from train.fit_plan import FitPlan, draw_cohort_folds, plan_units
from train.fit_units import claim_folder, is_finished, list_tasks, read_log_risks, train_units
from train.recipes import Recipe, Schedule

PLAN = FitPlan(
    recipe=Recipe(
        name="none",
        schedules=dict.fromkeys(NetworkName, Schedule(epochs=25)),
        settings=dict.fromkeys(NetworkName, NetworkSettings(side=32)),
    ),
    folds=2,
)


class DyingPool(Executor):
    """Stands where a pool does whose processes are killed."""

    def submit(self, task, /, *arguments, **named):
        future = Future()
        future.set_exception(BrokenProcessPool("a process was terminated abruptly"))
        return future


@pytest.fixture(scope="module")
def cohort():
    return make_fit_cohort({Split.TRAINING: 24, Split.TESTING: 4}, seed=4, images=False)[0]


def test_a_folder_belongs_to_one_plan(tmp_path):
    paths = FitFolder(root=tmp_path)
    claim_folder(paths, "a" * 64)
    claim_folder(paths, "a" * 64)
    with pytest.raises(FitRefused, match=r"another plan or cohort \(aaaaaaaaaaaa, this is bbbbbbbbbbbb\)"):
        claim_folder(paths, "b" * 64)
    foreign = FitFolder(root=tmp_path / "other")
    foreign.networks.mkdir(parents=True)
    (foreign.networks / "letter.txt").write_text("dear colleague")
    with pytest.raises(FitRefused, match="something that is no fit"):
        claim_folder(foreign, "a" * 64)


def test_the_digest_of_the_networks_follows_cohort_folds_and_schedule_alone(cohort):
    own = PLAN.digest(cohort)
    assert FitPlan(recipe=PLAN.recipe, folds=2, seeds=(0, 1), device="cuda").digest(cohort) == own
    assert FitPlan(recipe=PLAN.recipe, folds=3).digest(cohort) != own
    longer = dict.fromkeys(NetworkName, Schedule(epochs=26))
    recipe = Recipe(name="none", schedules=longer, settings=PLAN.recipe.settings)
    assert FitPlan(recipe=recipe, folds=2).digest(cohort) != own
    assert PLAN.digest(make_fit_cohort({Split.TRAINING: 24}, seed=5, images=False)[0]) != own


def test_a_run_is_finished_when_its_weights_are_those_of_its_summary(tmp_path):
    assert not is_finished(tmp_path)
    (tmp_path / "os.safetensors").write_bytes(b"weights")
    (tmp_path / "scores.csv").write_text("case_id\n")
    summary = {"sha256": {"os": hash_file(tmp_path / "os.safetensors")}, "seconds": 1.0}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    assert is_finished(tmp_path)
    (tmp_path / "os.safetensors").write_bytes(b"half")
    assert not is_finished(tmp_path)


def test_a_process_that_dies_is_told_with_the_remedy(cohort, tmp_path):
    units = plan_units(cohort, PLAN, draw_cohort_folds(cohort, PLAN))
    paths = FitFolder(root=tmp_path)
    assert len([task for unit in units for task in list_tasks(cohort, PLAN, unit, paths)]) == 9
    with pytest.raises(TrainingStopped, match="fewer --processes: finished networks are kept"):
        train_units(cohort, PLAN, units, paths, executor=DyingPool(), tell=lambda line: None)


def test_scores_of_other_cases_are_refused(tmp_path):
    paths = FitFolder(root=tmp_path)
    for number in (1, 2, 3):
        run = paths.run("whole", NetworkName(f"network{number}"), 0)
        run.mkdir(parents=True)
        (run / "scores.csv").write_text("case_id,os,pfs\na,0.5,0.25\n")
    assert {
        end.value: values.tolist() for end, values in read_log_risks(paths, "whole", 0, ["a"]).items()
    } == {
        "OS": [[0.5] * 3],
        "PFS": [[0.25] * 3],
    }
    with pytest.raises(FitRefused, match="scores other cases"):
        read_log_risks(paths, "whole", 0, ["b"])
    with pytest.raises(FitRefused, match="run `mmf-train fit` again"):
        read_log_risks(paths, "fold-0", 0, ["a"])
