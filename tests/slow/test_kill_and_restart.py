"""kill -9 of a real training process, and a restart that ends with the same weights bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.training_cohort import make_cohort, write_cohort

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
[training]
epochs = 6
warm_up_epochs = 1
batch_size = 8
learning_rate = 1e-3
[size]
side = 32
width = 0.125
depth = 0.1
norm_momentum = 0.2
"""


def start(tmp_path, out):
    arguments = [
        "networks",
        "--cohort",
        str(tmp_path / "cohort"),
        "--recipe",
        "small",
        "--networks",
        "network1",
    ]
    arguments += ["--out", str(out), "--device", "cpu", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MMF_CONF": str(tmp_path), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "train.cli", *arguments],
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    text, errors = process.communicate(timeout=250)
    assert process.returncode == 0, errors[-2000:]
    return json.loads(text)[0]["sha256"], errors


def test_a_run_killed_with_signal_9_continues_to_the_same_weights(tmp_path):
    data, _, _ = make_cohort(24, side=32)
    write_cohort(tmp_path / "cohort", data)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "small.toml").write_text(RECIPE)
    whole, _ = finish(start(tmp_path, tmp_path / "whole"))
    process = start(tmp_path, tmp_path / "killed")
    for line in process.stderr:
        if "epoch 3/6" in line:
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    again, errors = finish(start(tmp_path, tmp_path / "killed"))
    assert "epoch 2/6" not in errors, "it started again instead of continuing"
    assert "epoch 6/6" in errors
    assert again == whole
