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
FEWEST_PROBE_CASES = 2
"""Of the measured step; the smallest batch that every network can train on."""
PROBE_VOXELS = 2 * 3 * 128**3
"""As long as its inputs hold no more, the measured step has the schedule's batch (OURS): a miniature's case costs up to
three times as much in a step of two."""
RECONSTRUCTING = (NetworkName.NETWORK2, NetworkName.UNSUPERVISED)
FORWARD_SHARE = 1 / 3
"""A forward pass costs about a third of a whole step; pooling adds one."""
OPTIMISER_NUMBERS = 3
"""Of each parameter beside itself: its gradient and Adam's two moments."""
FLOAT32_BYTES, FLOAT16_BYTES = 4, 2
KIBIBYTE = 1024
FORGET_PEAK = Path("/proc/self/clear_refs")
"""Writing 5 resets the peak of the resident memory (Linux, proc(5))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCounts:
    """How many cases a run has of each use; unlabelled ones cost a network that reconstructs as much as training ones."""

    training: int
    validation: int
    unlabelled: int = 0


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
    counts: CaseCounts,
    device: str,
    threads: int | None = None,
) -> Estimate:
    """Returns what training would cost, from a few measured steps of random cases.

    Args:
        name: which network.
        settings: its size.
        schedule: epochs, batch, pooling.
        counts: of the cases.
        device: to measure on.
        threads: of torch while it is measured, on a CPU: those that training will have; None leaves them as they are.
    """
    where = torch.device(device)
    with _on_threads(threads if where.type == "cpu" else None):
        return _measure(name, settings, schedule, counts, where)


def count_passes(name: NetworkName, schedule: Schedule, counts: CaseCounts) -> float:
    """Returns what an epoch costs, in training passes of one case.

    Args:
        name: which network.
        schedule: pooling.
        counts: of the cases.
    """
    learned = counts.training + (counts.unlabelled if name in RECONSTRUCTING else 0)
    pooling = FORWARD_SHARE if schedule.pooled_batches > 1 else 0
    return learned * (1 + pooling) + counts.validation * FORWARD_SHARE


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
    counts: CaseCounts,
    where: torch.device,
) -> Estimate:
    prepare_device(where, repeatable=schedule.repeatable)
    torch.manual_seed(0)
    network = build_network(name, settings).to(where)
    torch.nn.utils.convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
    weights = TaskWeights().to(where)
    voxels = math.prod(settings.input_shape)
    probed = min(schedule.batch_size, max(FEWEST_PROBE_CASES, PROBE_VOXELS // voxels))
    inputs = torch.rand(probed, *settings.input_shape, device=where)
    part = MicroBatch(
        inputs=lambda: inputs, targets=_probe_data(probed).targets(np.arange(probed), where), seed=0
    )
    _forget_peak(where)
    before = _peak_bytes(where)
    compute_gradients(network, weights, [part], schedule, Ranks())
    _finish(where)
    parameters = count_parameters(network)
    activations = max(0.0, _peak_bytes(where) - before - FLOAT32_BYTES * parameters) / probed
    timed = []
    for _ in range(TIMED_STEPS):
        started = time.perf_counter()
        compute_gradients(network, weights, [part], schedule, Ranks())
        _finish(where)
        timed.append(time.perf_counter() - started)
    seconds = median(timed) / probed
    passes = count_passes(name, schedule, counts)
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


def _probe_data(n: int) -> TrainingData:
    """``n`` cases with every outcome known, so that the step has all its tasks."""
    follow = Follow(months=np.arange(1.0, n + 1), event=np.ones(n))
    names = [str(case) for case in range(n)]
    return TrainingData(
        inputs=np.zeros((n, 1, 1, 1, 1), dtype=np.float16),
        case_ids=names,
        patient_keys=names,
        splits=[Split.TRAINING] * n,
        os=follow,
        pfs=follow,
        age_years=np.full(n, 60.0),
        labels=np.zeros((n, 9)),
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
