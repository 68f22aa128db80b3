"""``mmf-train networks`` and ``tune`` from case folders to weights, scores and a trial log."""

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from engines.errors import InvalidInput
from engines.networks.settings import NetworkName
from engines.networks.weights import read_network
from engines.phase import Phase
from tests.training_cohort import make_cohort, write_cohort
from train.cli import build_app
from train.data import Split
from train.errors import CheckpointRefused

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


def test_training_writes_weights_scores_history_and_summary(cohort, tmp_path, monkeypatch):
    folder, data = cohort
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(TINY)
    monkeypatch.setenv("MMF_CONF", str(tmp_path))
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
    finished = invoke(arguments)
    assert json.loads(finished.stdout)[1]["sha256"] == summaries[1]["sha256"]
    assert "epoch 5/5" not in finished.stderr, "a finished run is not trained again"
    with pytest.raises(InvalidInput, match=r"share one input.*\[16, 32\]"):
        invoke([*arguments[:6], "network1,network2", *arguments[7:]])
    estimate = invoke([*arguments, "--estimate"])
    assert json.loads(estimate.stdout)[0]["hours"] > 0
    assert json.loads(estimate.stdout)[0]["memory_gib"] > 0


def test_tuning_logs_every_trial_and_continues_its_log(cohort, tmp_path, monkeypatch):
    folder, _ = cohort
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.toml").write_text(TINY)
    monkeypatch.setenv("MMF_CONF", str(tmp_path))
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
    both = json.loads(invoke([*arguments, "--trials", "2"]).stdout)
    assert first[0] in both
    assert first[0]["learning_rate"] == 1e-3, "trial 0 is the recipe"
    assert len(log.read_text().splitlines()) == 3
    assert both[0]["c_index"] >= both[1]["c_index"]
    with pytest.raises(CheckpointRefused, match="another search"):
        invoke([*arguments, "--seed", "3"])
    with pytest.raises(InvalidInput, match="nothing to tune"):
        invoke([*arguments, "--network", "unsupervised"])
