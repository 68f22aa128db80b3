"""Radiomic features: ours beside stock pyradiomics and flash-radiomics, in one run, on the same synthetic liver.

Each contender runs alone in a process of its own with one thread per library, imports its libraries, measures a small
region first, and is then timed; memory is the growth of its resident peak over what it held before. The ratios count,
not the seconds. flash-radiomics is not a dependency: it takes part where it can be imported, by this interpreter or by
the one that MMF_BENCH_FLASH_PYTHON names.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import SimpleITK as sitk

SEED = 4
"""Synthetic patient whose liver measures about 1.4 L."""

WORKERS = 2
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
FEATURES = dict.fromkeys(("shape", "firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm"))
PYRADIOMICS = {"imageType": {"Original": {}}, "featureClass": FEATURES, "setting": {"binWidth": 25}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One contender's run.

    Attributes:
        cpu_seconds: of the process and its children.
        wall_seconds: elapsed.
        memory_mib: growth of the resident peak.
        values: by name, to compare with the others.
    """

    cpu_seconds: float
    wall_seconds: float
    memory_mib: float
    values: dict[str, float]


def bench_radiomics() -> None:
    """Prints the table of the region, then the table of the study."""
    with tempfile.TemporaryDirectory() as folder:
        region, study = Path(folder) / "region.npz", Path(folder) / "study.npz"
        voxels = write_data(region, study)
        _say(
            f"Radiomic features, 107 a region. Synthetic liver (seed {SEED}), {voxels / 1e6:.2f} M voxels at 1 mm."
        )
        stock = run("stock-region", region)
        ours = run("ours-region", region)
        _say_header("one region, already at 1 mm, one process")
        _say_row("pyradiomics 3.0.1", stock, stock)
        _say_flash(region, stock, ours)
        _say_row("ours", ours, stock)
        _say(f"  largest difference from pyradiomics: {find_largest_difference(ours, stock)}")

        _say_header("a study from native series: 3 phases x (liver + tumour), resampled to 1 mm")
        slow = run("stock-study", study)
        _say_row("pyradiomics 3.0.1, one process", slow, slow)
        _say_row(f"pyradiomics 3.0.1, {WORKERS} processes", run("stock-study-parallel", study), slow)
        _say_row("ours, one process", run("ours-study", study), slow)
        _say_row(f"ours, {WORKERS} processes", run("ours-study-parallel", study), slow)


def write_data(region: Path, study: Path) -> int:
    """Writes the synthetic study and its liver at 1 mm; returns the liver's voxels at 1 mm."""
    from engines.phantom.anatomy import abdomen_grid, draw_anatomy, render_masks, render_phase
    from engines.phantom.traits import PhantomTraits
    from engines.phase import ASSESSED_PHASES
    from engines.radiomics.deformation import read_steps
    from engines.radiomics.grid import place_grid, sample_mask
    from engines.radiomics.sampling import sample_points
    from engines.volume import Volume

    anatomy = draw_anatomy(
        PhantomTraits(seed=SEED, burden=0.5, heterogeneity=0.0, enhancement=0.0, washout=0.0)
    )
    native = abdomen_grid()
    liver, lesions = render_masks(anatomy, native)
    phases = [render_phase(anatomy, phase, native) for phase in ASSESSED_PHASES]
    np.savez(
        study,
        phases=np.stack([phase.array for phase in phases]),
        liver=liver.array.astype(np.uint8),
        tumour=(lesions.array == 1).astype(np.uint8),
        spacing=native.spacing_mm,
        origin=native.origin_mm,
    )
    fine = place_grid([Volume(array=liver.array, grid=native)], (1.0, 1.0, 1.0))
    mask = sample_mask(Volume(array=liver.array.astype(np.uint8), grid=native), fine)
    everywhere = np.arange(mask.array.size)
    identity = read_steps(sitk.Transform(3, sitk.sitkIdentity), fine)
    image = sample_points(phases[1], identity, fine, everywhere).values.reshape(fine.shape)
    np.savez(
        region, image=image.astype(np.int16), mask=mask.array, spacing=fine.spacing_mm, origin=fine.origin_mm
    )
    return int(mask.array.sum())


