"""Several networks and seeds on one cohort: train, score every case, write what later steps and readers need."""

import csv
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from engines.case import replaced, write_json
from engines.networks.heads import LABELS
from engines.networks.settings import NetworkName, NetworkSettings
from engines.networks.weights import round_weights, write_weights
from train.data import Split, TrainingData
from train.device import describe_device, refuse_full_device
from train.feasibility import check_plan
from train.loop import RunOptions, TrainedNetwork, train_network
from train.progress import EpochRecord, Selection
from train.ranks import Ranks
from train.recipes import Schedule
from train.scoring import AuxiliaryQuality, Scores, measure_auxiliary, measure_c, score_cases

REPORTED = (Split.TRAINING, Split.VALIDATION)
"""Splits whose C is reported; the testing cases are scored but not looked at here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One trained network in numbers.

    Attributes:
        network: which.
        seed: of the run.
        parameters: trainable numbers.
        epochs: trained.
        chosen_epoch: of each selection, from 0 as in history.csv.
        c_index: selection -> split -> endpoint -> Harrell's C. The epoch was chosen on the validation cases.
        auxiliary: age and label heads on the validation cases, combined selection; nothing of a network that has not
            learned them.
        seconds: wall time of all epochs.
        data_wait: share of it spent waiting for data.
        device: where it ran.
        hardware: name of the processor or GPU; of a CPU the threads too, on which the last bit depends.
        versions: of Python and torch.
        sha256: of each selection's weights.
    """

    network: str
    seed: int
    parameters: int
    epochs: int
    chosen_epoch: dict[str, int]
    c_index: dict[str, dict[str, dict[str, float]]]
    auxiliary: AuxiliaryQuality
    seconds: float
    data_wait: float
    device: str
    hardware: str
    versions: dict[str, str]
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to train.

    Attributes:
        name: which network.
        settings: its size.
        schedule: how.
        seed: of the run.
        half: round kernels to float16 before they are scored and written, for a model folder that stores halves.
    """

    name: NetworkName
    settings: NetworkSettings
    schedule: Schedule
    seed: int
    half: bool = False


def run_campaign(
    plans: Sequence[Plan],
    data: TrainingData,
    out: Path,
    *,
    device: str,
    ranks: Ranks,
    progress: Callable[[Plan, EpochRecord], None],
) -> list[RunSummary]:
    """Trains every plan and writes its folder; returns the summaries (of rank 0; other ranks write nothing).

    Each ``OUT/NETWORK/seed-N`` gets weights (os, pfs, combined ``.safetensors``), history.csv, scores.csv of every case
    and summary.json. A run that was interrupted continues; a finished one is not trained again but read back.

    Args:
        plans: what to train.
        data: the cohort.
        out: folder of the results.
        device: cpu or cuda.
        ranks: the processes that train together.
        progress: told of each epoch.

    Raises:
        RecipeRefused: a plan does not fit; none is trained then.
        DeviceFull: the device has too little memory to train or to score.
    """
    for plan in plans:
        check_plan(plan.name, plan.settings, data, plan.schedule, processes=ranks.count)
    summaries = []
    for plan in plans:
        folder = out / plan.name.value / f"seed-{plan.seed}"
        folder.mkdir(parents=True, exist_ok=True)

        def tell(record: EpochRecord, plan: Plan = plan) -> None:
            progress(plan, record)

        options = RunOptions(device=device, folder=folder, ranks=ranks, progress=tell)
        trained = train_network(
            plan.name, plan.settings, data, plan.schedule, seed=plan.seed, options=options
        )
        if ranks.rank == 0:
            summaries.append(write_run(folder, trained, data, device, half=plan.half))
    return summaries


def write_run(
    folder: Path, trained: TrainedNetwork, data: TrainingData, device: str, *, half: bool = False
) -> RunSummary:
    """Writes weights, history, scores and summary of one run, and returns the summary.

    Raises:
        DeviceFull: the device has too little memory to score a batch.
    """
    rows = np.arange(data.n)
    sha256: dict[str, str] = {}
    scores: dict[Selection, Scores] = {}
    parameters = 0
    for selection in Selection:
        network = trained.network(selection)
        if half:
            round_weights(network)
        sha256[selection.value] = write_weights(
            folder / f"{selection.value}.safetensors", trained.name, network, half=half
        )
        parameters = sum(parameter.numel() for parameter in network.parameters())
        with refuse_full_device(f"{trained.name.value}: scoring on {device}"):
            scores[selection] = score_cases(network.to(device), data.inputs, rows)
    _write_history(folder / "history.csv", trained.history)
    _write_scores(folder / "scores.csv", scores, data)
    validation = data.rows(Split.VALIDATION)
    seconds = sum(record.seconds for record in trained.history)
    summary = RunSummary(
        network=trained.name.value,
        seed=trained.seed,
        parameters=parameters,
        epochs=len(trained.history),
        chosen_epoch={selection.value: epoch for selection, epoch in trained.chosen_epoch.items()},
        c_index={
            selection.value: {
                split.value: measure_c(_take(scores[selection], data.rows(split)), data, data.rows(split))
                for split in REPORTED
            }
            for selection in Selection
        },
        auxiliary=_judge_auxiliary(trained.name, scores[Selection.COMBINED], data, validation),
        seconds=seconds,
        data_wait=sum(record.data_wait * record.seconds for record in trained.history) / seconds,
        device=device,
        hardware=describe_device(device),
        versions={"python": platform.python_version(), "torch": torch.__version__},
        sha256=sha256,
    )
    write_json(asdict(summary), folder / "summary.json")
    return summary


def _judge_auxiliary(
    name: NetworkName, scores: Scores, data: TrainingData, rows: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> AuxiliaryQuality:
    if name is NetworkName.UNSUPERVISED:  # its age and label heads stay at zero
        return AuxiliaryQuality(age_error_years=None, label_auc=dict.fromkeys(LABELS))
    return measure_auxiliary(_take(scores, rows), data, rows)


def _take(scores: Scores, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Scores:
    return Scores(
        os=scores.os[rows], pfs=scores.pfs[rows], age_years=scores.age_years[rows], labels=scores.labels[rows]
    )


def _write_history(path: Path, history: Sequence[EpochRecord]) -> None:
    tasks = sorted({task for record in history for task in record.losses})
    head: list[object] = [
        "epoch",
        *(f"loss_{task}" for task in tasks),
        "c_os",
        "c_pfs",
        "validation_loss",
        "learning_rate",
    ]
    head += ["seconds", "data_wait", *(f"log_variance_{task}" for task in history[0].log_variances)]
    lines: list[list[object]] = [head]
    for record in history:
        lines.append(
            [
                record.epoch,
                *(record.losses.get(task, "") for task in tasks),
                record.c_index.get("os", ""),
                record.c_index.get("pfs", ""),
                "" if record.validation_loss is None else record.validation_loss,
                record.learning_rate,
                record.seconds,
                record.data_wait,
                *record.log_variances.values(),
            ]
        )
    _write_table(path, lines)


def _write_scores(path: Path, scores: dict[Selection, Scores], data: TrainingData) -> None:
    """One row a case: the OS score of the OS checkpoint, the PFS score of the PFS checkpoint, both of the combined one."""
    lines: list[list[object]] = [["case_id", "split", "os", "pfs", "combined_os", "combined_pfs"]]
    for row in range(data.n):
        lines.append(
            [
                data.case_ids[row],
                data.splits[row].value,
                float(scores[Selection.OS].os[row]),
                float(scores[Selection.PFS].pfs[row]),
                float(scores[Selection.COMBINED].os[row]),
                float(scores[Selection.COMBINED].pfs[row]),
            ]
        )
    _write_table(path, lines)


def _write_table(path: Path, lines: Sequence[Sequence[object]]) -> None:
    with replaced(path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
