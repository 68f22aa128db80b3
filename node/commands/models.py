"""``mmf-node models``: which versions are installed, which is in service, put one into service, take it back."""

import getpass
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines.errors import InvalidInput
from node.commands.jobs import AsJson, Conf, Data
from node.settings import Settings, read_settings

if TYPE_CHECKING:
    from engines.models.card import ModelCard
    from engines.models.promotion import CandidateRecord
    from engines.models.store import ModelStore

Store = Annotated[
    Path | None,
    typer.Option("--store", help="Folder of the versions; default: models.folder of the settings."),
]
Version = Annotated[str, typer.Argument(help="Version of the model.")]
By = Annotated[str, typer.Option("--by", help="Who does it; default: the user of this session.")]
AllowDemo = Annotated[
    bool,
    typer.Option(
        "--allow-demo-models", help="Models trained on phantoms may be promoted; never for a patient."
    ),
]

app = typer.Typer(name="models", help="Models: list, show, install, promote, rollback.", no_args_is_help=True)


@app.command("list")
def list_models(store: Store = None, conf: Conf = None, data: Data = None, as_json: AsJson = False) -> None:
    """Lists the installed versions, what the gate said of each, and which is in service."""
    from engines.models.promotion import read_record

    opened = open_store(read_settings(conf, data=data), store)
    serving = name_current(opened)
    rows = []
    for version in opened.versions():
        card, record = read_model_card(opened, version), read_record(opened, version)
        rows.append(
            {
                "version": version,
                "name": card.name,
                "in_service": version == serving,
                "demonstration": card.demonstration,
                "created": card.created.isoformat(),
                "patients": card.training.patients,
                "c_index": card.c_index_sentence(),
                "gate": record.decision.value if record and record.decision else None,
            }
        )
    if as_json:
        typer.echo(
            json.dumps({"store": str(opened.root), "current": serving or None, "models": rows}, indent=2)
        )
        return
    for row in rows:
        mark = "*" if row["in_service"] else " "
        kind = "demonstration" if row["demonstration"] else "model"
        typer.echo(
            f"{mark} {row['version']:<24} {kind:<14} {row['patients']:>5} patients  gate: {row['gate'] or 'not asked':<14}"
            f" {row['c_index']}"
        )
    typer.echo(f"in service: {serving or 'none'}", err=not rows)


@app.command("show")
def show_model(
    version: Version, store: Store = None, conf: Conf = None, data: Data = None, as_json: AsJson = False
) -> None:
    """Shows one version: its card, the gate's reasons, and when it was in service."""
    from engines.models.promotion import read_record
    from engines.models.store import verify_folder

    opened = open_store(read_settings(conf, data=data), store)
    sha256 = verify_folder(opened.folder(version)).sha256
    card, record = read_model_card(opened, version), read_record(opened, version)
    history = [entry for entry in opened.history() if entry.version == version]
    content = {
        "version": version,
        "name": card.name,
        "sha256": sha256,
        "in_service": name_current(opened) == version,
        "demonstration": card.demonstration,
        "created": card.created.isoformat(),
        "intended_use": card.intended_use,
        "limits": list(card.limits),
        "trained_on": card.training.trained_on,
        "patients": card.training.patients,
        "events_os": card.training.events_os,
        "events_pfs": card.training.events_pfs,
        "description": card.training.description,
        "c_index": card.c_index_sentence(),
        "gate": None if record is None else describe_record(record),
        "history": [
            {"since": entry.since.isoformat(), "by": entry.by, "note": entry.note} for entry in history
        ],
    }
    if as_json:
        typer.echo(json.dumps(content, indent=2))
        return
    for name, value in content.items():
        if name not in ("limits", "gate", "history"):
            typer.echo(f"{name:<14} {value}")
    for limit in card.limits:
        typer.echo(f"limit          {limit}")
    if record is not None:
        typer.echo(f"gate           {record.decision or 'not asked'}; learned from {len(record.cases)} cases")
        for reason in record.reasons:
            typer.echo(f"               {reason}")
    for entry in history:
        typer.echo(f"in service     since {entry.since:%Y-%m-%d %H:%M} by {entry.by} {entry.note}".rstrip())


@app.command("history")
def show_history(store: Store = None, conf: Conf = None, data: Data = None, as_json: AsJson = False) -> None:
    """Tells which versions were in service, since when, and who put them there."""
    history = open_store(read_settings(conf, data=data), store).history()
    if as_json:
        entries = [
            {
                "version": entry.version,
                "since": entry.since.isoformat(),
                "by": entry.by,
                "note": entry.note,
            }
            for entry in history
        ]
        typer.echo(json.dumps(entries, indent=2))
        return
    for entry in history:
        typer.echo(f"{entry.since:%Y-%m-%d %H:%M:%S}  {entry.version:<24} {entry.by}  {entry.note}".rstrip())


