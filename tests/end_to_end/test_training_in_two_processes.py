"""Two gloo processes started by the usual launcher: one process's gradients, one risk set, the same weights."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engines.networks.settings import ENSEMBLE
from tests.end_to_end.two_ranks import compute
from train.ranks import Ranks

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.timeout(
    900
)  # three processes start torch side by side; on a busy machine that takes minutes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    script = str(ROOT / "tests" / "end_to_end" / "two_ranks.py")
    done = subprocess.run(
        [*launcher, script, str(out)], env=environment, cwd=out, capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [load_file(out / f"rank-{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize("name", ENSEMBLE)
def test_two_processes_give_one_processs_gradient(name, ranks):
    torch.set_num_threads(1)
    alone = compute(name, Ranks())
    for rank in ranks:
        for key, gradient in alone.items():
            summed = rank[f"gradient.{name.value}.{key}"]
            torch.testing.assert_close(summed, gradient, rtol=1e-9, atol=1e-9, msg=key)


def test_both_processes_end_with_the_same_weights(ranks):
    keys = [key for key in ranks[0] if key.startswith("weights.")]
    assert keys
    assert all(torch.equal(ranks[0][key], ranks[1][key]) for key in keys)
