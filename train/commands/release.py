"""``mmf-train release``: from a fit to a model folder under its own name, version and intended use."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from train.commands.demo_models import describe_concordance

FitFolderPath = Annotated[Path, typer.Option("--fit", help="Folder of a finished fit.")]
Out = Annotated[Path, typer.Option("--out", help="Folder of the model; must be absent or empty.")]
Name = Annotated[str, typer.Option("--name", help="Name of the model, e.g. mmf.")]
Version = Annotated[str, typer.Option("--version", help="Version, unique among the models of this name.")]
IntendedUse = Annotated[
    str, typer.Option("--intended-use", help="In a sentence: for whom, by whom, for what.")
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limits", help="What a user must know, a sentence; may be repeated. The fit's own are kept."
    ),
]


def release(
    fit: FitFolderPath,
    out: Out,
    name: Name,
    version: Version,
    intended_use: IntendedUse,
    limits: Limits = None,
) -> None:
    """Write and check the model folder of a fit. A model of phantoms is marked as a demonstration."""
    from train.fit_folder import read_fit
    from train.release import ReleaseWords, release_fit

    words = ReleaseWords(
        name=name,
        version=version,
        intended_use=intended_use,
        limits=tuple(limits or ()),
        created=datetime.now(UTC),
    )
    model = release_fit(read_fit(fit), out, words)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    typer.echo(f"{out}: {name} {version}, {size / 1e6:.1f} MB, SHA-256 {model.sha256}")
    if model.card.demonstration:
        typer.echo(
            "a demonstration: trained on phantoms, refused by a node unless it allows demonstration models"
        )
    for line in describe_concordance(model.card):
        typer.echo(line)
