"""Regions on which our features are compared with stock pyradiomics, and the comparison itself."""

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from engines.volume import Grid, Volume

SCALES_FILE = Path(__file__).resolve().parent / "golden" / "radiomics_scales.csv"
TOLERANCE = 1e-9
MCC_TOLERANCE = 1e-6  # an eigenvalue of a matrix that is not symmetrical
DIAMETERS = (
    "original_shape_Maximum3DDiameter",
    "original_shape_Maximum2DDiameterSlice",
    "original_shape_Maximum2DDiameterColumn",
    "original_shape_Maximum2DDiameterRow",
)

Case = tuple[str, Volume, Volume]


def grid(shape, spacing_mm=(1.0, 1.0, 1.0)) -> Grid:
    return Grid(shape=tuple(shape), spacing_mm=spacing_mm, origin_mm=(-12.0, 34.5, -56.25))


def soft_tissue(shape, seed, deviation=20.0) -> np.ndarray:
    """Correlated integer noise around the liver's HU."""
    noise = np.random.default_rng(seed).normal(0, 1, shape)
    smooth = ndimage.gaussian_filter(noise, 0.8)
    return np.round(90 + deviation * smooth / smooth.std()).astype(np.int16)


def blob(shape, fill=0.95) -> np.ndarray:
    """A lobed ellipsoid that fills most of the box; every size has the same form."""
    z, y, x = (np.linspace(-1, 1, size) for size in shape)
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    radius = np.sqrt(z**2 + y**2 + x**2) + 0.08 * np.sin(9 * x) * np.cos(7 * y)
    return radius < fill


def awkward_cases() -> Iterator[Case]:
    """Thin, flat, border, scattered and float regions, small enough for stock pyradiomics in milliseconds."""
    shape = (9, 11, 13)
    tissue = soft_tissue(shape, 1)
    plate = np.zeros(shape, np.uint8)
    plate[4, 2:9, 3:11] = 1
    yield (
        "one slice",
        Volume(array=tissue, grid=grid(shape, (5.0, 0.7, 0.7))),
        Volume(array=plate, grid=grid(shape, (5.0, 0.7, 0.7))),
    )
    oblique = np.zeros(shape, np.uint8)
    for k in range(9):
        oblique[k, k, :] = 1
    yield "oblique plate", Volume(array=tissue, grid=grid(shape)), Volume(array=oblique, grid=grid(shape))
    diagonal = np.zeros(shape, np.uint8)
    for k in range(9):
        diagonal[k, k, k] = 1
    anisotropic = grid(shape, (2.5, 0.9765625, 0.9765625))
    yield "diagonal line", Volume(array=tissue, grid=anisotropic), Volume(array=diagonal, grid=anisotropic)
    two = np.zeros(shape, np.uint8)
    two[1, 1, 1] = two[7, 8, 9] = 1
    yield "two voxels apart", Volume(array=tissue, grid=grid(shape)), Volume(array=two, grid=grid(shape))
    ball = blob(shape).astype(np.uint8)
    flat = np.full(shape, 57, np.int16)
    yield "flat", Volume(array=flat, grid=grid(shape)), Volume(array=ball, grid=grid(shape))
    yield (
        "flat, float",
        Volume(array=np.full(shape, 57.3), grid=grid(shape)),
        Volume(array=ball, grid=grid(shape)),
    )
    border = np.ones(shape, np.uint8)
    border[4, 5, 6] = 0
    yield "touches every face", Volume(array=tissue, grid=grid(shape)), Volume(array=border, grid=grid(shape))
    checks = (np.indices(shape).sum(0) % 2).astype(np.uint8)
    yield "checkerboard", Volume(array=tissue, grid=grid(shape)), Volume(array=checks, grid=grid(shape))
    halves = tissue.copy()
    halves[:, :, 6:] += 400
    yield "two plateaus", Volume(array=halves, grid=grid(shape)), Volume(array=ball, grid=grid(shape))
    fraction = (tissue + np.random.default_rng(2).random(shape)).astype(np.float32)
    yield "float32", Volume(array=fraction, grid=grid(shape)), Volume(array=ball, grid=grid(shape))
    wide = np.random.default_rng(3).integers(-850, 850, shape).astype(np.int16)
    yield "many levels", Volume(array=wide, grid=grid(shape)), Volume(array=ball, grid=grid(shape))


def organ_cases(test_data: Path) -> Iterator[Case]:
    """Organs of a real CT as another program drew them (TotalSegmentator's example), 3 mm."""
    folder = test_data / "ct-siemens-j2k"
    image = Volume.of_image(sitk.ReadImage(str(folder / "example_ct_sm.nii.gz")))
    labels = Volume.of_image(sitk.ReadImage(str(folder / "example_seg.nii.gz")))
    for label, count in zip(*np.unique(labels.array, return_counts=True), strict=True):
        if label and count >= 200:
            mask = (labels.array == label).astype(np.uint8)
            yield f"organ {label}", image, Volume(array=mask, grid=labels.grid)


def read_scales() -> dict[str, float]:
    """Median absolute value of each feature over the test regions, by stock pyradiomics."""
    with SCALES_FILE.open() as rows:
        return {row["feature"]: float(row["scale"]) for row in csv.DictReader(rows)}


def find_differences(found: Mapping[str, float], witness: Mapping[str, float]) -> list[str]:
    """What of our values is not stock pyradiomics' value, as sentences; an empty list means equality."""
    scales = read_scales()
    faults = [f"{name} on one side only" for name in set(found) ^ set(witness)]
    for name in set(found) & set(witness):
        ours, theirs = found[name], witness[name]
        if math.isnan(ours) or math.isnan(theirs):
            if math.isnan(ours) != math.isnan(theirs):
                faults.append(f"{name}: {ours} for {theirs}")
            continue
        tolerance = MCC_TOLERANCE if name.endswith("glcm_MCC") else TOLERANCE
        allowed = 0.0 if name in DIAMETERS else tolerance * max(abs(theirs), scales[name])
        if abs(ours - theirs) > allowed:
            faults.append(f"{name}: {ours!r} for {theirs!r}, {abs(ours - theirs):.2e} > {allowed:.2e}")
    return sorted(faults)
