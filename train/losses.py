"""The losses of the networks: Cox partial likelihood, masked auxiliary losses, and their learned weighting."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import nn
from torch.nn import functional

from engines.networks.heads import LABELS, NetworkOutput, age_target
from engines.survival.risk_sets import Ties

LOG_VARIANCE_LIMIT = 5.0
"""The learned log-variances are kept within +- this (method, section 4)."""


class Task(StrEnum):
    """The tasks that a network learns together."""

    OS = "os"
    PFS = "pfs"
    AGE = "age"
    LABELS = "labels"
    RECONSTRUCTION = "reconstruction"


AUXILIARY = (Task.AGE, Task.LABELS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """What is known of n cases; NaN where it is not known.

    Attributes:
        os_months: (n,) months from time zero to death or last contact.
        os_event: (n,) 1 death, 0 censored.
        pfs_months: (n,) months to progression, death or last imaging.
        pfs_event: (n,) 1 progression or death, 0 censored.
        age_years: (n,) years.
        labels: (n, 9) 0 or 1, in the order of ``LABELS``.
    """

    os_months: torch.Tensor
    os_event: torch.Tensor
    pfs_months: torch.Tensor
    pfs_event: torch.Tensor
    age_years: torch.Tensor
    labels: torch.Tensor


SIGNALS = 4 + len(LABELS)
"""Columns of the signals: OS and PFS log-risk, age, nine logits, reconstruction error. They are all the losses read, so a
loss over many micro-batches needs only this small matrix at once."""


def read_signals(output: NetworkOutput, inputs: torch.Tensor) -> torch.Tensor:
    """Returns the (n, 13) float32 (or float64) matrix from which every loss is computed.

    Args:
        output: of a network in training mode.
        inputs: (n, phases, z, y, x) that the autoencoder had to rebuild; the single reconstructed channel is compared
            with each phase.
    """
    n = output.os_log_risk.shape[0]
    if output.reconstruction is None:
        error = output.os_log_risk.new_zeros(n)
    else:
        rebuilt = output.reconstruction.expand(-1, inputs.shape[1], -1, -1, -1)
        error = (rebuilt - inputs).abs().flatten(1).mean(dim=1)
    columns = [output.os_log_risk, output.pfs_log_risk, output.age, *output.labels.unbind(1), error]
    kind = torch.float64 if output.os_log_risk.dtype == torch.float64 else torch.float32
    return torch.stack([column.to(kind) for column in columns], dim=1)


def measure_losses(
    signals: torch.Tensor, targets: Targets, *, reconstructs: bool, ties: Ties = Ties.EFRON
) -> dict[Task, torch.Tensor]:
    """Returns the loss of every task that these cases can speak to; the others are absent.

    A task is dropped whole when no pair of cases is comparable (OS, PFS) or no case has the label (age, labels).

    Args:
        signals: (n, 13) of :func:`read_signals`.
        targets: of the same n cases.
        reconstructs: whether the network rebuilds its input.
        ties: of the Cox losses.
    """
    losses: dict[Task, torch.Tensor] = {}
    for task, column, months, event in (
        (Task.OS, 0, targets.os_months, targets.os_event),
        (Task.PFS, 1, targets.pfs_months, targets.pfs_event),
    ):
        known = torch.isfinite(months) & torch.isfinite(event)
        if has_comparable_pair(months[known], event[known]):
            losses[task] = cox_loss(signals[known, column], months[known], event[known], ties)
    known = torch.isfinite(targets.age_years)
    if bool(known.any()):
        goal = age_target(targets.age_years[known]).to(signals.dtype)
        losses[Task.AGE] = functional.mse_loss(signals[known, 2], goal)
    known = torch.isfinite(targets.labels)
    if bool(known.any()):
        logits = signals[:, 3 : 3 + len(LABELS)]
        goal = targets.labels[known].to(signals.dtype)
        losses[Task.LABELS] = functional.binary_cross_entropy_with_logits(logits[known], goal)
    if reconstructs:
        losses[Task.RECONSTRUCTION] = signals[:, -1].mean()
    return losses


def has_comparable_pair(months: torch.Tensor, event: torch.Tensor) -> bool:
    """Whether some case with an event is known to have had it before another case's time ended.

    Args:
        months: (n,) times.
        event: (n,) 1 event, 0 censored.
    """
    happened = event > 0
    if not bool(happened.any()):
        return False
    first = months[happened].min()
    return bool((months > first).any()) or bool((~happened & (months == first)).any())


def cox_loss(
    log_risk: torch.Tensor, months: torch.Tensor, event: torch.Tensor, ties: Ties = Ties.EFRON
) -> torch.Tensor:
    """Returns the negative log partial likelihood of Cox's model, divided by the number of events.

    The risk set of an event at t holds every case whose time is at least t. Computed in float32 at least, in
    O(n log n), in logarithms throughout; forward and backward are one pass over the sorted cases.

    Args:
        log_risk: (n,) the network's log hazard ratios, finite.
        months: (n,) times > 0.
        event: (n,) 1 event, 0 censored; at least one event.
        ties: Efron's or Breslow's treatment of events at the same time.

    Source: Efron, JASA 1977; Breslow, Biometrics 1974; the value is R's coxph(init, iter.max=0)$loglik / -events.
    """
    kind = torch.float64 if log_risk.dtype == torch.float64 else torch.float32
    risk = log_risk.to(kind)
    with torch.no_grad():
        # autograd through the tie corrections would cost many passes; the analytic gradient costs one
        value, gradient = _value_and_gradient(risk.detach(), months, event > 0, ties)
    slope = (gradient * risk).sum()
    return value + (slope - slope.detach())


def _value_and_gradient(
    log_risk: torch.Tensor, months: torch.Tensor, event: torch.Tensor, ties: Ties
) -> tuple[torch.Tensor, torch.Tensor]:
    order = torch.argsort(months, descending=True)
    time, risk, happened = months[order], log_risk[order], event[order]
    # tie groups are numbered from the latest time; a group's last row closes its risk set
    last = torch.ones_like(happened)
    last[:-1] = time[1:] != time[:-1]
    ends = last.nonzero().squeeze(1)
    group = torch.cumsum(last, 0) - last.long()
    log_set = torch.logcumsumexp(risk, 0)[ends]
    rows = happened.nonzero().squeeze(1)
    of_event = group[rows]
    log_denominator = log_set[of_event]
    fraction = torch.zeros_like(log_denominator)
    if ties is Ties.EFRON:
        deaths = torch.zeros_like(ends).index_add_(0, of_event, torch.ones_like(of_event))
        first = torch.cumsum(deaths, 0) - deaths
        rank = torch.arange(rows.numel(), device=rows.device) - first[of_event]
        fraction = rank.to(risk.dtype) / deaths[of_event]
        share = torch.zeros_like(log_set).index_add_(0, of_event, torch.exp(risk[rows] - log_denominator))
        log_denominator = log_denominator + torch.log1p(-fraction * share[of_event].clamp(max=1.0))
    value = (log_denominator - risk[rows]).sum() / rows.numel()
    infinity = torch.full((ends.numel(),), -torch.inf, dtype=risk.dtype, device=risk.device)
    gradient = _sorted_gradient(risk, rows, group, log_denominator, fraction, infinity)
    return value, torch.empty_like(gradient).scatter_(0, order, gradient / rows.numel())


def _sorted_gradient(
    risk: torch.Tensor,
    rows: torch.Tensor,
    group: torch.Tensor,
    log_denominator: torch.Tensor,
    fraction: torch.Tensor,
    infinity: torch.Tensor,
) -> torch.Tensor:
    """Gradient of the summed loss: each case's share of every risk set it is in, less 1 for its own event."""
    of_event = group[rows]
    # sum over a group's events of 1 / denominator, then over all groups with an earlier or equal time
    by_group = _segment_logsumexp(-log_denominator, of_event, infinity)
    over_earlier = torch.logcumsumexp(by_group.flip(0), 0).flip(0)
    gradient = torch.exp(risk + over_earlier[group])
    gradient[rows] -= 1.0
    tied = fraction > 0
    if bool(tied.any()):
        weighted = torch.log(fraction[tied]) - log_denominator[tied]
        relief = _segment_logsumexp(weighted, of_event[tied], infinity)
        gradient[rows] -= torch.exp(risk[rows] + relief[of_event])
    return gradient


