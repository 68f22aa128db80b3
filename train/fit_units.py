"""Trains the units of a fit side by side, and reads back what their networks say; a finished network is never trained again."""

import csv
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.case import hash_file, replaced, write_json
from engines.endpoint import Endpoint
from engines.networks.settings import ENSEMBLE, NetworkName
from train.campaign import Plan, run_campaign
from train.data import TrainingData
from train.errors import FitRefused, TrainingStopped
from train.fit_cohort import FitCohort
from train.fit_folder import FitFolder
from train.fit_plan import CPU_THREADS, FitPlan, Unit
from train.loop import CHECKPOINT_NAME
from train.progress import EpochRecord
from train.ranks import Ranks

FloatArray = npt.NDArray[np.float64]

PLAN_FILE = "plan.json"
SUMMARY = "summary.json"

_HEADS = {Endpoint.OS: "os", Endpoint.PFS: "pfs"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunTask:
    """One network of one unit and seed, as it travels to the process that trains it.

    Attributes:
        unit: name of the unit.
        plan: of the network.
        data: the cohort as the unit sees it; without inputs where they are mapped from ``inputs_file``.
        inputs_file: the cache of inputs, .npy, that the process maps itself; None where the inputs travel.
        folder: of the unit.
        device: where to train.
    """

    unit: str
    plan: Plan
    data: TrainingData
    inputs_file: Path | None
    folder: Path
    device: str

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.folder / self.plan.name.value / f"seed-{self.plan.seed}"

    @property
    def title(self) -> str:
        """The run in words."""
        return f"{self.unit} {self.plan.name.value} seed {self.plan.seed}"


def train_units(
    cohort: FitCohort,
    plan: FitPlan,
    units: Sequence[Unit],
    paths: FitFolder,
    *,
    executor: Executor | None = None,
    tell: Callable[[str], None],
) -> None:
    """Trains every network of every unit that is not finished yet.

    Networks are trained on one thread each when on a CPU, so that ``executor`` changes no weight.

    Args:
        cohort: the cohort.
        plan: how.
        units: what.
        paths: where; ``claim_folder`` comes first.
        executor: of processes; None trains in turn in this one.
        tell: is told in a line of each network that is finished.

    Raises:
        TrainingStopped: a value was not finite, or a process died.
    """
    tasks = [task for unit in units for task in list_tasks(cohort, plan, unit, paths)]
    open_tasks = [task for task in tasks if not is_finished(task.run)]
    if len(open_tasks) < len(tasks):
        tell(f"{len(tasks) - len(open_tasks)} of {len(tasks)} networks are finished and read back")
    if executor is None:
        for place, task in enumerate(open_tasks, start=1):
            run_task(task)
            tell(f"{task.title} finished ({place} of {len(open_tasks)})")
        return
    futures = {executor.submit(run_task, task): task for task in open_tasks}
    _gather(futures, tell)


def list_tasks(cohort: FitCohort, plan: FitPlan, unit: Unit, paths: FitFolder) -> list[RunTask]:
    """Returns the networks of a unit, each as it travels to the process that trains it."""
    data = unit.data(cohort)
    mapped = data.inputs.filename if isinstance(data.inputs, np.memmap) else None
    inputs_file = None if mapped is None else Path(mapped)
    if inputs_file is not None:
        data = replace(data, inputs=np.empty((0,), dtype=np.float16))
    return [
        RunTask(
            unit=unit.name,
            plan=_network_plan(plan, name, seed),
            data=data,
            inputs_file=inputs_file,
            folder=paths.unit(unit.name),
            device=plan.device,
        )
        for name in ENSEMBLE
        for seed in unit.seeds
    ]


def claim_folder(paths: FitFolder, digest: str) -> None:
    """Marks the folder as one plan's, or refuses it as another's.

    Raises:
        FitRefused: units of another plan or cohort lie there.
    """
    path = paths.networks / PLAN_FILE
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8")).get("plan")
        if found != digest:
            raise FitRefused(
                f"{paths.root} holds networks of another plan or cohort ({str(found)[:12]}, this is {digest[:12]});"
                " what was trained on other cases is never mixed in: choose another --out"
            )
        return
    if paths.networks.is_dir() and any(paths.networks.iterdir()):
        raise FitRefused(f"{paths.networks} holds something that is no fit; choose another --out")
    write_json({"plan": digest}, path)


def run_task(task: RunTask) -> None:
    """Trains one network; the top-level function that a process calls."""
    import torch

    if task.device.startswith("cpu"):
        torch.set_num_threads(CPU_THREADS)
    data = task.data
    if task.inputs_file is not None:
        data = replace(data, inputs=np.load(task.inputs_file, mmap_mode="r", allow_pickle=False))

    def tell(plan: Plan, record: EpochRecord) -> None:
        words = " ".join(f"C_{endpoint} {value:.3f}" for endpoint, value in record.c_index.items())
        sys.stderr.write(
            f"{task.title} epoch {record.epoch + 1}/{plan.schedule.epochs} {words} {record.seconds:.1f} s,"
            f" {record.remaining_seconds / 60:.1f} min left\n"
        )

    run_campaign([task.plan], data, task.folder, device=task.device, ranks=Ranks(), progress=tell)
    (task.run / CHECKPOINT_NAME).unlink(missing_ok=True)  # a finished run is read back from its weights


def is_finished(run: Path) -> bool:
    """Whether a run is complete: its summary is there and its weights are those the summary names."""
    path = run / SUMMARY
    if not path.is_file():
        return False
    named = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    return (run / "scores.csv").is_file() and all(
        (run / f"{word}.safetensors").is_file() and hash_file(run / f"{word}.safetensors") == sha256
        for word, sha256 in named.items()
    )


def read_log_risks(
    paths: FitFolder, unit: str, seed: int, case_ids: Sequence[str]
) -> dict[Endpoint, FloatArray]:
    """Returns what the networks of a unit say of every case: (n, networks) by endpoint, each from its own checkpoint.

    Raises:
        FitRefused: scores are missing, or of other cases.
    """
    columns: dict[Endpoint, list[list[float]]] = {endpoint: [] for endpoint in Endpoint}
    for name in ENSEMBLE:
        path = paths.run(unit, name, seed) / "scores.csv"
        rows = _read_scores(path)
        if [row["case_id"] for row in rows] != list(case_ids):
            raise FitRefused(f"{path} scores other cases than the cohort holds")
        for endpoint, head in _HEADS.items():
            columns[endpoint].append([float(row[head]) for row in rows])
    return {endpoint: np.column_stack(parts) for endpoint, parts in columns.items()}


def measure_seconds(paths: FitFolder, units: Sequence[Unit]) -> float:
    """Returns the wall time of all networks of a fit, whenever they were trained."""
    total = 0.0
    for unit in units:
        for name in ENSEMBLE:
            for seed in unit.seeds:
                path = paths.run(unit.name, name, seed) / SUMMARY
                total += float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    return total


def write_rows(path: Path, rows: Sequence[Sequence[object]]) -> None:
    """Writes a CSV table atomically, UTF-8, floats unrounded."""
    with replaced(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _network_plan(plan: FitPlan, name: NetworkName, seed: int) -> Plan:
    settings, schedule = plan.network(name)
    return Plan(name=name, settings=settings, schedule=schedule, seed=seed, half=plan.half)


def _gather(futures: Mapping["Future[None]", RunTask], tell: Callable[[str], None]) -> None:
    """Waits for all; the first fault stops those that have not begun."""
    try:
        for place, future in enumerate(as_completed(futures), start=1):
            future.result()
            tell(f"{futures[future].title} finished ({place} of {len(futures)})")
    except (BrokenProcessPool, CancelledError) as error:
        raise TrainingStopped(
            f"a training process ended by itself ({error}); most often the memory was too small. Run again with fewer"
            " --processes: finished networks are kept"
        ) from error
    finally:
        for future in futures:
            future.cancel()


def _read_scores(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        raise FitRefused(f"{path} cannot be read: {error}; run `mmf-train fit` again") from error
