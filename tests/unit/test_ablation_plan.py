"""Whose runs an ablation takes for its own: of the same cohort, splits, sizes and schedules, and of no other."""

from dataclasses import replace

import pytest

import train.ablation
from engines.case import write_json
from engines.networks.settings import ENSEMBLE, NetworkName, NetworkSettings
from tests.unit.test_fit_folder import RECORD
from train.ablation import Source, choose_split_seed, plan_grid, train_unit
from train.errors import AblationRefused
from train.fit_folder import Fit, FitFolder
from train.fit_plan import FitPlan
from train.recipes import Recipe, Schedule

RECIPE = Recipe(
    name="mini",
    settings=dict.fromkeys(NetworkName, NetworkSettings(side=32)),
    schedules=dict.fromkeys(NetworkName, Schedule(epochs=30)),
)
LONGER = replace(RECIPE, schedules=dict.fromkeys(NetworkName, Schedule(epochs=31)))
SLOWER = replace(RECIPE, schedules=dict.fromkeys(NetworkName, Schedule(epochs=30, learning_rate=1e-5)))
ONE = (NetworkName.NETWORK1,)


def make_source(folder, digest="a" * 64, seed=0):
    return Source(folder=folder, digest=digest, seed=seed)


def make_fit(folder, source, recipe=RECIPE, seeds=(0,)):
    """A fit as it says of itself; its networks are not asked for."""
    record = replace(
        RECORD,
        recipe=recipe.name,
        seeds=seeds,
        epochs={name.value: recipe.schedules[name].epochs for name in ENSEMBLE},
        cohort=replace(RECORD.cohort, digest=source.digest),
    )
    paths = FitFolder(root=folder)
    plan = FitPlan(recipe=recipe, folds=record.folds, seed=seeds[0], seeds=seeds, half=True)
    write_json({"plan": plan.digest_networks(source.digest)}, paths.networks / "plan.json")
    return Fit(record=record, paths=paths)


def test_a_fit_of_another_cohort_or_schedule_is_not_taken_over(tmp_path):
    source = make_source(tmp_path)
    fit = make_fit(tmp_path / "fit", source)
    assert plan_grid(source, tmp_path / "out", RECIPE, (0,), fit=fit).units[0].fitted
    with pytest.raises(AblationRefused, match="the fit is of another state of the cohort"):
        plan_grid(make_source(tmp_path, "b" * 64), tmp_path / "out", RECIPE, (0,), fit=fit)
    for other in (LONGER, SLOWER):
        with pytest.raises(AblationRefused, match="other sizes or schedules than the recipe mini has now"):
            plan_grid(source, tmp_path / "out", other, (0,), fit=fit)


@pytest.mark.parametrize(("digest", "recipe"), [("b" * 64, RECIPE), ("a" * 64, LONGER), ("a" * 64, SLOWER)])
def test_a_finished_run_of_another_cohort_or_schedule_is_not_taken_for_this_one(tmp_path, digest, recipe):
    def plan(digest, recipe):
        source = make_source(tmp_path, digest)
        return plan_grid(source, tmp_path / "out", recipe, (0,), tables=(2,), networks=ONE)

    (unit,) = plan("a" * 64, RECIPE).units
    write_json({}, unit.folder / "summary.json")
    write_json({}, unit.folder / "scores.csv")
    with pytest.raises(
        AblationRefused, match=r"network1 on A.V.D, seed 0 of another cohort or recipe .not told"
    ):
        plan("a" * 64, RECIPE)
    write_json({"plan": unit.plan}, unit.folder / "plan.json")
    assert plan("a" * 64, RECIPE).units[0].finished
    with pytest.raises(AblationRefused, match="choose another --out"):
        plan(digest, recipe)


def test_all_seeds_are_trained_on_the_same_drawn_splits(tmp_path, monkeypatch):
    """The splits are those of the fit, or of the first seed, whatever the seed of the network."""
    source = make_source(tmp_path, seed=choose_split_seed((4, 5), None))
    assert choose_split_seed((5,), make_fit(tmp_path / "fit", source, seeds=(3, 5))) == 3
    drawn, trained = [], []
    monkeypatch.setattr(train.ablation, "read_cohort", lambda *_, seed: drawn.append(seed))
    monkeypatch.setattr(train.ablation, "run_campaign", lambda plans, *_, **__: trained.append(plans[0].seed))
    for unit in plan_grid(source, tmp_path / "out", RECIPE, (4, 5), tables=(2,), networks=ONE).units:
        train_unit(unit, source, RECIPE, "cpu")
        assert (unit.folder / "plan.json").is_file()
    assert (drawn, trained) == ([4, 4], [4, 5])