def run(contender: str, data: Path, python: str = sys.executable) -> Measurement:
    """Returns the measurement of one contender in a fresh process."""
    command = [python, "-m", "tests.benchmarks.radiomics", contender, str(data)]
    done = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{contender} failed:\n{done.stderr[-2000:]}")
    return Measurement(**json.loads(done.stdout.splitlines()[-1]))


def find_largest_difference(ours: Measurement, stock: Measurement) -> str:
    """Returns the feature that differs most from stock pyradiomics, relative to its value, with the difference."""
    apart = {
        name: abs(ours.values[name] - value) / max(abs(value), 1e-300) for name, value in stock.values.items()
    }
    worst = max(apart, key=lambda name: apart[name])
    return f"{apart[worst]:.1e} of the value ({worst})"


def _say_flash(region: Path, stock: Measurement, ours: Measurement) -> None:
    python = os.environ.get("MMF_BENCH_FLASH_PYTHON", sys.executable)
    found = subprocess.run([python, "-c", "import flash_radiomics"], capture_output=True, check=False)
    if found.returncode != 0:
        _say(
            "  flash-radiomics cannot be imported here and is left out; MMF_BENCH_FLASH_PYTHON may name an interpreter"
        )
        return
    flash = run("flash-region", region, python)
    _say_row("flash-radiomics", flash, stock)
    common = set(flash.values) & set(stock.values)
    unequal = sorted(
        name
        for name in common
        if abs(flash.values[name] - stock.values[name]) > 1e-9 * max(abs(stock.values[name]), 1e-9)
    )
    _say(
        f"  flash-radiomics: {len(common)} of {len(stock.values)} features, {len(unequal)} differ by more than 1e-9:"
        f" {', '.join(unequal[:4])}{' ...' if len(unequal) > 4 else ''};"
        f" ours takes {flash.cpu_seconds / ours.cpu_seconds:.1f} x less CPU time"
    )


def _say_header(title: str) -> None:
    _say(f"\n  {title}")
    _say(
        f"  {'':34}{'CPU s':>8}{'wall s':>8}{'MiB':>7}{'CPU ratio':>11}{'wall ratio':>12}{'memory ratio':>14}"
    )


def _say_row(name: str, measured: Measurement, base: Measurement) -> None:
    _say(
        f"  {name:34}{measured.cpu_seconds:8.2f}{measured.wall_seconds:8.2f}{measured.memory_mib:7.0f}"
        f"{base.cpu_seconds / measured.cpu_seconds:11.1f}{base.wall_seconds / measured.wall_seconds:12.1f}"
        f"{measured.memory_mib / base.memory_mib:14.2f}"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _contend(contender: str, data: Path) -> None:
    """Runs one contender on the data and writes its measurement as JSON."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    arrays = dict(np.load(data))
    name, _, rest = contender.partition("-")
    pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("forkserver")) if "parallel" in rest else None
    with pool or nullcontext():
        work = {"stock": _run_stock, "ours": _run_ours, "flash": _run_flash}[name]
        _warm(work, pool)
        before = _reset_peak_mib(pool)
        usage = _cpu_seconds(pool)
        start = time.perf_counter()
        values = work(arrays, pool)
        wall_seconds = time.perf_counter() - start
        cpu_seconds = _cpu_seconds(pool) - usage
        memory_mib = _sum_status_mib("VmHWM", pool) - before
    sys.stdout.write(
        "\n"
        + json.dumps(
            {
                "cpu_seconds": cpu_seconds,
                "wall_seconds": wall_seconds,
                "memory_mib": memory_mib,
                "values": values,
            }
        )
        + "\n"
    )


def _warm(work, pool: Executor | None) -> None:
    """Lets a contender import everything and fill its tables on a region of a few hundred voxels."""
    small = np.zeros((12, 12, 12), np.uint8)
    small[2:10, 2:10, 2:10] = 1
    image = np.random.default_rng(0).integers(0, 200, small.shape).astype(np.int16)
    where = {"spacing": np.array([1.5, 1.0, 1.0]), "origin": np.zeros(3)}
    for _ in range(2 * WORKERS if pool else 1):
        work({"image": image, "mask": small, **where}, None)
        if pool:
            work({"phases": np.stack([image] * 3), "liver": small, "tumour": small, **where}, pool)


def _reset_peak_mib(pool: ProcessPoolExecutor | None) -> float:
    """Forgets the resident peaks so far (proc(5), clear_refs) and returns what is held now."""
    for process in _processes(pool):
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    return _sum_status_mib("VmRSS", pool)


def _sum_status_mib(field: str, pool: ProcessPoolExecutor | None) -> float:
    total = 0.0
    for process in _processes(pool):
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
    return total / 1024


def _cpu_seconds(pool: ProcessPoolExecutor | None) -> float:
    """Returns the CPU seconds of this process and of the pool's living workers."""
    return sum(sum(process.cpu_times()[:2]) for process in _processes(pool))


def _processes(pool: ProcessPoolExecutor | None) -> list[psutil.Process]:
    own = psutil.Process()
    return [own, *own.children(recursive=True)] if pool else [own]


def _image(array: npt.NDArray[np.generic], arrays: dict[str, npt.NDArray[np.generic]]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(length) for length in arrays["spacing"][::-1]])
    image.SetOrigin([float(place) for place in arrays["origin"]])
    return image


