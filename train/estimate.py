"""What a run will cost, from a few cases that really go through the network."""

import resource
import time
from dataclasses import dataclass

import numpy as np
import torch

from engines.networks.registry import build_network, count_parameters
from engines.networks.settings import NetworkName, NetworkSettings
from train.data import Follow, Split, TrainingData
from train.losses import TaskWeights
from train.ranks import Ranks
from train.recipes import Schedule
from train.step import MicroBatch, compute_gradients

PROBE_CASES = 2
"""Cases of the measured step; the smallest batch that every network can train on."""
FORWARD_SHARE = 1 / 3
"""A forward pass costs about a third of a whole step; pooling adds one."""
BYTES_A_PARAMETER = 16
"""Weight, gradient and Adam's two moments in float32."""
KIBIBYTE = 1024


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
) -> Estimate:
    """Returns what training would cost, from one measured step of two random cases.

    Args:
        name: which network.
        settings: its size.
        schedule: epochs, batch, pooling.
        training: cases.
        validation: cases.
        device: to measure on.
    """
    where = torch.device(device)
    torch.manual_seed(0)
    network = build_network(name, settings).to(where)
    torch.nn.utils.convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
    weights = TaskWeights().to(where)
    inputs = torch.rand(PROBE_CASES, *settings.input_shape, device=where)
    part = MicroBatch(
        inputs=lambda: inputs, targets=_probe_data().targets(np.arange(PROBE_CASES), where), seed=0
    )
    before = _memory_bytes(where)
    compute_gradients(network, weights, [part], schedule, Ranks())
    _finish(where)
    started = time.perf_counter()
    compute_gradients(network, weights, [part], schedule, Ranks())
    _finish(where)
    seconds = (time.perf_counter() - started) / PROBE_CASES
    parameters = count_parameters(network)
    fixed = BYTES_A_PARAMETER * parameters
    activations = max(0.0, _memory_bytes(where) - before - fixed / 2) / PROBE_CASES
    passes = (
        training * (1 + (FORWARD_SHARE if schedule.pooled_batches > 1 else 0)) + validation * FORWARD_SHARE
    )
    return Estimate(
        network=name.value,
        parameters=parameters,
        seconds_a_case=seconds,
        hours=passes * seconds * schedule.epochs / 3600,
        memory_gib=(before + fixed + activations * schedule.batch_size) / 2**30,
        device=device,
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


def _memory_bytes(device: torch.device) -> float:
    """Most memory used so far, of the GPU or of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
