"""Whole small runs: a kill and a restart, a value that is not finite, reconstruction first, the unsupervised rival."""

from dataclasses import replace

import pytest
import torch

from engines.networks.registry import miniature_settings
from engines.networks.settings import NetworkName, read_settings
from tests.training_cohort import make_cohort
from train.campaign import write_run
from train.checkpoint import read_checkpoint
from train.data import Split
from train.errors import CheckpointRefused, RecipeRefused, TrainingStopped
from train.feasibility import check_plan
from train.loop import CHECKPOINT_NAME, RunOptions, train_network
from train.progress import Selection
from train.recipes import Schedule

torch.set_num_threads(1)

TINY = read_settings({"side": 16, "width": 0.125, "depth": 0.1, "norm_momentum": 0.2})
QUICK = Schedule(
    epochs=6, warm_up_epochs=1, batch_size=8, learning_rate=1e-3, augmentation=0.5, l1=1e-6, decay_patience=1
)


def states_equal(one, other):
    return all(torch.equal(one.states[s][k], other.states[s][k]) for s in Selection for k in one.states[s])


def test_a_killed_run_continues_to_the_same_weights_bit_for_bit(tmp_path):
    data, _, _ = make_cohort(30, side=16)
    whole = train_network(NetworkName.NETWORK1, TINY, data, QUICK, seed=5)

    class Killed(BaseException):
        pass

    def kill(progress):
        if progress.epoch == 2:
            raise Killed

    options = RunOptions(folder=tmp_path, progress=kill)
    with pytest.raises(Killed):
        train_network(NetworkName.NETWORK1, TINY, data, QUICK, seed=5, options=options)
    halves = [tmp_path / ".draft-77-checkpoint.safetensors", tmp_path / ".tmpX1y2Z3"]
    for half in halves:
        half.write_bytes(b"half a checkpoint")
    seen = []
    options = RunOptions(folder=tmp_path, progress=lambda progress: seen.append(progress.epoch))
    continued = train_network(NetworkName.NETWORK1, TINY, data, QUICK, seed=5, options=options)
    assert seen == [3, 4, 5]
    assert not any(half.exists() for half in halves), "what a kill left behind is removed"
    assert states_equal(whole, continued)
    assert [r.losses for r in whole.history] == [r.losses for r in continued.history]
    assert max(abs(value) for value in whole.history[-1].log_variances.values()) > 0.01
    with pytest.raises(CheckpointRefused, match=r"another run: seed is 5 there, 6 here$"):
        train_network(NetworkName.NETWORK1, TINY, data, QUICK, seed=6, options=options)
    other = replace(data, age_years=data.age_years + 1)
    with pytest.raises(CheckpointRefused, match=r"another run: cases differ$"):
        train_network(NetworkName.NETWORK1, TINY, other, QUICK, seed=5, options=options)
    (tmp_path / CHECKPOINT_NAME).write_bytes(b"torn")
    with pytest.raises(CheckpointRefused, match="not a checkpoint"):
        read_checkpoint(tmp_path / CHECKPOINT_NAME, "x")


def test_a_value_that_is_not_finite_stops_with_the_cases_named():
    data, _, _ = make_cohort(20, side=16)
    with pytest.raises(
        TrainingStopped, match=r"network3, epoch 0, step 1: outputs not finite for cases .*case-"
    ):
        train_network(NetworkName.NETWORK3, TINY, data, replace(QUICK, learning_rate=1e30, augmentation=0.0))


def test_network_2_learns_to_reconstruct_first_and_from_unlabelled_scans_too():
    data, _, _ = make_cohort(12, side=32, unlabelled=4, splits={Split.TRAINING: 8, Split.VALIDATION: 4})
    settings = read_settings({**miniature_settings(NetworkName.NETWORK2).table(), "width": 0.03})
    schedule = replace(QUICK, epochs=7, warm_up_epochs=0, reconstruction_epochs=2, augmentation=0.0)
    trained = train_network(NetworkName.NETWORK2, settings, data, schedule)
    assert [set(r.losses) == {"reconstruction"} for r in trained.history[:3]] == [True, True, False]
    assert trained.history[1].c_index == {}
    assert trained.chosen_epoch[Selection.OS] == 6
    with pytest.raises(RecipeRefused, match="only reconstruct"):
        train_network(NetworkName.NETWORK2, settings, data, replace(schedule, reconstruction_epochs=3))


def test_the_unsupervised_rival_gets_its_heads_from_a_ridge_cox(tmp_path):
    data, _, _ = make_cohort(40, side=32, splits={Split.TRAINING: 32, Split.VALIDATION: 8})
    settings = read_settings({**miniature_settings(NetworkName.UNSUPERVISED).table(), "width": 0.03})
    schedule = replace(QUICK, epochs=5, warm_up_epochs=0, augmentation=0.0)
    trained = train_network(NetworkName.UNSUPERVISED, settings, data, schedule)
    assert all(set(r.losses) == {"reconstruction"} for r in trained.history)
    heads = trained.network().heads
    assert float(heads.os.weight.detach().abs().max()) > 0
    assert float(heads.age.weight.detach().abs().max()) == 0
    assert set(trained.validation_c[Selection.COMBINED]) == {"os", "pfs"}
    summary = write_run(tmp_path, trained, data, "cpu")
    assert summary.auxiliary.age_error_years is None
    assert set(summary.auxiliary.label_auc.values()) == {None}, "its age and label heads have learned nothing"


def test_a_batch_of_one_case_is_refused_before_the_first_epoch():
    data, _, _ = make_cohort(0, side=16, splits={Split.TRAINING: 9, Split.VALIDATION: 4})
    for batch, processes in ((2, 1), (2, 3), (4, 8)):
        with pytest.raises(RecipeRefused, match=f"batch_size {batch} deals 9 cases to {processes} processes"):
            check_plan(
                NetworkName.NETWORK1, TINY, data, replace(QUICK, batch_size=batch), processes=processes
            )
    check_plan(NetworkName.NETWORK1, TINY, data, replace(QUICK, batch_size=4), processes=2)
