"""Whether a network, a schedule and a cohort fit each other: asked before the first epoch, not found out after a night."""

import torch

from engines.networks.registry import build_network
from engines.networks.settings import NetworkName, NetworkSettings
from train.data import Split, TrainingData, check_records
from train.errors import CohortRefused, RecipeRefused
from train.recipes import SMOOTHING_EPOCHS, Schedule
from train.step import reconstructs

SMALLEST_BATCH = 2
"""One case has no spread to be normalised by."""


def check_plan(
    name: NetworkName,
    settings: NetworkSettings,
    data: TrainingData,
    schedule: Schedule,
    *,
    processes: int = 1,
) -> None:
    """Refuses a network and a schedule that do not fit each other or the cohort, before the first epoch.

    Args:
        name: which network.
        settings: its size.
        data: the cases.
        schedule: how to train.
        processes: that train together.

    Raises:
        CohortRefused: a fault that needs no voxel, or inputs of another shape.
        RecipeRefused: too few epochs learn the outcome, or a batch of a single case.
        InvalidInput: the network cannot have this size.
    """
    check_records(data)
    if tuple(data.inputs.shape[1:]) != settings.input_shape:
        raise CohortRefused(
            f"inputs have shape {data.inputs.shape[1:]}; {name.value} expects {settings.input_shape}"
        )
    with torch.device("meta"):
        network = build_network(name, settings)
    reconstruction = schedule.reconstruction_epochs if name is NetworkName.NETWORK2 else 0
    if reconstruction > schedule.epochs - SMOOTHING_EPOCHS:
        raise RecipeRefused(
            f"{name.value}: {reconstruction} of {schedule.epochs} epochs only reconstruct; at least {SMOOTHING_EPOCHS} "
            "must learn the outcome, so that a checkpoint can be chosen"
        )
    splits = (Split.TRAINING, Split.UNLABELLED) if reconstructs(network) else (Split.TRAINING,)
    cases = data.rows(*splits).size
    if _smallest_batch(cases, schedule, processes) < SMALLEST_BATCH:
        raise RecipeRefused(
            f"{name.value}: batch_size {schedule.batch_size} deals {cases} cases to {processes} processes in batches of"
            f" fewer than {SMALLEST_BATCH}, over which nothing can be normalised; take fewer processes or batches of 4"
        )


def _smallest_batch(cases: int, schedule: Schedule, processes: int) -> int:
    """Cases of the smallest micro-batch of an epoch, as the sampler deals them."""
    pools = max(1, -(-cases // (schedule.batch_size * schedule.pooled_batches * processes)))
    shares = {pool // processes for pool in (cases // pools, -(-cases // pools))}
    shares |= {-(-pool // processes) for pool in (cases // pools, -(-cases // pools))}
    return min(share // max(1, -(-share // schedule.batch_size)) for share in shares)
