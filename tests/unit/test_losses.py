"""Cox loss by hand, by brute force and under stress; masked auxiliary losses; learned task weights."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.networks.heads import LABELS, NetworkOutput
from engines.survival.risk_sets import Ties
from train.losses import (
    LOG_VARIANCE_LIMIT,
    Targets,
    Task,
    TaskWeights,
    cox_loss,
    has_comparable_pair,
    l1_penalty,
    measure_losses,
    read_signals,
)

torch.set_num_threads(1)


def plain_cox(risk, months, event, ties):
    """The definition, event time by event time."""
    total = risk.new_zeros(())
    for time in sorted(set(months[event > 0].tolist())):
        at_risk = torch.exp(risk[months >= time]).sum()
        dying = (months == time) & (event > 0)
        deaths, tied = int(dying.sum()), torch.exp(risk[dying]).sum()
        for number in range(deaths):
            share = number / deaths * tied if ties is Ties.EFRON else 0.0
            total = total + torch.log(at_risk - share)
        total = total - risk[dying].sum()
    return total / (event > 0).sum()


def unknown_targets(n, **known):
    empty = torch.full((n,), float("nan"))
    fields = dict.fromkeys(("os_months", "os_event", "pfs_months", "pfs_event", "age_years"), empty)
    return Targets(**{**fields, "labels": torch.full((n, len(LABELS)), float("nan")), **known})


def test_the_risk_set_is_who_is_still_there_worked_by_hand():
    # A dies at 1 with B and C alive; B dies at 2 with C alive; C is censored at 3
    risk = torch.tensor([0.0, math.log(2), math.log(3)], dtype=torch.float64)
    loss = cox_loss(risk, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 0.0]))
    assert float(loss) == pytest.approx((math.log(6 / 1) + math.log(5 / 2)) / 2, abs=1e-12)


def test_raising_the_risk_of_who_dies_first_lowers_the_loss():
    risk = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    cox_loss(risk, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 0.0])).backward()
    assert risk.grad[0] < 0 < risk.grad[2]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    n=st.integers(2, 30),
    times=st.integers(1, 12),
    seed=st.integers(0, 10_000),
    ties=st.sampled_from(list(Ties)),
)
def test_value_and_gradient_equal_the_definition(n, times, seed, ties):
    generator = torch.Generator().manual_seed(seed)
    risk = torch.randn(n, generator=generator, dtype=torch.float64, requires_grad=True)
    months = torch.randint(1, times + 1, (n,), generator=generator).double()
    event = (torch.rand(n, generator=generator) < 0.6).double()
    event[0] = 1.0
    ours, theirs = cox_loss(risk, months, event, ties), plain_cox(risk, months, event, ties)
    (our_slope,) = torch.autograd.grad(ours, risk)
    (their_slope,) = torch.autograd.grad(theirs, risk)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(our_slope, their_slope, rtol=1e-9, atol=1e-12)


def test_a_constant_added_to_all_risks_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    risk = torch.randn(50, generator=generator, dtype=torch.float64)
    months, event = torch.randint(1, 9, (50,), generator=generator).double(), torch.ones(50)
    torch.testing.assert_close(cox_loss(risk, months, event), cox_loss(risk + 700, months, event))


@pytest.mark.parametrize("ties", list(Ties))
def test_extreme_risks_stay_finite(ties):
    risk = torch.tensor([-3e4, 3e4, 0.0, 120.0, -120.0, 3e4], requires_grad=True)
    loss = cox_loss(risk, torch.tensor([1.0, 1.0, 2.0, 2.0, 2.0, 3.0]), torch.ones(6), ties)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(risk.grad).all()


def test_bfloat16_risks_give_a_finite_float32_loss():
    risk = (torch.randn(64, generator=torch.Generator().manual_seed(1)) * 50).bfloat16().requires_grad_()
    loss = cox_loss(risk, torch.arange(64) // 3 + 1.0, torch.ones(64))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(risk.grad).all()


@pytest.mark.parametrize(
    ("months", "event", "comparable"),
    [
        ([1.0, 2.0], [1.0, 0.0], True),
        ([1.0, 2.0], [0.0, 1.0], False),
        ([1.0, 1.0], [1.0, 0.0], True),
        ([1.0, 1.0], [1.0, 1.0], False),
        ([3.0, 2.0], [0.0, 0.0], False),
        ([], [], False),
    ],
)
def test_a_pair_is_comparable_when_one_is_known_to_have_died_first(months, event, comparable):
    assert has_comparable_pair(torch.tensor(months), torch.tensor(event)) is comparable


def test_a_task_without_pairs_or_labels_is_dropped_whole():
    signals = torch.zeros(2, 13)
    losses = measure_losses(
        signals,
        unknown_targets(2, os_months=torch.tensor([1.0, 2.0]), os_event=torch.tensor([0.0, 1.0])),
        reconstructs=False,
    )
    assert losses == {}
    weights = TaskWeights()
    total = weights({Task.OS: torch.tensor(2.0)})
    total.backward()
    moved = weights.log_variance.grad != 0
    assert moved.tolist() == [task is Task.OS for task in Task], "the s of an absent task gets no gradient"


def test_missing_labels_do_not_count_and_known_ones_count_alone():
    labels = torch.full((3, 9), float("nan"))
    labels[1, 4] = 1.0
    signals = torch.zeros(3, 13)
    signals[1, 3 + 4] = 2.0
    losses = measure_losses(signals, unknown_targets(3, labels=labels), reconstructs=False)
    assert set(losses) == {Task.LABELS}
    assert float(losses[Task.LABELS]) == pytest.approx(math.log1p(math.exp(-2.0)))


def test_cases_without_follow_up_do_not_enter_the_risk_set():
    known = {"os_months": torch.tensor([1.0, 2.0, np.nan]), "os_event": torch.tensor([1.0, 0.0, np.nan])}
    signals = torch.zeros(3, 13)
    signals[2, 0] = 50.0
    losses = measure_losses(signals, unknown_targets(3, **known), reconstructs=False)
    assert float(losses[Task.OS]) == pytest.approx(math.log(2))


def test_the_age_loss_is_the_authors():
    signals = torch.zeros(1, 13)
    signals[0, 2] = 0.8
    losses = measure_losses(signals, unknown_targets(1, age_years=torch.tensor([60.0])), reconstructs=False)
    assert float(losses[Task.AGE]) == pytest.approx((0.8 - math.log(60) / 4.75) ** 2, rel=1e-5)


def test_reconstruction_is_compared_with_every_phase():
    inputs = torch.stack([torch.full((4, 4, 4), value) for value in (0.0, 0.5, 1.0)])[None]
    output = NetworkOutput(*(torch.zeros(1) for _ in range(3)), torch.zeros(1, 9), torch.zeros(1, 1, 4, 4, 4))
    assert float(read_signals(output, inputs)[0, -1]) == pytest.approx(0.5)


def test_auxiliary_tasks_may_start_lighter_and_are_learned_from_there():
    weights = TaskWeights(auxiliary=3.0)
    assert weights.table() == {"os": 0.0, "pfs": 0.0, "age": 3.0, "labels": 3.0, "reconstruction": 0.0}
    weights({task: torch.tensor(0.5) for task in Task}).backward()
    slopes = [1 - 0.5 * math.exp(-value) for value in weights.table().values()]
    assert weights.log_variance.grad.tolist() == pytest.approx(slopes)


def test_task_weights_follow_the_formula_and_stay_within_their_limits():
    weights = TaskWeights()
    with torch.no_grad():
        weights.log_variance.copy_(torch.tensor([1.0, -1.0, 0.0, 0.0, 99.0]))
    losses = {Task.OS: torch.tensor(2.0), Task.PFS: torch.tensor(3.0), Task.RECONSTRUCTION: torch.tensor(1.0)}
    limit = LOG_VARIANCE_LIMIT
    expected = math.exp(-1) * 2 + 1 + math.e * 3 - 1 + math.exp(-limit) + limit
    assert weights(losses).item() == pytest.approx(expected, rel=1e-6)


def test_the_penalty_counts_matrices_only():
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[3.0, -4.0]]))
        layer.bias.fill_(100.0)
    assert l1_penalty(layer).item() == 7.0


@pytest.mark.parametrize("ties", list(Ties))
def test_value_and_gradient_equal_rs_survival_package_with_ties(ties):
    path = Path(__file__).parent.parent / "golden" / "cox_loss.csv"
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["ties"] == ties.value]
    column = {
        key: torch.tensor([float(row[key]) for row in rows], dtype=torch.float64)
        for key in rows[0]
        if key != "ties"
    }
    risk = column["risk"].requires_grad_()
    loss = cox_loss(risk, column["months"], column["event"], ties)
    loss.backward()
    torch.testing.assert_close(loss.detach(), column["loss"][0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(-risk.grad * column["event"].sum(), column["residual"], rtol=1e-10, atol=1e-12)
