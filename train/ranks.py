"""Several processes that train one network together: who am I, gather rows, add gradients."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

JOIN_TIMEOUT = timedelta(hours=1)
"""The others wait while rank 0 builds a cache or scores a whole cohort (OURS)."""

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """The place of this process among those that train together; alone by default.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the rows of all processes, in the order of their ranks.

        Args:
            rows: (n, ...) of this process; n may differ between processes.
        """
        if self.count == 1:
            return rows
        sizes = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(self.count)]
        distributed.all_gather(sizes, torch.tensor([rows.shape[0]], device=rows.device))
        longest = max(int(size) for size in sizes)
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: rows.shape[0]] = rows
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        distributed.all_gather(parts, padded)
        return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])

    def add_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replaces each gradient by its sum over the processes; an absent gradient counts as zero."""
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replaces each gradient that there is by its mean over the processes.

        For what every process computes alike: a GPU may differ in the last bit, and the weights must never drift apart.
        """
        if self.count == 1:
            return
        for parameter in parameters:
            if parameter.grad is not None:
                distributed.all_reduce(parameter.grad)
                parameter.grad.div_(self.count)

    def agree(self, numbers: Sequence[float], device: torch.device) -> list[float]:
        """Returns rank 0's numbers: what all decide by must be the same to the last bit.

        Args:
            numbers: as many on every process.
            device: that the processes are connected by.
        """
        if self.count == 1:
            return list(numbers)
        told = torch.tensor(numbers, dtype=torch.float64, device=device)
        distributed.broadcast(told, 0)
        agreed: list[float] = told.tolist()
        return agreed

    def first_alone(self, work: Callable[[], Made]) -> Made:
        """Returns what ``work`` gives; rank 0 does it before the others, who then find the files it wrote."""
        if self.count == 1:
            return work()
        if self.rank > 0:
            distributed.barrier()
            return work()
        made = work()
        distributed.barrier()
        return made

    def leave(self) -> None:
        """Ends the group, so that the processes end without a complaint of the launcher."""
        if self.count > 1:
            distributed.destroy_process_group()

    def average_buffers(self, network: torch.nn.Module) -> None:
        """Replaces each floating buffer (running statistics) by its mean over the processes."""
        if self.count == 1:
            return
        for buffer in network.buffers():
            if buffer.is_floating_point():
                distributed.all_reduce(buffer)
                buffer.div_(self.count)


def join_ranks(device: str = "cpu") -> Ranks:
    """Returns this process's place, joining the group when the usual launcher (torchrun) started it.

    The addresses come from the launcher's environment.

    Args:
        device: of this process; gloo connects CPUs, nccl connects GPUs.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks()
    if not distributed.is_initialized():
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
            distributed.init_process_group("nccl", timeout=JOIN_TIMEOUT, device_id=torch.device(device))
        else:
            distributed.init_process_group("gloo", timeout=JOIN_TIMEOUT)
    return Ranks(rank=distributed.get_rank(), count=distributed.get_world_size())
