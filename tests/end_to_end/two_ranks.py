"""Run by the usual launcher in two processes: each computes its half of a pool and writes the summed gradients.

Also trains a miniature for a few epochs and writes each rank's final weights, which must agree.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from engines.networks.registry import build_network
from engines.networks.settings import ENSEMBLE, NetworkName, read_settings
from tests.training_cohort import make_cohort
from train.loop import RunOptions, train_network
from train.losses import TaskWeights
from train.progress import Selection
from train.ranks import Ranks, join_ranks
from train.recipes import Schedule
from train.step import MicroBatch, compute_gradients

TINY = read_settings({"side": 16, "width": 0.125, "depth": 0.1, "dropout": 0.0, "norm_momentum": 0.2})
SCHEDULE = Schedule(epochs=5, warm_up_epochs=0, batch_size=4, learning_rate=1e-3, augmentation=0.3, l1=1e-4)
POOL = 9
"""Cases of the pool: an odd number, so that the ranks hold 5 and 4."""


def compute(name: NetworkName, ranks: Ranks) -> dict[str, torch.Tensor]:
    """Returns the gradient of the pooled loss that this rank ends up with."""
    side = 32 if name is NetworkName.NETWORK2 else 16
    data, _, _ = make_cohort(16, side=side)
    torch.manual_seed(0)
    settings = replace(TINY, side=side, width=0.04 if side == 32 else TINY.width)
    network = build_network(name, settings).double().eval()
    network.training = (
        True  # the network alone, so that Network 2 reconstructs; norms stay in evaluation mode
    )
    weights = TaskWeights().double()
    rows = np.array_split(np.arange(POOL), ranks.count)[ranks.rank]
    pool = [
        MicroBatch(
            inputs=lambda part=part: torch.from_numpy(data.inputs[part].astype(np.float64)),
            targets=data.targets(part, torch.device("cpu")),
            seed=0,
        )
        for part in np.array_split(rows, 2)
    ]
    compute_gradients(network, weights, pool, SCHEDULE, ranks)
    gradients = {key: parameter.grad for key, parameter in network.named_parameters()}
    return gradients | {"log_variance": weights.log_variance.grad}


def main() -> None:
    """Writes rank-N.safetensors (gradient and final weights) into the folder named on the command line."""
    torch.set_num_threads(1)
    ranks = join_ranks()
    tensors = {
        f"gradient.{name.value}.{key}": gradient.clone()
        for name in ENSEMBLE
        for key, gradient in compute(name, ranks).items()
    }
    data, _, _ = make_cohort(12, side=16)
    trained = train_network(
        NetworkName.NETWORK1, replace(TINY, dropout=0.1), data, SCHEDULE, options=RunOptions(ranks=ranks)
    )
    tensors |= {
        f"weights.{key}": tensor.clone() for key, tensor in trained.states[Selection.COMBINED].items()
    }
    save_file(tensors, Path(sys.argv[1]) / f"rank-{ranks.rank}.safetensors")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
