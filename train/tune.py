"""Searches hyper-parameters at random on the validation cases and keeps a log of every trial."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from engines.case import replaced
from engines.networks.settings import NetworkName, NetworkSettings
from train.data import TrainingData
from train.errors import CheckpointRefused, DeviceFull, TrainingStopped
from train.identity import describe_run
from train.loop import RunOptions, train_network
from train.progress import Selection, smoothed_c
from train.recipes import Schedule

LEARNING_RATE = (1e-5, 3e-3)
L1 = (1e-8, 1e-4)
DROPOUT = (0.0, 0.5)
AUGMENTATION = (0.0, 0.6)
BATCH_SIZES = (8, 16, 32)
"""The space of the search (OURS; the supplement says only that hyper-parameters were tuned on the validation cohort)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One tried set of hyper-parameters.

    Attributes:
        number: from 0; trial 0 is the recipe unchanged.
        learning_rate: of Adam.
        l1: penalty.
        dropout: None is the network's own.
        augmentation: probability of each change.
        batch_size: cases.
        c_index: best five-epoch mean of the mean OS and PFS validation C; None when training stopped.
        stopped: why it stopped, or empty.
    """

    number: int
    learning_rate: float
    l1: float
    dropout: float | None
    augmentation: float
    batch_size: int
    c_index: float | None
    stopped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is searched.

    Attributes:
        name: which network.
        settings: its size.
        schedule: the recipe's; trial 0.
        trials: how many.
        seed: of the draws and of every training.
    """

    name: NetworkName
    settings: NetworkSettings
    schedule: Schedule
    trials: int
    seed: int


def tune_network(
    search: Search, data: TrainingData, log: Path, *, device: str, progress: Callable[[Trial], None]
) -> list[Trial]:
    """Returns the trials, best first; each is written to the log when it ends, and a later call continues the log.

    The best of many trials is optimistic on the cases it was chosen on: no C of this search supports a claim.

    Args:
        search: what to try.
        data: training and validation cases; testing cases are never read.
        log: JSON lines: a head that names the search, then one line a trial.
        device: cpu or cuda.
        progress: told of each trial.

    Raises:
        CheckpointRefused: the log belongs to another search.
    """
    head = json.dumps(
        {
            "search": describe_run(
                search.name, search.settings, search.schedule, search.seed, data, device=device
            )
        },
        sort_keys=True,
    )
    done = _read_log(log, head)
    for number in range(len(done), search.trials):
        trial = _try(draw_trial(search, number), search, data, device)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(trial)) + "\n")
        done.append(trial)
        progress(trial)
    return sorted(done[: search.trials], key=lambda trial: (-(trial.c_index or 0.0), trial.number))


def draw_trial(search: Search, number: int) -> Trial:
    """Returns the hyper-parameters of a trial; they depend on the search's seed and the number alone."""
    start = search.schedule
    if number == 0:
        return Trial(
            number=0,
            learning_rate=start.learning_rate,
            l1=start.l1,
            dropout=search.settings.dropout,
            augmentation=start.augmentation,
            batch_size=start.batch_size,
            c_index=None,
        )
    random = np.random.default_rng((search.seed, number))
    return Trial(
        number=number,
        learning_rate=math.exp(random.uniform(*np.log(LEARNING_RATE))),
        l1=math.exp(random.uniform(*np.log(L1))),
        dropout=random.uniform(*DROPOUT),
        augmentation=random.uniform(*AUGMENTATION),
        batch_size=int(random.choice(BATCH_SIZES)),
        c_index=None,
    )


def _try(trial: Trial, search: Search, data: TrainingData, device: str) -> Trial:
    schedule = replace(
        search.schedule,
        learning_rate=trial.learning_rate,
        l1=trial.l1,
        augmentation=trial.augmentation,
        batch_size=trial.batch_size,
    )
    settings = replace(search.settings, dropout=trial.dropout)
    options = RunOptions(device=device)
    try:
        trained = train_network(search.name, settings, data, schedule, seed=search.seed, options=options)
    except (TrainingStopped, DeviceFull) as error:
        return replace(trial, stopped=str(error))
    first = max(schedule.warm_up_epochs, schedule.reconstruction_epochs)
    smoothed = [
        smoothed_c(trained.history[: epoch + 1], Selection.COMBINED, first)
        for epoch in range(schedule.epochs)
    ]
    return replace(trial, c_index=max(value for value in smoothed if value is not None))


def _read_log(log: Path, head: str) -> list[Trial]:
    """The trials of an earlier call; starts the log when there is none."""
    if not log.exists():
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(head + "\n", encoding="utf-8")
        return []
    text = log.read_text(encoding="utf-8")
    whole = text[
        : text.rfind("\n") + 1
    ]  # a kill while a line was written leaves a part of it: that trial runs again
    if whole != text:
        with replaced(log) as draft:
            draft.write_text(whole, encoding="utf-8")
    lines = whole.splitlines()
    if not lines or lines[0] != head:
        raise CheckpointRefused(f"{log} is the log of another search; choose another file or delete it")
    return [Trial(**json.loads(line)) for line in lines[1:]]
