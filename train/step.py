"""One optimisation step over a pool of micro-batches whose cases share one risk set."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from engines.networks.heads import RiskNetwork
from train.losses import Targets, Task, TaskWeights, l1_penalty, measure_losses, read_signals
from train.ranks import Ranks
from train.recipes import Precision, Schedule

NUMBER_OF_TARGETS = 5
"""Columns of a target matrix before the labels: OS months and event, PFS months and event, age."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MicroBatch:
    """Cases that go through the network at once.

    Attributes:
        inputs: returns the (augmented) inputs (n, phases, side, side, side), the same at each call.
        targets: of these cases.
        seed: decides dropout; the same at each pass.
    """

    inputs: Callable[[], torch.Tensor]
    targets: Targets
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StepResult:
    """What one step saw.

    Attributes:
        losses: of every task that took part, unweighted.
        total: the weighted sum with the penalty, that was minimised.
        signals: (n, 13) of this process's cases, detached.
    """

    losses: dict[Task, float]
    total: float
    signals: torch.Tensor


def compute_gradients(
    network: RiskNetwork,
    weights: TaskWeights,
    pool: Sequence[MicroBatch],
    schedule: Schedule,
    ranks: Ranks,
    *,
    reconstruction_only: bool = False,
) -> StepResult:
    """Fills the gradients of the network and of the task weights with those of one loss over the whole pool.

    With more than one micro-batch, each goes through the network twice: once to know what all cases say, once to send
    the gradient of the pooled loss back (gradient caching; the memory is that of one micro-batch). Dropout is the same
    in both passes; running statistics are updated once. Over several processes the pool is theirs together.

    Args:
        network: in training mode; its gradients are overwritten.
        weights: the task weights; their gradients are overwritten.
        pool: this process's micro-batches, at least one.
        schedule: ties, penalty and precision.
        ranks: the processes that share the pool.
        reconstruction_only: learn to rebuild the input alone.

    Source: Gao et al., gradient caching, RepL4NLP 2021.
    """
    for parameter in (*network.parameters(), *weights.parameters()):
        parameter.grad = None
    once = len(pool) == 1
    if once:
        kept = [_forward(network, pool[0], schedule)]
    else:
        with torch.no_grad(), _same_statistics(network):
            kept = [_forward(network, part, schedule) for part in pool]
    own = torch.cat([signals.detach() for signals in kept])
    signals = ranks.gather_rows(own).requires_grad_()
    targets = _gather_targets([part.targets for part in pool], ranks)
    losses = measure_losses(signals, targets, reconstructs=reconstructs(network), ties=schedule.ties)
    if reconstruction_only:
        losses = {Task.RECONSTRUCTION: losses[Task.RECONSTRUCTION]}
    total: torch.Tensor = weights(losses)
    if losses:
        torch.autograd.backward(total)
    slope = torch.zeros_like(signals) if signals.grad is None else signals.grad
    offset = _rows_before(own, ranks)
    for index, part in enumerate(pool):
        said = kept[0] if once else _forward(network, part, schedule)
        torch.autograd.backward(said, slope[offset : offset + said.shape[0]].to(said.dtype))
        offset += said.shape[0]
        if index == 0 and ranks.rank == 0 and schedule.l1 > 0:
            penalty: torch.Tensor = schedule.l1 * l1_penalty(network)
            torch.autograd.backward(penalty)
            total = total.detach() + penalty.detach()
    ranks.add_gradients(network.parameters())
    ranks.average_gradients(weights.parameters())
    return StepResult(
        losses={task: float(loss.detach()) for task, loss in losses.items()},
        total=float(total.detach()),
        signals=own,
    )


def _forward(network: RiskNetwork, part: MicroBatch, schedule: Schedule) -> torch.Tensor:
    inputs = part.inputs()
    half = schedule.precision is Precision.BF16 and inputs.device.type == "cuda"
    torch.manual_seed(part.seed)
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=half):
        output = network(inputs)
    return read_signals(output, inputs)


def reconstructs(network: nn.Module) -> bool:
    """Returns whether a network also rebuilds its input."""
    return getattr(network, "autoencoder", None) is not None


@contextmanager
def _same_statistics(network: nn.Module) -> Iterator[None]:
    """Puts the running statistics back as they were when the block ends."""
    saved = [(buffer, buffer.clone()) for buffer in network.buffers()]
    yield
    for buffer, before in saved:
        buffer.copy_(before)


def _rows_before(own: torch.Tensor, ranks: Ranks) -> int:
    """Row of this process's first case among the gathered ones."""
    if ranks.count == 1:
        return 0
    sizes = ranks.gather_rows(torch.tensor([[own.shape[0]]], device=own.device)).flatten()
    return int(sizes[: ranks.rank].sum())


def _gather_targets(parts: Sequence[Targets], ranks: Ranks) -> Targets:
    """The targets of the whole pool."""
    matrices = [
        torch.cat(
            [
                torch.stack(
                    [part.os_months, part.os_event, part.pfs_months, part.pfs_event, part.age_years], dim=1
                ),
                part.labels,
            ],
            dim=1,
        )
        for part in parts
    ]
    matrix = ranks.gather_rows(torch.cat(matrices))
    return Targets(
        os_months=matrix[:, 0],
        os_event=matrix[:, 1],
        pfs_months=matrix[:, 2],
        pfs_event=matrix[:, 3],
        age_years=matrix[:, 4],
        labels=matrix[:, NUMBER_OF_TARGETS:],
    )
