"""The state of an interrupted run on disk: one safetensors file, replaced atomically, never a pickle."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engines.case import replaced
from train.errors import CheckpointRefused
from train.identity import compare_runs

HEADER_KEY = "mmf_checkpoint"
DRAFTS = (".draft-*", ".tmp*")
"""What ``engines.case.replaced`` and safetensors call a file that is not yet whole."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """Everything from which a run continues bit for bit at the start of an epoch.

    Attributes:
        run: what identifies the run (network, settings, schedule, seed, cases); another run is refused.
        progress: numbers and words, as JSON.
        tensors: weights, optimiser state, best weights so far, by name.
    """

    run: str
    progress: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replaces the checkpoint file; a kill at any moment leaves the old one or the new one, whole.

    Raises:
        OSError: the disk is full or does not let it be written; the old one stays.
    """
    header = json.dumps({"run": checkpoint.run, "progress": checkpoint.progress}, sort_keys=True)
    tensors = {
        name: tensor.detach().cpu().clone().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    try:
        with replaced(path) as draft:
            save_file(tensors, draft, metadata={HEADER_KEY: header})
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def remove_drafts(folder: Path) -> None:
    """Removes the halves of checkpoints that kills left in a run's folder; at full size each is a gigabyte.

    Args:
        folder: of one run, which no other process writes into now.
    """
    for pattern in DRAFTS:
        for draft in folder.glob(pattern):
            draft.unlink(missing_ok=True)


def read_checkpoint(path: Path, run: str) -> Checkpoint | None:
    """Returns the checkpoint, or None when there is none.

    Args:
        path: the file.
        run: what identifies the run that wants to continue.

    Raises:
        CheckpointRefused: the file is damaged or belongs to another run.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            header = json.loads((file.metadata() or {})[HEADER_KEY])
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise CheckpointRefused(f"{path} is not a checkpoint: {error}") from error
    if header["run"] != run:
        raise CheckpointRefused(f"{path} belongs to another run: {compare_runs(header['run'], run)}")
    return Checkpoint(run=run, progress=header["progress"], tensors=tensors)
