"""One full-size training step of each of the three networks on a CPU within 16 GiB. Needs 8 GiB free; skips loudly otherwise."""

import os
import resource
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from engines.networks.registry import build_network
from engines.networks.settings import NetworkName, NetworkSettings
from tests.training_cohort import make_cohort
from train.losses import Task, TaskWeights
from train.ranks import Ranks
from train.recipes import Schedule
from train.step import MicroBatch, compute_gradients

NEEDED_GIB = 8.0
"""Twice what the steps were measured to need."""
LIMIT_GIB = 16.0
FORGET_PEAK = Path("/proc/self/clear_refs")
"""Writing 5 resets the peak of the resident memory (Linux, proc(5)), so that each network has its own figure."""


@pytest.mark.parametrize(
    ("name", "batch"), [(NetworkName.NETWORK1, 2), (NetworkName.NETWORK2, 2), (NetworkName.NETWORK3, 1)]
)
def test_one_full_size_step_fits(name, batch):
    available = psutil.virtual_memory().available / 2**30
    if available < NEEDED_GIB:
        pytest.skip(f"{available:.1f} GiB available; a full-size step needs {NEEDED_GIB:.0f}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    data, _, _ = make_cohort(4, side=16)
    network = build_network(name, NetworkSettings())
    torch.nn.utils.convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
    inputs = torch.rand(batch, 3, 128, 128, 128).contiguous(memory_format=torch.channels_last_3d)
    part = MicroBatch(
        inputs=lambda: inputs, targets=data.targets(np.arange(batch), torch.device("cpu")), seed=0
    )
    if os.access(FORGET_PEAK, os.W_OK):
        FORGET_PEAK.write_text("5")
    started = time.process_time()
    result = compute_gradients(network, TaskWeights(), [part], Schedule(), Ranks())
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sys.stderr.write(f"\n{name} batch {batch}: {seconds:.1f} CPU s, peak {peak:.1f} GiB of this process\n")
    assert peak < LIMIT_GIB
    assert Task.AGE in result.losses
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
