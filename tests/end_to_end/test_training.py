"""Batches, augmentation, recipes, data checks, pooled gradients, and a run that survives a kill."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.networks.registry import build_network, miniature_settings
from engines.networks.settings import ENSEMBLE, NetworkName, read_settings
from engines.phase import Phase
from tests.training_cohort import make_cohort
from train.augment import Augmentation, apply_augmentation, draw_augmentation
from train.data import Split, check_training_data
from train.errors import CohortRefused, RecipeRefused
from train.loop import train_network
from train.losses import Task, TaskWeights, measure_losses, read_signals
from train.prefetch import prefetch
from train.progress import EpochRecord, Selection, smoothed_c
from train.ranks import Ranks
from train.recipes import Schedule, read_recipe, read_schedule
from train.sampler import deal_batches
from train.step import MicroBatch, compute_gradients

torch.set_num_threads(1)

TINY = read_settings({"side": 16, "width": 0.125, "depth": 0.1, "norm_momentum": 0.2})
QUICK = Schedule(
    epochs=6, warm_up_epochs=1, batch_size=8, learning_rate=1e-3, augmentation=0.5, l1=1e-6, decay_patience=1
)


def test_every_batch_gets_its_share_of_events_and_every_case_comes_once():
    events = np.array([1] * 65 + [0] * 35)
    batches = deal_batches(events, 4, seed=3, epoch=2)
    assert sorted(np.concatenate(batches)) == list(range(100))
    assert all(1 <= events[batch].sum() <= 4 for batch in batches)
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    again = deal_batches(events, 4, seed=3, epoch=2)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    assert not np.array_equal(
        np.concatenate(batches), np.concatenate(deal_batches(events, 4, seed=3, epoch=3))
    )


def test_stratified_batches_seldom_lack_a_comparable_pair():
    random = np.random.default_rng(0)
    months, event = random.exponential(20, 520), random.random(520) < 0.65
    lacking = {"dealt": 0, "random": 0}
    for epoch in range(20):
        shuffled = random.permutation(520)
        for kind, batches in (
            ("dealt", deal_batches(event, 4, 0, epoch)),
            ("random", np.array_split(shuffled, 130)),
        ):
            for batch in batches:
                first = months[batch][event[batch]].min(initial=np.inf)
                lacking[kind] += not (months[batch] > first).any()
    assert lacking["dealt"] < 0.7 * lacking["random"]


def test_augmentation_is_drawn_apart_from_its_application():
    inputs = torch.rand(3, 2, 8, 8, 8)
    same = Augmentation(
        gamma=torch.ones(3),
        turns=torch.zeros(3, 2, dtype=torch.long),
        flip=torch.full((3,), -1),
        zoom=torch.ones(3),
    )
    assert torch.equal(apply_augmentation(inputs, same), inputs)
    drawn = replace(
        same,
        gamma=torch.tensor([2.0, 1.0, 1.0]),
        flip=torch.tensor([-1, 0, -1]),
        turns=torch.tensor([[0, 0], [0, 0], [1, 2]]),
    )
    changed = apply_augmentation(inputs, drawn)
    low, high = inputs[0].min(), inputs[0].max()
    torch.testing.assert_close(changed[0], ((inputs[0] - low) / (high - low)) ** 2 * (high - low) + low)
    assert torch.equal(changed[1], inputs[1].flip(1))
    assert torch.equal(changed[2], torch.rot90(torch.rot90(inputs[2], 1, (1, 3)), 2, (1, 2)))


def test_zoom_magnifies_about_the_centre():
    inputs = torch.zeros(2, 1, 20, 20, 20)
    inputs[:, :, 5:15, 5:15, 5:15] = 1.0
    drawn = draw_augmentation(2, 0.0, torch.Generator())
    zoom = torch.tensor([1.1, 0.9], dtype=torch.float64)
    zoomed = apply_augmentation(inputs, replace(drawn, zoom=zoom))
    assert zoomed[0].sum() / inputs[0].sum() == pytest.approx(1.1**3, rel=0.03)
    assert zoomed[1].sum() / inputs[1].sum() == pytest.approx(0.9**3, rel=0.03)
    corner = zoomed.flip((2, 3, 4))
    torch.testing.assert_close(corner, zoomed, rtol=0, atol=1e-5)


def test_each_change_happens_as_often_as_asked():
    drawn = draw_augmentation(4000, 0.55, torch.Generator().manual_seed(0))
    shares = [
        drawn.gamma != 1,
        drawn.turns[:, 0] != 0,
        drawn.turns[:, 1] != 0,
        drawn.flip >= 0,
        drawn.zoom != 1,
    ]
    assert all(float(share.float().mean()) == pytest.approx(0.55, abs=0.03) for share in shares)
    assert float(drawn.gamma.min()) >= 0.5
    assert float(drawn.gamma.max()) <= 4.5
    assert float((drawn.zoom - 1).abs().max()) <= 0.1 + 1e-6


def test_without_contrast_the_other_changes_are_those_drawn_with_it():
    def draw(contrast):
        return draw_augmentation(40, 0.55, torch.Generator().manual_seed(1), contrast=contrast)

    whole, rest = draw(True), draw(False)
    assert torch.equal(rest.gamma, torch.ones(40))
    for field in ("turns", "flip", "zoom"):
        assert torch.equal(getattr(rest, field), getattr(whole, field))


def test_the_paper_recipe_is_the_supplements():
    recipe = read_recipe("paper")
    batches = [
        recipe.schedules[name].batch_size
        for name in (NetworkName.NETWORK1, NetworkName.NETWORK2, NetworkName.NETWORK3)
    ]
    assert batches == [16, 16, 4]
    for schedule in recipe.schedules.values():
        assert (schedule.epochs, schedule.learning_rate) == (250, 1e-4)
    assert recipe.schedules[NetworkName.NETWORK3].augmentation == 0.25
    assert recipe.schedules[NetworkName.NETWORK3].pooled_batches * 4 == 16
    assert recipe.settings[NetworkName.NETWORK1].side == 128


def test_the_mini_recipe_has_the_miniatures_sizes():
    recipe = read_recipe("mini")
    for name in NetworkName:
        assert replace(recipe.settings[name], dropout=None) == miniature_settings(name), name


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"epoch": 3}, "unknown key epoch"),
        ({"epochs": 3.5}, "epochs is 3.5"),
        ({"epochs": 4, "warm_up_epochs": 0}, "warm_up_epochs"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"augmentation": 2.0}, "augmentation"),
        ({"auxiliary_log_variance": 6.0}, "within"),
        ({"ties": "exact"}, "ties"),
        ({"compiled": 1}, "expected true or false"),
        ({"reconstruction_epochs": 300}, "reconstruction_epochs"),
        ({"decay_factor": 1.0}, "decay_factor"),
        ({"pooled_batches": 0}, "pooled_batches"),
        ({"pooled_batches": 2, "compiled": True}, "exclude each other"),
        ({"l1": -1.0}, "l1"),
    ],
)
def test_a_fault_in_a_recipe_is_named(table, word):
    with pytest.raises(RecipeRefused, match=word):
        read_schedule(table, "recipe x")


def test_unknown_recipes_and_tables_are_refused(tmp_path):
    with pytest.raises(RecipeRefused, match="was not found"):
        read_recipe("nobody")
    path = tmp_path / "r.toml"
    for text, word in [
        ("[trainng]", "trainng"),
        ("[network.network9]", "network9"),
        ("training = 3", "must be a table"),
        ("[network.network1.sizes]", "sizes"),
        ("[size]\nside = 20", "multiple of 16"),
        ("= 3", "TOML"),
    ]:
        path.write_text(text)
        with pytest.raises(RecipeRefused, match=word):
            read_recipe("r", path)


def spoil(data, **changes):
    return replace(data, **changes)


def test_each_fault_of_a_cohort_has_its_own_message():
    data, _, _ = make_cohort(20, side=16)
    check_training_data(data)
    months, event = data.os.months.copy(), data.os.event.copy()
    months[3] = 0.0
    with pytest.raises(CohortRefused, match=r"OS of case case-0003 is 0 months"):
        check_training_data(spoil(data, os=replace(data.os, months=months)))
    event[data.rows(Split.VALIDATION)] = 0.0
    with pytest.raises(CohortRefused, match=r"no OS event among the 4 validation cases"):
        check_training_data(spoil(data, os=replace(data.os, event=event)))
    with pytest.raises(CohortRefused, match=r"1 patient;"):
        check_training_data(spoil(data, patient_keys=["p"] * 20))
    with pytest.raises(CohortRefused, match=r"case id case-0001 occurs twice"):
        check_training_data(spoil(data, case_ids=["case-0001", *data.case_ids[1:]]))
    keys = list(data.patient_keys)
    keys[19] = keys[0]
    with pytest.raises(CohortRefused, match=r"patient patient-0000 is in two splits"):
        check_training_data(spoil(data, patient_keys=keys))
    inputs = data.inputs.copy()
    inputs[5, 1, 2, 3, 4] = np.inf
    with pytest.raises(CohortRefused, match=r"case case-0005 holds voxels that are not finite"):
        check_training_data(spoil(data, inputs=inputs))
    with pytest.raises(CohortRefused, match=r"expected \(n, phases, side, side, side\)"):
        check_training_data(spoil(data, inputs=data.inputs[..., :8]))
    with pytest.raises(CohortRefused, match=r"rows"):
        check_training_data(spoil(data, inputs=data.inputs[:5]))
    labels = data.labels.copy()
    labels[2, 0] = 7
    with pytest.raises(CohortRefused, match=r"labels must be 0, 1 or NaN; case case-0002"):
        check_training_data(spoil(data, labels=labels))
    with pytest.raises(CohortRefused, match="network1 expects"):
        train_network(NetworkName.NETWORK1, replace(TINY, phases=(Phase.ARTERIAL,)), data, QUICK)


def test_nearly_the_same_volume_in_two_splits_is_refused():
    data, _, _ = make_cohort(20, side=16)
    inputs = data.inputs.copy()
    inputs[18] = inputs[2] + np.random.default_rng(0).normal(0, 0.003, inputs[2].shape).astype(np.float16)
    with pytest.raises(
        CohortRefused, match=r"case-0002 .training. and case-0018 .validation. hold nearly the same"
    ):
        check_training_data(spoil(data, inputs=inputs))


def test_batches_are_read_ahead_in_order(tmp_path):
    np.save(tmp_path / "cache.npy", np.arange(24, dtype=np.float16).reshape(6, 1, 1, 2, 2))
    mapped = np.load(tmp_path / "cache.npy", mmap_mode="r")
    batches = [np.array([4, 1]), np.array([0]), np.array([5, 2, 3])]
    for ahead in (1, 2, 9):
        read = [(rows, inputs.clone()) for rows, inputs, _ in prefetch(mapped, batches, ahead)]
        assert [rows.tolist() for rows, _ in read] == [[4, 1], [0], [5, 2, 3]]
        assert all(np.array_equal(inputs.numpy(), mapped[rows]) for rows, inputs in read)
    assert list(prefetch(mapped, [])) == []
    for _rows, _inputs, _wait in prefetch(mapped, batches, ahead=1):
        break  # leaving early ends the reader
    with pytest.raises(IndexError, match="out of bounds"):
        list(prefetch(mapped, [np.array([0]), np.array([6])]))


def tiny(name):
    """The smallest network of a kind, without dropout, and a cohort for it."""
    side = 32 if name is NetworkName.NETWORK2 else 16
    data, _, _ = make_cohort(16, side=side)
    return replace(TINY, side=side, width=0.04 if side == 32 else TINY.width, dropout=0.0), data


def pool_of(data, rows, size):
    return [
        MicroBatch(
            inputs=lambda part=part: torch.from_numpy(data.inputs[part].astype(np.float64)),
            targets=data.targets(part, torch.device("cpu")),
            seed=1,
        )
        for part in np.array_split(rows, -(-rows.size // size))
    ]


@pytest.mark.parametrize("name", ENSEMBLE)
def test_pooled_micro_batches_give_the_gradient_of_one_large_batch(name):
    settings, data = tiny(name)
    torch.manual_seed(0)
    network = build_network(name, settings).double().eval()
    network.training = True  # the network alone, so that it reconstructs; its norms stay in evaluation mode
    weights, rows = TaskWeights().double(), np.arange(6)
    gradients = []
    for size in (6, 3, 2):
        result = compute_gradients(network, weights, pool_of(data, rows, size), QUICK, Ranks())
        gradients.append([p.grad.clone() for p in (*network.parameters(), *weights.parameters())])
    assert (Task.RECONSTRUCTION in result.losses) is (name is NetworkName.NETWORK2)
    assert {Task.OS, Task.PFS, Task.AGE, Task.LABELS} <= set(result.losses)
    for other in gradients[1:]:
        for one, two in zip(gradients[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ENSEMBLE)
def test_losses_and_gradients_stay_finite_in_bf16(name):
    """The product computes in bf16 on a GPU alone; a CPU stands in for it here, without oneDNN.

    The bf16 weight gradient of oneDNN 3.12 (torch 2.13, AVX-512) reads memory that nothing wrote where a 3 x 3 x 3
    convolution has inputs of 2 voxels a side or fewer, as at the bottom of a network of 16: NaN now and then.
    """
    settings, data = tiny(name)
    torch.manual_seed(0)
    network, rows = build_network(name, settings), np.arange(6)
    inputs = torch.from_numpy(data.inputs[rows].astype(np.float32))
    with torch.backends.mkldnn.flags(enabled=False):
        with torch.autocast("cpu", torch.bfloat16):
            output = network(inputs)
        assert output.os_log_risk.dtype == torch.bfloat16
        signals = read_signals(output, inputs)
        assert signals.dtype == torch.float32
        reconstructs = output.reconstruction is not None
        losses = measure_losses(signals, data.targets(rows, torch.device("cpu")), reconstructs=reconstructs)
        assert set(losses) == set(Task) - (set() if reconstructs else {Task.RECONSTRUCTION})
        assert all(torch.isfinite(loss) and loss.dtype == torch.float32 for loss in losses.values())
        TaskWeights()(losses).backward()
        gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", ENSEMBLE)
def test_batch_norm_in_training_mode_makes_pooled_gradients_differ(name):
    """Each micro-batch is normalised by its own mean and variance: by a few per cent and more, never by 1e-9.

    The running statistics take one step a micro-batch, as in training without pooling, though each is passed twice.
    """
    settings, data = tiny(name)
    torch.manual_seed(0)
    network = build_network(name, settings).double().train()
    norm = next(module for module in network.modules() if isinstance(module, torch.nn.BatchNorm3d))
    weights, rows = TaskWeights().double(), np.arange(6)
    gradients, counts = [], []
    for size in (6, 2):
        before = int(norm.num_batches_tracked)
        compute_gradients(network, weights, pool_of(data, rows, size), QUICK, Ranks())
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
        counts.append(int(norm.num_batches_tracked) - before)
    difference = float((gradients[0] - gradients[1]).norm() / gradients[0].norm())
    assert difference > 1e-3
    assert counts == [1, 3]


def record(epoch, c_os, c_pfs):
    return EpochRecord(
        epoch=epoch,
        losses={},
        log_variances={},
        c_index={"os": c_os, "pfs": c_pfs},
        validation_loss=1.0,
        learning_rate=1.0,
        seconds=1.0,
        data_wait=0.0,
        remaining_seconds=0.0,
    )


def test_a_collapsed_epoch_is_not_chosen_however_good_its_neighbours_were():
    values = [0.71, 0.71, 0.70, 0.69, 0.44, 0.69]
    history = [record(epoch, value, value) for epoch, value in enumerate(values)]
    assert smoothed_c(history[:5], Selection.OS, 0) == pytest.approx(0.44)
    assert smoothed_c(history, Selection.OS, 0) == pytest.approx(np.mean(values[1:]))


def test_a_checkpoint_is_judged_by_five_epochs_after_the_warm_up():
    history = [record(epoch, 0.5 + epoch / 100, 0.6) for epoch in range(9)]
    assert smoothed_c(history[:4], Selection.OS, 0) is None
    assert smoothed_c(history[:5], Selection.OS, 0) == pytest.approx(0.52)
    assert smoothed_c(history[:8], Selection.OS, 4) is None
    assert smoothed_c(history, Selection.OS, 4) == pytest.approx(0.56)
    assert smoothed_c(history, Selection.COMBINED, 4) == pytest.approx(0.58)
