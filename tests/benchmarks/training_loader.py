"""Samples a second of the training loader beside MONAI's PersistentDataset and a loader that decodes NIfTI each epoch.

The same volumes, the same transforms (the paper's augmentation, and none), batches of 8, one
process, one thread, in one run. Needs nibabel for the NIfTI row; that row is left out, saying so, where it is absent.

    python -m tests.benchmarks.training_loader [CASES] [SIDE]
"""

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from train.augment import apply_augmentation, draw_augmentation
from train.prefetch import prefetch
from train.sampler import deal_batches

BATCH = 8
EPOCHS = 3
PROBABILITY = 0.55


def measure(epoch: Callable[[int], Iterator[torch.Tensor]], cases: int) -> float:
    """Returns the best epoch's samples a second of CPU time; a warm-up epoch fills caches first.

    CPU time, of all threads of this process, because the machine may be shared.
    """
    sum(batch.shape[0] for batch in epoch(0))
    best = 0.0
    for number in range(1, EPOCHS + 1):
        started = time.process_time()
        seen = sum(batch.shape[0] for batch in epoch(number))
        best = max(best, seen / (time.process_time() - started))
    return best if cases else 0.0


def ours(path: Path, cases: int, probability: float) -> Callable[[int], Iterator[torch.Tensor]]:
    """The memory-mapped cache, read ahead, augmented in batches."""
    inputs = np.load(path, mmap_mode="r")

    def epoch(number: int) -> Iterator[torch.Tensor]:
        batches = deal_batches(np.arange(cases) % 2, BATCH, 0, number)
        for step, (rows, batch, _wait) in enumerate(prefetch(inputs, batches)):
            generator = torch.Generator().manual_seed(number * 1000 + step)
            batch = batch.float()
            yield (
                apply_augmentation(batch, draw_augmentation(len(rows), probability, generator))
                if probability
                else batch
            )

    return epoch


def monai_persistent(
    folder: Path, volumes: np.ndarray, probability: float
) -> Callable[[int], Iterator[torch.Tensor]]:
    """MONAI's PersistentDataset with its own versions of the same transforms."""
    from monai.data import DataLoader, PersistentDataset
    from monai.transforms import Compose, EnsureType, RandAdjustContrast, RandFlip, RandRotate90, RandZoom

    class Pick:
        def __call__(self, row: int) -> np.ndarray:
            return volumes[row]

    changes = [
        RandAdjustContrast(prob=probability, gamma=(0.5, 4.5)),
        RandRotate90(prob=probability, spatial_axes=(0, 2)),
        RandRotate90(prob=probability, spatial_axes=(0, 1)),
        RandFlip(prob=probability, spatial_axis=0),
        RandZoom(prob=probability, min_zoom=0.9, max_zoom=1.1, mode="trilinear"),
    ]
    transforms = Compose([Pick(), EnsureType(dtype=torch.float32), *(changes if probability else [])])
    dataset = PersistentDataset(list(range(len(volumes))), transforms, cache_dir=folder)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=0)
    return lambda _number: iter(loader)


def main() -> None:
    """Prints one JSON object."""
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    side = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    torch.set_num_threads(1)
    volumes = (
        np.random.default_rng(0).random((cases, 3, side, side, side), dtype=np.float32).astype(np.float16)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npy"
        np.save(path, volumes)
        result: dict[str, float] = {"cases": cases, "side": side}
        for word, probability in (("", PROBABILITY), ("_without_augmentation", 0.0)):
            mine = measure(ours(path, cases, probability), cases)
            theirs = measure(monai_persistent(Path(folder) / f"monai{word}", volumes, probability), cases)
            result |= {f"ours{word}": mine, f"monai_persistent{word}": theirs, f"ratio{word}": mine / theirs}
    if importlib.util.find_spec("nibabel") is None:
        sys.stderr.write(
            "nibabel is not installed: the loader that decodes NIfTI each epoch was not measured\n"
        )
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