def _segment_logsumexp(values: torch.Tensor, segment: torch.Tensor, empty: torch.Tensor) -> torch.Tensor:
    """Log of the sum of exponentials of each segment; -inf where a segment has no value."""
    top = empty.scatter_reduce(0, segment, values, "amax")
    total = torch.zeros_like(empty).index_add_(0, segment, torch.exp(values - top[segment]))
    return torch.log(total) + torch.where(total > 0, top, 0.0)


class TaskWeights(nn.Module):
    """Learned weights of the tasks: sum over the tasks present of exp(-s) loss + s, s = log of the task's variance.

    Args:
        auxiliary: first ``s`` of the age and the labels; every other task starts at 0.

    Source: Kendall, Gal & Cipolla, CVPR 2018 (homoscedastic task uncertainty; "heteroscedastic" in the supplement).
    """

    def __init__(self, auxiliary: float = 0.0) -> None:
        super().__init__()
        start = [auxiliary if task in AUXILIARY else 0.0 for task in Task]
        self.log_variance = nn.Parameter(torch.tensor(start))

    def forward(self, losses: Mapping[Task, torch.Tensor]) -> torch.Tensor:
        """Returns the weighted sum; a task that is absent contributes nothing, its ``s`` included."""
        clamped = self.log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)
        total = self.log_variance.new_zeros(())
        for index, task in enumerate(Task):
            if task in losses:
                total = total + torch.exp(-clamped[index]) * losses[task] + clamped[index]
        return total

    def table(self) -> dict[str, float]:
        """Returns each task's log-variance."""
        return dict(zip([task.value for task in Task], self.log_variance.tolist(), strict=True))


def l1_penalty(network: nn.Module) -> torch.Tensor:
    """Returns the sum of the absolute values of all matrices and kernels (no biases, no normalisations)."""
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    return torch.stack([weight.abs().sum() for weight in weights]).sum()
