"""Several processes that train one network together: who am I, gather rows, add gradients."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

JOIN_TIMEOUT = timedelta(minutes=10)


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
        backend = "gloo"
        if device.startswith("cuda"):
            backend = "nccl"
            torch.cuda.set_device(device)
        distributed.init_process_group(backend, timeout=JOIN_TIMEOUT)
    return Ranks(rank=distributed.get_rank(), count=distributed.get_world_size())
