"""The cost of a fit is measured as the fit will run, and nobody begins months of training without having asked."""

from dataclasses import replace

import pytest
import torch

import train.estimate
from engines.errors import InvalidInput
from engines.networks.registry import build_network
from engines.networks.settings import NetworkName, NetworkSettings
from tests.fit_cohort import FIT_PLAN, make_fit_cohort
from train.commands.fit import describe_costs, refuse_unasked_cpu
from train.data import Split
from train.estimate import RECONSTRUCTING, TIMED_STEPS, CaseCounts, count_passes, estimate_run
from train.fit_plan import draw_cohort_folds, estimate_cost, plan_units
from train.recipes import Recipe, Schedule
from train.step import reconstructs

SMALL = NetworkSettings(side=32, width=0.0625, depth=0.05)


@pytest.fixture
def observed(monkeypatch):
    """Threads of torch at each step, whose clock says 1, 9 and 2 seconds for the timed ones."""
    threads, times = [], iter([0.0, 1.0, 10.0, 19.0, 20.0, 22.0] * 9)
    real = train.estimate.compute_gradients

    def compute(*arguments):
        threads.append(torch.get_num_threads())
        return real(*arguments)

    monkeypatch.setattr(train.estimate, "compute_gradients", compute)
    monkeypatch.setattr(train.estimate.time, "perf_counter", lambda: next(times))
    return threads


def test_the_median_of_three_steps_is_the_time_of_a_case(observed):
    schedule = Schedule(epochs=25, batch_size=4)
    found = estimate_run(NetworkName.NETWORK1, SMALL, schedule, CaseCounts(training=30, validation=0), "cpu")
    assert len(observed) == 1 + TIMED_STEPS
    assert found.seconds_a_case == 2 / 4, "a step of the schedule's batch, where it is small"
    assert found.hours == pytest.approx(25 * 30 * (2 / 4) / 3600)


@pytest.mark.parametrize(
    ("name", "pooled", "passes"),
    [
        (NetworkName.NETWORK1, 1, 30 + 9 / 3),
        (NetworkName.NETWORK1, 4, 30 * 4 / 3 + 9 / 3),
        (NetworkName.NETWORK2, 1, 30 + 600 + 9 / 3),
        (NetworkName.UNSUPERVISED, 1, 30 + 600 + 9 / 3),
    ],
)
def test_scans_without_outcome_cost_the_networks_that_reconstruct_them(name, pooled, passes):
    counts = CaseCounts(training=30, validation=9, unlabelled=600)
    assert count_passes(name, Schedule(pooled_batches=pooled), counts) == pytest.approx(passes)


@pytest.mark.parametrize("name", NetworkName)
def test_the_networks_that_are_counted_so_are_those_that_reconstruct(name):
    with torch.device("meta"):
        assert reconstructs(build_network(name, SMALL)) == (name in RECONSTRUCTING)


def test_a_fit_on_a_cpu_is_measured_on_the_one_thread_it_trains_with(observed):
    cohort, _ = make_fit_cohort({Split.TRAINING: 20, Split.VALIDATION: 6}, seed=1, images=False)
    recipe = Recipe(
        name="small",
        settings=dict.fromkeys(NetworkName, SMALL),
        schedules=dict.fromkeys(NetworkName, Schedule(epochs=25, batch_size=2)),
    )
    plan = replace(FIT_PLAN, recipe=recipe)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        costs = estimate_cost(plan, plan_units(cohort, plan, draw_cohort_folds(cohort, plan)))
        assert set(observed) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    lines = describe_costs(costs, 2)
    assert len(lines) == 4
    assert "in all" in lines[-1]


def test_the_recipe_of_the_paper_is_not_begun_on_a_cpu_that_nobody_asked_for():
    with pytest.raises(InvalidInput, match=r"give --recipe mini, or --device cpu"):
        refuse_unasked_cpu("paper", "cpu", None)
    refuse_unasked_cpu("paper", "cpu", "cpu")
    refuse_unasked_cpu("paper", "cuda:0", None)
    refuse_unasked_cpu("mini", "cpu", None)
