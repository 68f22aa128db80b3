"""``mmf-train networks`` and ``tune`` from case folders to weights, scores and a trial log."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from engines.errors import InvalidInput
from engines.networks.registry import build_network, miniature_settings
from engines.networks.settings import ENSEMBLE, NetworkName, read_settings
from engines.networks.weights import read_network
from engines.phase import Phase
from tests.training_cohort import make_cohort, write_cohort
from train.cli import build_app
from train.data import Split
from train.errors import CheckpointRefused
from train.loop import RunOptions, train_network
from train.progress import Selection
from train.recipes import Schedule

torch.set_num_threads(1)

TINY = """
[training]
epochs = 5
warm_up_epochs = 0
batch_size = 8
learning_rate = 1e-3
[size]
side = 16
width = 0.125
depth = 0.1
norm_momentum = 0.2
[network.network2.size]
side = 32
[network.unsupervised.size]
side = 32
[network.densenet121.size]
side = 32
[network.convnext.size]
side = 32
[network.swin_unetr.size]
side = 32
[network.maxvit.size]
side = 32
"""


RIVALS = [name for name in NetworkName if name not in ENSEMBLE]
LOSSES = ("os", "pfs", "age", "labels")


@pytest.fixture
def tiny_recipe(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(TINY)
    monkeypatch.setenv("MMF_CONF", str(tmp_path))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    data, _, _ = make_cohort(
        24, side=16, splits={Split.TRAINING: 14, Split.VALIDATION: 6, Split.TESTING: 3}, unlabelled=1
    )
    write_cohort(folder, data)
    return folder, data


def invoke(arguments):
    return CliRunner().invoke(build_app(arguments), arguments, catch_exceptions=False)


@pytest.mark.usefixtures("tiny_recipe")
def test_training_writes_weights_scores_history_and_summary(cohort, tmp_path):
    folder, data = cohort
    arguments = [
        "networks",
        "--cohort",
        str(folder),
        "--recipe",
        "tiny",
        "--networks",
        "network1",
        "--phases",
        "A,D",
    ]
    arguments += ["--seeds", "0,1", "--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    result = invoke(arguments)
    summaries = json.loads(result.stdout)
    assert [summary["seed"] for summary in summaries] == [0, 1]
    run = tmp_path / "out" / "network1" / "seed-1"
    name, network = read_network(run / "combined.safetensors", sha256=summaries[1]["sha256"]["combined"])
    assert name is NetworkName.NETWORK1
    assert network.settings.phases == (Phase.ARTERIAL, Phase.DELAYED)
    with (run / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case_id"] for row in rows] == list(data.case_ids)
    with torch.no_grad():
        again = network(torch.from_numpy(data.inputs[:1, [0, 2]].astype(np.float32)))
    assert float(again.os_log_risk) == pytest.approx(float(rows[0]["combined_os"]), abs=1e-5)
    with (run / "history.csv").open() as file:
        history = list(csv.DictReader(file))
    assert len(history) == 5
    assert set(summaries[0]["c_index"]["os"]) == {"training", "validation"}, (
        "nobody looks at the testing cases here"
    )
    assert summaries[0]["auxiliary"]["age_error_years"] > 0
    assert summaries[0]["auxiliary"]["label_auc"]["up_to_seven"] is not None
    assert "epoch 5/5" in result.stderr
    assert all(key in summaries[0] for key in ("seconds", "device", "hardware", "epochs", "versions"))
    assert "1 threads" in summaries[0]["hardware"]
    finished = invoke(arguments)
    assert json.loads(finished.stdout)[1]["sha256"] == summaries[1]["sha256"]
    assert "epoch 5/5" not in finished.stderr, "a finished run is not trained again"
    with pytest.raises(InvalidInput, match=r"share one input.*\[16, 32\]"):
        invoke([*arguments[:6], "network1,network2", *arguments[7:]])
    estimate = invoke([*arguments, "--estimate"])
    costs = json.loads(estimate.stdout)
    assert [(cost["network"], cost["runs"]) for cost in costs] == [("network1", 2)]
    assert costs[0]["hours"] > 0
    assert 0.1 < costs[0]["memory_gib"] < 4


@pytest.mark.usefixtures("tiny_recipe")
def test_three_seeds_in_one_command_tell_their_progress_and_their_spread(cohort, tmp_path):
    folder, _ = cohort
    arguments = ["networks", "--cohort", str(folder), "--recipe", "tiny", "--networks", "network1"]
    arguments += ["--cache", str(tmp_path / "cache")]
    result = invoke([*arguments, "--seeds", "3", "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert list((tmp_path / "cache").glob("inputs-*.npy")), "a cohort may be read-only"
    lines = [line for line in result.stderr.splitlines() if "epoch" in line]
    assert len(lines) == 3 * 5
    for task in LOSSES:
        assert re.search(rf"\b{task} \d+\.\d+", lines[0]), "the loss of every task"
    assert re.search(r"C_os 0\.\d+ C_pfs 0\.\d+ lr 1\.0e-03 \d+\.\d s, \d+\.\d min left", lines[0])
    number = r"0\.\d+ \+- 0\.\d+"
    assert re.search(
        rf"a checkpoint each: OS {number}  PFS {number}   one for both: OS {number}", result.stdout
    )
    assert re.search(r"age error \d+\.\d \+- \d+\.\d years", result.stdout)
    assert re.search(r"up_to_seven AUC 0\.\d+ \+- ", result.stdout)
    assert re.search(r"3 runs, 5 epochs, \d+ s on cpu \(.*1 threads\)", result.stdout)


@pytest.mark.usefixtures("tiny_recipe")
def test_tensorboard_gets_the_curves_of_a_run(cohort, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is optional and not installed here")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = cohort
    arguments = ["networks", "--cohort", str(folder), "--recipe", "tiny", "--networks", "network1"]
    arguments += [
        "--out",
        str(tmp_path / "out"),
        "--tensorboard",
        str(tmp_path / "events"),
        "--device",
        "cpu",
    ]
    invoke(arguments)
    events = EventAccumulator(str(tmp_path / "events" / "network1-seed-0"))
    events.Reload()
    words = {f"loss/{task}" for task in LOSSES} | {"c_index/os", "c_index/pfs", "learning_rate"}
    assert words <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("c_index/os")] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", RIVALS)
def test_every_comparison_network_trains_like_the_three(name):
    data, _, _ = make_cohort(7, side=32, splits={Split.TRAINING: 4, Split.VALIDATION: 3})
    width = 0.125 if name in (NetworkName.RESNET50, NetworkName.VIT, NetworkName.CONVNEXT) else 0.25
    table = miniature_settings(name).table() | {
        "width": width,
        "depth": 0.1,
        "phases": ["ARTERIAL", "DELAYED"],
    }
    narrowed = replace(data, inputs=data.inputs[:, [0, 2]])
    schedule = Schedule(epochs=5, warm_up_epochs=0, batch_size=4, learning_rate=1e-3, augmentation=0.55)
    told = []
    options = RunOptions(progress=told.append)
    trained = train_network(name, read_settings(table), narrowed, schedule, options=options)
    assert [record.epoch for record in told] == [0, 1, 2, 3, 4]
    expected = {"reconstruction"} if name is NetworkName.UNSUPERVISED else set(LOSSES)
    assert all(set(record.losses) == expected for record in told)
    assert all(np.isfinite(list(record.losses.values())).all() for record in told)
    assert set(trained.validation_c[Selection.COMBINED]) == {"os", "pfs"}
    before = build_network(name, trained.settings).state_dict()
    assert any(not torch.equal(before[key], value) for key, value in trained.states[Selection.OS].items())


@pytest.mark.usefixtures("tiny_recipe")
def test_tuning_logs_every_trial_and_continues_its_log(cohort, tmp_path):
    folder, _ = cohort
    log = tmp_path / "trials.jsonl"
    arguments = [
        "tune",
        "--cohort",
        str(folder),
        "--recipe",
        "tiny",
        "--log",
        str(log),
        "--device",
        "cpu",
        "--json",
    ]
    first = json.loads(invoke([*arguments, "--trials", "1"]).stdout)
    with log.open("a") as file:
        file.write('{"number": 1, "learning_r')  # a kill in the middle of a line
    both = json.loads(invoke([*arguments, "--trials", "2"]).stdout)
    assert first[0] in both
    assert first[0]["learning_rate"] == 1e-3, "trial 0 is the recipe"
    assert len(log.read_text().splitlines()) == 3
    assert both[0]["c_index"] >= both[1]["c_index"]
    with pytest.raises(CheckpointRefused, match="another search"):
        invoke([*arguments, "--seed", "3"])
    with pytest.raises(InvalidInput, match="nothing to tune"):
        invoke([*arguments, "--network", "unsupervised"])
