"""What makes two runs the same run: network, schedule, seed, cases, and the arithmetic they are computed with."""

import hashlib
import json
from dataclasses import asdict

import numpy as np
import torch

from engines.networks.settings import NetworkName, NetworkSettings
from train.data import TrainingData
from train.recipes import Schedule


def describe_run(
    name: NetworkName,
    settings: NetworkSettings,
    schedule: Schedule,
    seed: int,
    data: TrainingData,
    *,
    device: str = "cpu",
    processes: int = 1,
) -> str:
    """Returns one line of JSON that two runs share exactly when one may continue the other.

    The voxels themselves enter by a sample of each input, so that naming a run does not read the whole cohort.

    Args:
        name: which network.
        settings: its size.
        schedule: how it is trained.
        seed: of the run.
        data: the cases.
        device: its kind counts, not its number: ``cuda:1`` may continue what ``cuda:0`` began.
        processes: that train together; they decide the batches.
    """
    digest = hashlib.sha256()
    for case_id, key, split in zip(data.case_ids, data.patient_keys, data.splits, strict=True):
        digest.update(f"{case_id}\0{key}\0{split.value}\n".encode())
    for values in (
        data.os.months,
        data.os.event,
        data.pfs.months,
        data.pfs.event,
        data.age_years,
        data.labels,
    ):
        digest.update(np.ascontiguousarray(values, dtype=np.float64).tobytes())
    middle = data.inputs.shape[2] // 2
    digest.update(np.ascontiguousarray(data.inputs[:, :, middle, middle]).tobytes())
    return json.dumps(
        {
            "network": name.value,
            "settings": settings.table(),
            "schedule": asdict(schedule),
            "seed": seed,
            "cases": digest.hexdigest(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": torch.device(device).type,
            "processes": processes,
        },
        sort_keys=True,
    )


def compare_runs(one: str, other: str) -> str:
    """Returns in words what two runs differ in, e.g. ``seed is 0 there, 1 here``.

    Args:
        one: what ``describe_run`` gave there.
        other: what it gave here.
    """
    there, here = _flatten(json.loads(one)), _flatten(json.loads(other))
    keys = [key for key in {**there, **here} if there.get(key) != here.get(key)]
    return ", ".join(
        f"{key} differ" if key == "cases" else f"{key} is {there.get(key)} there, {here.get(key)} here"
        for key in keys
    )


def _flatten(table: object, path: str = "") -> dict[str, object]:
    """Every leaf of a JSON value by its dotted path."""
    if not isinstance(table, dict):
        return {path: table}
    return {
        key: value
        for word, part in table.items()
        for key, value in _flatten(part, f"{path}.{word}" if path else str(word)).items()
    }
