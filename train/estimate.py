"""What a run will cost, from a few cases that really go through the network."""

import math
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

from engines.networks.registry import build_network, count_parameters
from engines.networks.settings import NetworkName, NetworkSettings
from train.data import Follow, Split, TrainingData
from train.device import prepare_device
from train.losses import TaskWeights
from train.prefetch import AHEAD
from train.ranks import Ranks
from train.recipes import Schedule
from train.step import MicroBatch, compute_gradients

TIMED_STEPS = 3
"""Their median is taken: one step may meet another process (OURS)."""
PROBE_CASES = 2
"""Cases of the measured step; the smallest batch that every network can train on."""
FORWARD_SHARE = 1 / 3
"""A forward pass costs about a third of a whole step; pooling adds one."""
OPTIMISER_NUMBERS = 3
"""Of each parameter beside itself: its gradient and Adam's two moments."""
FLOAT32_BYTES, FLOAT16_BYTES = 4, 2
KIBIBYTE = 1024
FORGET_PEAK = Path("/proc/self/clear_refs")
"""Writing 5 resets the peak of the resident memory (Linux, proc(5))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Cost of one run.

    Attributes:
        network: which.
        parameters: trainable numbers.
        seconds_a_case: one training pass of one case, on this device, now.
        hours: the whole run with validation.
        memory_gib: at the schedule's batch size.
        device: where it was measured.
    """

    network: str
    parameters: int
    seconds_a_case: float
    hours: float
    memory_gib: float
    device: str


def estimate_run(
    name: NetworkName,
    settings: NetworkSettings,
    schedule: Schedule,
    training: int,
    validation: int,
    device: str,
    threads: int | None = None,
) -> Estimate:
    """Returns what training would cost, from a few measured steps of two random cases.

    Args:
        name: which network.
        settings: its size.
        schedule: epochs, batch, pooling.
        training: cases.
        validation: cases.
        device: to measure on.
        threads: of torch while it is measured, on a CPU: those that training will have; None leaves them as they are.
    """
    where = torch.device(device)
    with _on_threads(threads if where.type == "cpu" else None):
        return _measure(name, settings, schedule, (training, validation), where)


@contextmanager
def _on_threads(threads: int | None) -> Iterator[None]:
    """Lets torch compute on some threads, and gives it back those it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(
    name: NetworkName,
    settings: NetworkSettings,
    schedule: Schedule,
    cases: tuple[int, int],
    where: torch.device,
) -> Estimate:
    training, validation = cases
    prepare_device(where, repeatable=schedule.repeatable)
    torch.manual_seed(0)
    network = build_network(name, settings).to(where)
    torch.nn.utils.convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
    weights = TaskWeights().to(where)
    inputs = torch.rand(PROBE_CASES, *settings.input_shape, device=where)
    part = MicroBatch(
        inputs=lambda: inputs, targets=_probe_data().targets(np.arange(PROBE_CASES), where), seed=0
    )
    _forget_peak(where)
    before = _peak_bytes(where)
    compute_gradients(network, weights, [part], schedule, Ranks())
    _finish(where)
    parameters = count_parameters(network)
    activations = max(0.0, _peak_bytes(where) - before - FLOAT32_BYTES * parameters) / PROBE_CASES
    timed = []
    for _ in range(TIMED_STEPS):
        started = time.perf_counter()
        compute_gradients(network, weights, [part], schedule, Ranks())
        _finish(where)
        timed.append(time.perf_counter() - started)
    seconds = median(timed) / PROBE_CASES
    passes = (
        training * (1 + (FORWARD_SHARE if schedule.pooled_batches > 1 else 0)) + validation * FORWARD_SHARE
    )
    voxels = math.prod(settings.input_shape)
    read_ahead = (AHEAD + 1) * schedule.pooled_batches * FLOAT16_BYTES + 2 * FLOAT32_BYTES
    fixed = before + OPTIMISER_NUMBERS * FLOAT32_BYTES * parameters
    return Estimate(
        network=name.value,
        parameters=parameters,
        seconds_a_case=seconds,
        hours=passes * seconds * schedule.epochs / 3600,
        memory_gib=(fixed + (activations + read_ahead * voxels) * schedule.batch_size) / 2**30,
        device=str(where),
    )


def _probe_data() -> TrainingData:
    """Two cases with every outcome known, so that the step has all its tasks."""
    follow = Follow(months=np.array([1.0, 2.0]), event=np.array([1.0, 1.0]))
    return TrainingData(
        inputs=np.zeros((PROBE_CASES, 1, 1, 1, 1), dtype=np.float16),
        case_ids=["a", "b"],
        patient_keys=["a", "b"],
        splits=[Split.TRAINING] * PROBE_CASES,
        os=follow,
        pfs=follow,
        age_years=np.full(PROBE_CASES, 60.0),
        labels=np.zeros((PROBE_CASES, 9)),
    )


def _forget_peak(device: torch.device) -> None:
    """Lets the peak begin at what is used now; where the system cannot, an earlier peak hides a smaller one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif os.access(FORGET_PEAK, os.W_OK):
        FORGET_PEAK.write_text("5", encoding="ascii")


def _peak_bytes(device: torch.device) -> float:
    """Most memory used since the peak was forgotten, of the GPU or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
