"""Samples a second of the training loader beside MONAI's PersistentDataset and a loader that decodes NIfTI each epoch.

The same synthetic volumes, the same transforms (the paper's augmentation, and none), batches of 8, one thread, in one
run; the loaders take turns, the best epoch of each counts. The NIfTI files hold Hounsfield units at the size of the
network input, one file a phase, gzip: less to decode than a whole scan.

    python -m tests.benchmarks.training_loader [CASES] [SIDE]
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from monai.data import DataLoader, Dataset, PersistentDataset
from monai.transforms import (
    Compose,
    EnsureType,
    RandAdjustContrast,
    RandAxisFlip,
    RandRotate90,
    RandZoom,
    Transform,
)

from train.augment import apply_augmentation, draw_augmentation
from train.prefetch import prefetch
from train.sampler import deal_batches

BATCH = 8
EPOCHS = 5
PROBABILITY = 0.55
WINDOW_HU = (-100, 240)
NOISE_HU = 10

Loader = Callable[[int], Iterator[torch.Tensor]]


def measure(loaders: dict[str, Loader]) -> dict[str, float]:
    """Returns each loader's samples a second of CPU time; a warm-up epoch fills caches first.

    CPU time, of all threads of this process, because the machine may be shared.
    """
    for epoch in loaders.values():
        sum(batch.shape[0] for batch in epoch(0))
    best = dict.fromkeys(loaders, 0.0)
    for number in range(1, EPOCHS + 1):
        for word, epoch in loaders.items():
            started = time.process_time()
            seen = sum(batch.shape[0] for batch in epoch(number))
            best[word] = max(best[word], seen / (time.process_time() - started))
    return best


def ours(path: Path, cases: int, probability: float) -> Loader:
    """The memory-mapped cache, read ahead, augmented."""
    inputs = np.load(path, mmap_mode="r")
    memory = torch.empty((BATCH, *inputs.shape[1:]))

    def epoch(number: int) -> Iterator[torch.Tensor]:
        batches = deal_batches(np.arange(cases) % 2, BATCH, 0, number)
        for step, (rows, batch, _wait) in enumerate(prefetch(inputs, batches)):
            generator = torch.Generator().manual_seed(number * 1000 + step)
            drawn = draw_augmentation(len(rows), probability, generator)
            yield apply_augmentation(batch, drawn, memory)

    return epoch


def changes(probability: float) -> list[object]:
    """MONAI's versions of the same transforms."""

    if probability == 0:
        return []
    return [
        RandAdjustContrast(prob=probability, gamma=(0.5, 4.5)),
        RandRotate90(prob=probability, spatial_axes=(0, 2)),
        RandRotate90(prob=probability, spatial_axes=(0, 1)),
        RandAxisFlip(prob=probability),
        RandZoom(prob=probability, min_zoom=0.9, max_zoom=1.1, mode="trilinear"),
    ]


def monai_persistent(
    folder: Path, read: Callable[[int], np.ndarray], cases: int, probability: float
) -> Loader:
    """MONAI's PersistentDataset: decodes once, keeps a tensor file a case, changes it at each access."""

    transforms = Compose([Decode(read), EnsureType(dtype=torch.float32), *changes(probability)])
    dataset = PersistentDataset(list(range(cases)), transforms, cache_dir=folder)
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=0)
    return lambda _number: iter(loader)


def nifti(read: Callable[[int], np.ndarray], cases: int, probability: float) -> Loader:
    """A plain MONAI dataset: decodes three NIfTI files a case at each access."""

    transforms = Compose([Decode(read), EnsureType(dtype=torch.float32), *changes(probability)])
    loader = DataLoader(
        Dataset(list(range(cases)), transforms), batch_size=BATCH, shuffle=True, num_workers=0
    )
    return lambda _number: iter(loader)


class Decode(Transform):
    """The first transform: the arrays of a case. PersistentDataset keeps what comes before the first random one."""

    def __init__(self, read: Callable[[int], np.ndarray]) -> None:
        self.read = read

    def __call__(self, case: int) -> np.ndarray:
        return self.read(case)


def write_volumes(folder: Path, cases: int, side: int) -> Callable[[int], np.ndarray]:
    """Writes NIfTI files of smooth synthetic tissue with noise, and returns what decodes a case, 0 to 1."""
    low, high = WINDOW_HU
    random = np.random.default_rng(0)
    for case in range(cases):
        for phase in range(3):
            tissue = torch.from_numpy(random.uniform(low, high, (1, 1, 6, 6, 6)))
            smooth = torch.nn.functional.interpolate(tissue, size=(side,) * 3, mode="trilinear")[0, 0].numpy()
            hounsfield = np.rint(smooth + random.normal(0, NOISE_HU, smooth.shape)).astype(np.int16)
            image = sitk.GetImageFromArray(hounsfield)
            sitk.WriteImage(image, str(folder / f"{case}-{phase}.nii.gz"), useCompression=True)

    def read(case: int) -> np.ndarray:
        phases = [
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{case}-{phase}.nii.gz")))
            for phase in range(3)
        ]
        hounsfield = np.stack(phases).astype(np.float32)
        return (np.clip(hounsfield, low, high) - low) / np.float32(high - low)

    return read


def main() -> None:
    """Prints one JSON object."""
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 32
    side = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    torch.set_num_threads(1)
    result: dict[str, float] = {"cases": cases, "side": side}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        read = write_volumes(folder, cases, side)
        np.save(folder / "inputs.npy", np.stack([read(case).astype(np.float16) for case in range(cases)]))
        for word, probability in (("", PROBABILITY), ("_without_augmentation", 0.0)):
            found = measure(
                {
                    "ours": ours(folder / "inputs.npy", cases, probability),
                    "monai_persistent": monai_persistent(folder / f"monai{word}", read, cases, probability),
                    "nifti": nifti(read, cases, probability),
                }
            )
            result |= {f"{loader}{word}": round(speed, 1) for loader, speed in found.items()}
            for peer in ("monai_persistent", "nifti"):
                result[f"times_{peer}{word}"] = round(found["ours"] / found[peer], 2)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
