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
    name: NetworkName, settings: NetworkSettings, schedule: Schedule, seed: int, data: TrainingData
) -> str:
    """Returns one line of JSON that two runs share exactly when one may continue the other.

    The voxels themselves enter by a sample of each input, so that naming a run does not read the whole cohort.
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
        },
        sort_keys=True,
    )
