"""Where training happens: which device a person means, and what it is called."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from engines.errors import InvalidInput
from train.errors import DeviceFull

LOCAL_RANK, LOCAL_WORLD_SIZE = "LOCAL_RANK", "LOCAL_WORLD_SIZE"
"""Number of this process on its machine, and of all processes there; the usual launcher (torchrun) sets both."""
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""Without it cuBLAS may add in another order each time (torch, use_deterministic_algorithms)."""
CPU_FACTS = Path("/proc/cpuinfo")


def choose_device(asked: str | None) -> str:
    """Returns the device to train on: ``cpu`` or a numbered GPU.

    Args:
        asked: None takes a GPU when there is one. ``cuda`` is this process's own GPU: the first, or under the launcher the
            one with this process's number. ``cpu`` and ``cuda:1`` are taken as they are.

    Raises:
        InvalidInput: a word that is no device, a GPU that is not there, or one GPU for several processes.
    """
    word = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(word)
    except RuntimeError as error:
        raise InvalidInput(f"--device {word} is not a device; expected cpu, cuda or cuda:NUMBER") from error
    if device.type == "cpu":
        return "cpu"
    if device.type != "cuda":
        raise InvalidInput(f"--device {word}: expected cpu, cuda or cuda:NUMBER")
    if device.index is not None and int(os.environ.get(LOCAL_WORLD_SIZE, "1")) > 1:
        raise InvalidInput(
            f"--device {word} would give every process the same GPU; --device cuda gives each its own"
        )
    count = torch.cuda.device_count()
    number = int(os.environ.get(LOCAL_RANK, "0")) if device.index is None else device.index
    if number >= count:
        raise InvalidInput(f"--device {word} is GPU {number}; torch {torch.__version__} finds {count} here")
    return f"cuda:{number}"


def prepare_device(device: torch.device, *, repeatable: bool) -> None:
    """Makes a GPU this process's own; a CPU needs nothing.

    Args:
        device: to train on.
        repeatable: the same sums in the same order at each run, where torch has such a kernel; it warns where not.
    """
    if device.type != "cuda":
        return
    if device.index is not None:  # plain ``cuda`` is the one that is set already
        torch.cuda.set_device(device)
    os.environ.setdefault(*CUBLAS_WORKSPACE)
    torch.use_deterministic_algorithms(repeatable, warn_only=True)


@contextmanager
def refuse_full_device(work: str) -> Iterator[None]:
    """Names the work that the device's memory did not suffice for.

    Args:
        work: in words, e.g. ``network3: scoring on cuda:0``.

    Raises:
        DeviceFull: torch ran out of the device's memory in the block.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise DeviceFull(f"{work}: {error}") from error


def describe_device(device: str) -> str:
    """Returns the device's name, for a CPU with the number of threads that torch uses."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
    return f"{_name_processor()}, {torch.get_num_threads()} threads"


def _name_processor() -> str:
    """The processor's model where the system tells it."""
    if CPU_FACTS.is_file():
        for line in CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