def _run_stock(arrays, pool: Executor | None) -> dict[str, float]:
    if "image" in arrays:
        return _extract_stock(arrays["image"], arrays["mask"], arrays["spacing"], arrays["origin"], False)
    jobs = [
        (image, arrays[region], arrays["spacing"], arrays["origin"], True)
        for image in arrays["phases"]
        for region in ("liver", "tumour")
    ]
    columns = list(zip(*jobs, strict=True))
    results = list((pool.map if pool else map)(_extract_stock, *columns))
    return results[0]


def _extract_stock(image, mask, spacing, origin, resampled: bool) -> dict[str, float]:
    import logging
    import warnings

    from radiomics.featureextractor import RadiomicsFeatureExtractor

    warnings.simplefilter("ignore")
    logging.getLogger("radiomics").setLevel(logging.CRITICAL)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    setting = {**PYRADIOMICS["setting"], "additionalInfo": False}
    if resampled:
        setting |= {"resampledPixelSpacing": [1, 1, 1], "interpolator": "sitkBSpline"}
    extractor = RadiomicsFeatureExtractor({**PYRADIOMICS, "setting": setting})
    where = {"spacing": spacing, "origin": origin}
    found = extractor.execute(_image(image, where), _image(mask, where))
    return {name: float(np.real(value)) for name, value in found.items()}


def _run_ours(arrays, pool: Executor | None) -> dict[str, float]:
    from engines.phase import ASSESSED_PHASES
    from engines.radiomics.features import extract_features
    from engines.radiomics.measurement import measure_region
    from engines.radiomics.settings import parse_settings
    from engines.volume import Volume

    if "image" in arrays:
        image, mask = (Volume.of_image(_image(arrays[name], arrays)) for name in ("image", "mask"))
        return dict(measure_region(image, mask, parse_settings(PYRADIOMICS)))
    setting = {**PYRADIOMICS["setting"], "resampledPixelSpacing": [1, 1, 1], "interpolator": "sitkBSpline"}
    settings = parse_settings({**PYRADIOMICS, "setting": setting})
    volumes = {
        phase: Volume.of_image(_image(image, arrays))
        for phase, image in zip(ASSESSED_PHASES, arrays["phases"], strict=True)
    }
    regions = {name: Volume.of_image(_image(arrays[name], arrays)) for name in ("liver", "tumour")}
    table = extract_features(volumes, {}, regions, settings, executor=pool)
    if table.refusals:
        raise RuntimeError(str(table.refusals))
    return {value.name: value.value for value in table.values}


def _run_flash(arrays, pool: Executor | None) -> dict[str, float]:
    import logging

    from flash_radiomics import RadiomicsFeatureExtractor

    logging.disable(logging.CRITICAL)
    extractor = RadiomicsFeatureExtractor(backend="cpu", binWidth=25, additionalInfo=False, num_threads=1)
    extractor.disableAllFeatures()
    for name in FEATURES:
        extractor.enableFeatureClassByName(name)
    # Its `execute` also writes an HDF5 file; this is the same extraction without the file.
    prepared = extractor.preprocess_case(_image(arrays["image"], arrays), _image(arrays["mask"], arrays))
    found = extractor.extract_from_preprocessed(prepared)
    return {name: float(np.real(value)) for name, value in found.items() if np.ndim(value) == 0}


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _contend(sys.argv[1], Path(sys.argv[2]))
    else:
        bench_radiomics()