@app.command("install")
def install_model(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A model folder.")],
    trained_elsewhere: Annotated[
        str,
        typer.Option(
            "--trained-elsewhere",
            metavar="STATEMENT",
            help="Who states that it has learned from no patient of this site; the gate relies on it.",
        ),
    ] = "",
    store: Store = None,
    conf: Conf = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Copies a verified model folder into the store; it is not yet in service."""
    from engines.models.promotion import CandidateRecord, read_record, write_record
    from engines.models.store import ModelStore, verify_folder

    settings = read_settings(conf, data=data)
    opened = ModelStore(store) if store is not None else open_store(settings, None)
    version = opened.install(folder)
    if trained_elsewhere and read_record(opened, version) is None:
        record = CandidateRecord(
            version=version,
            sha256=verify_folder(opened.folder(version)).sha256,
            elsewhere=f"{getpass.getuser()}: {trained_elsewhere}",
        )
        write_record(opened, record)
    tell(opened, f"model {version} is installed in {opened.root}", as_json=as_json)


@app.command("promote")
def promote_model(
    version: Version,
    against_the_gate: Annotated[
        str, typer.Option(metavar="REASON", help="Promote what the gate did not release; the reason is kept.")
    ] = "",
    by: By = "",
    allow_demo_models: AllowDemo = False,
    store: Store = None,
    conf: Conf = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Puts a version into service. Studies that are being assessed keep theirs; the next one takes the new version."""
    from engines.models.promotion import promote_version

    settings = read_settings(conf, data=data)
    opened = open_store(settings, store)
    promote_version(
        opened,
        version,
        since=datetime.now(UTC),
        by=by or getpass.getuser(),
        allow_demonstration=allow_demo_models or settings.models.allow_demonstration,
        against_the_gate=against_the_gate,
    )
    tell(opened, f"model {version} is in service", as_json=as_json)


@app.command("rollback")
def roll_back(
    by: By = "",
    allow_demo_models: AllowDemo = False,
    store: Store = None,
    conf: Conf = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Puts the version that was promoted before the present one back into service; a second rollback goes further back."""
    from engines.models.promotion import roll_back_version

    settings = read_settings(conf, data=data)
    opened = open_store(settings, store)
    version = roll_back_version(
        opened,
        since=datetime.now(UTC),
        by=by or getpass.getuser(),
        allow_demonstration=allow_demo_models or settings.models.allow_demonstration,
    )
    tell(opened, f"model {version} is in service again", as_json=as_json)


def open_store(settings: Settings, store: Path | None) -> "ModelStore":
    """Returns the store of versions that the command line or the settings name.

    Raises:
        InvalidInput: none is named, or the folder is one model and no store.
    """
    from engines.models.store import MANIFEST, ModelStore

    folder = store or settings.models.folder
    if folder is None:
        raise InvalidInput(
            "models.folder names no store of versions: make a folder, set models.folder in node.toml (or --store DIR),"
            " then mmf-node models install MODEL"
        )
    if (folder / MANIFEST).is_file():
        raise InvalidInput(
            f"{folder} is one model, not a store of versions: set models.folder to an empty folder, then mmf-node models"
            f" install {folder}"
        )
    return ModelStore(folder)


def name_current(store: "ModelStore") -> str:
    """Returns the version in service, "" when none is."""
    history = store.history()
    return history[-1].version if history else ""


def read_model_card(store: "ModelStore", version: str) -> "ModelCard":
    """Returns the card of an installed version; its hash is checked, the weights are not read."""
    from engines.models.card import read_card
    from engines.models.store import CARD, verify_folder

    return read_card(verify_folder(store.folder(version)).text(CARD))


def describe_record(record: "CandidateRecord") -> dict[str, object]:
    """Returns what the store remembers of a candidate as it goes out in JSON; no patient key goes with it."""
    return {
        "decision": record.decision.value if record.decision else None,
        "reasons": list(record.reasons),
        "learned_from_cases": len(record.cases),
        "trained_elsewhere": record.elsewhere,
        "report": record.report,
        "at": record.at.isoformat() if record.at else None,
    }


def tell(store: "ModelStore", sentence: str, *, as_json: bool) -> None:
    """Writes what was done, and which version is in service now."""
    if as_json:
        typer.echo(json.dumps({"done": sentence, "current": name_current(store) or None}, indent=2))
    else:
        typer.echo(sentence)
