"""``mmf-train demo-models``: trains the demonstration models on phantoms and writes their model folder."""

import shutil
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import InvalidInput
from engines.models.card import ModelCard, read_card
from engines.models.store import CARD, MANIFEST
from train.cli import log_to_standard_error

Out = Annotated[
    Path, typer.Option("--out", help="Folder of the model; an earlier demonstration model there is replaced.")
]
Patients = Annotated[int, typer.Option("--patients", min=40, help="Synthetic training patients.")]
Testing = Annotated[
    int, typer.Option("--testing", min=20, help="Other synthetic patients the model is measured on.")
]
Folds = Annotated[int, typer.Option("--folds", min=2, help="Folds of the out-of-fold scores.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=5, help="Epochs instead of the recipe's.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the phantoms, the folds and the networks.")]
Version = Annotated[str, typer.Option("--version", help="Version of the model.")]

Processes = Annotated[
    int,
    typer.Option("--processes", min=1, max=16, help="Phantoms and fits that run side by side, 1 GB each."),
]

KeptFit = Annotated[
    Path | None,
    typer.Option("--fit", help="Keep phantoms and fit in this folder; what was interrupted continues there."),
]


def demo_models(
    out: Out,
    patients: Patients = 480,
    testing: Testing = 200,
    folds: Folds = 3,
    epochs: Epochs = None,
    seed: Seed = 2026,
    version: Version = "demo-3",
    processes: Processes = 1,
    fit: KeptFit = None,
) -> None:
    """Trains miniatures of the three networks, Ensemble-DL and MMF on phantoms. Their numbers have no clinical meaning."""
    from engines.network_input import Preprocessing
    from train.demo_models import DemoPlan, render_cohort, train_demo_model

    refuse_other_content(out)
    plan = DemoPlan(
        patients=patients, testing=testing, folds=folds, epochs=epochs, seed=seed, version=version
    )
    preprocessing = Preprocessing(side=32)
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    with _processes(processes) as executor:
        typer.echo(f"rendering {patients} + {testing} phantoms", err=True)
        training = render_cohort(patients, seed, preprocessing, executor, fit)
        others = render_cohort(testing, seed + 1, preprocessing, executor, fit)
        typer.echo(f"training 3 networks {folds + 1} times, then everything that stands on them", err=True)
        model = train_demo_model(
            draft, plan, training, others, created=datetime.now(UTC), fit_folder=fit, executor=executor
        )
    shutil.rmtree(out, ignore_errors=True)
    draft.rename(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    typer.echo(f"{out}: {model.card.name} {version}, {size / 1e6:.1f} MB, SHA-256 {model.sha256}")
    for line in describe_concordance(model.card):
        typer.echo(line)


def describe_concordance(card: ModelCard) -> list[str]:
    """Returns one line for each C-index of a card."""
    return [
        f"  {entry.endpoint:<4}{entry.model:<12} C {entry.value:.3f}"
        + ("" if entry.low is None or entry.high is None else f" ({entry.low:.3f} to {entry.high:.3f})")
        + f"  {entry.rows}"
        for entry in card.concordance
    ]


def refuse_other_content(folder: Path) -> None:
    """Refuses to replace a folder that is not a demonstration model.

    Raises:
        InvalidInput: the folder holds something else.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return
    released = (folder / MANIFEST).is_file() and (folder / CARD).is_file()
    if released and read_card((folder / CARD).read_text(encoding="utf-8")).demonstration:
        return
    raise InvalidInput(f"{folder} holds something else than a demonstration model; nothing was changed")


def _processes(count: int) -> AbstractContextManager[Executor | None]:
    """Returns a pool of fresh processes, or nothing for one."""
    if count == 1:
        return nullcontext()
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=log_to_standard_error)
