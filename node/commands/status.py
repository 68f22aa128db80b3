"""``mmf-node status``: is the node running, what waits, how full is the disk, what went wrong last."""

import json
import platform
import shutil
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import MmfError
from node.commands.jobs import AsJson, Conf, Data
from node.job import JobState
from node.processes import DATABASE_NAME, find_running_node
from node.settings import Settings, read_settings
from node.storage.database import open_database
from node.storage.jobs import SqliteJobs

LAST_ERRORS = 5
_UNHEALTHY = 1
_VERSIONED = ("mmf-node", "pydicom", "pynetdicom", "torch", "monai", "pyradiomics")


@dataclass(frozen=True, slots=True, kw_only=True)
class LastError:
    """A job that has an error."""

    job_id: int
    study_instance_uid: str
    state: JobState
    error: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """A job that a process works on now; ``since`` it took it, in ISO 8601, UTC."""

    job_id: int
    study_instance_uid: str
    state: JobState
    process: str
    since: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInService:
    """The model that scores the next study; ``refused`` says why none does."""

    name: str = ""
    version: str = ""
    sha256: str = ""
    demonstration: bool = False
    refused: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus:
    """The state of the node, as ``status --json`` writes it.

    Attributes:
        process: process ID of the running node; None when it does not run.
        open_studies: studies that arrive and have no job yet.
        waiting_since: when the job that waits longest was queued, in ISO 8601, UTC; None when none waits.
        model: what scores the next study; None when its files were not looked at.
        model_versions: versions that scored the jobs known.
    """

    process: int | None
    data: str
    free_bytes: int
    minimum_free_bytes: int
    instances: int
    open_studies: int
    jobs: dict[str, int]
    waiting_since: str | None
    running: tuple[RunningJob, ...]
    last_errors: tuple[LastError, ...]
    model: ModelInService | None
    model_versions: tuple[str, ...]
    versions: dict[str, str]


def status(
    conf: Conf = None,
    data: Data = None,
    as_json: AsJson = False,
    healthy: Annotated[
        bool,
        typer.Option("--healthy", help="Exit code 1 unless the node runs and has room; for health checks."),
    ] = False,
) -> None:
    """Tells whether the node runs, its queue, disk, last errors, models and versions."""
    settings = read_settings(conf, data=data)
    minimum = int(settings.storage.minimum_free_gib * 2**30)
    found = read_status(settings.storage.data, minimum)
    if not healthy:
        found = replace(found, model=read_model(settings))
    _show(found, minimum, as_json=as_json)
    if healthy and (found.process is None or found.free_bytes < minimum):
        raise typer.Exit(_UNHEALTHY)


def _show(found: NodeStatus, minimum: int, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=2))
        return
    typer.echo(f"node        {'process ' + str(found.process) if found.process else 'not running'}")
    typer.echo(f"data        {found.data}")
    below = "  BELOW THE WATERMARK, objects are refused" if found.free_bytes < minimum else ""
    typer.echo(
        f"disk        {found.free_bytes / 2**30:.1f} GiB free (watermark {minimum / 2**30:.1f} GiB){below}"
    )
    typer.echo(f"received    {found.instances} objects, {found.open_studies} studies arriving")
    counts = ", ".join(f"{count} {state}" for state, count in found.jobs.items() if count)
    waiting = f", the first since {found.waiting_since}" if found.waiting_since else ""
    typer.echo(f"jobs        {counts or 'none'}{waiting}")
    for job in found.running:
        typer.echo(f"running     job {job.job_id} {job.state} by {job.process} since {job.since}")
    if found.model is not None:
        note = ", trained on phantoms" if found.model.demonstration else ""
        told = (
            found.model.refused
            or f"{found.model.name} {found.model.version} ({found.model.sha256[:12]}{note})"
        )
        typer.echo(f"model       {told}")
    typer.echo(f"have scored {', '.join(found.model_versions) or 'none used yet'}")
    typer.echo(f"versions    {', '.join(f'{name} {number}' for name, number in found.versions.items())}")
    for error in found.last_errors:
        typer.echo(f"error       job {error.job_id} {error.state} at {error.at}: {error.error}")


def read_status(data: Path, minimum_free_bytes: int) -> NodeStatus:
    """Returns the state of the node that owns a data folder, running or not."""
    database = data / DATABASE_NAME
    exists = database.exists()
    free = shutil.disk_usage(data if data.exists() else Path.cwd()).free
    instances = open_studies = 0
    counts = dict.fromkeys(JobState, 0)
    errors: tuple[LastError, ...] = ()
    models: tuple[str, ...] = ()
    running: tuple[RunningJob, ...] = ()
    waiting: str | None = None
    if exists:
        connection = open_database(database)
        (instances,) = connection.execute("SELECT count(*) FROM instance").fetchone()
        (open_studies,) = connection.execute("SELECT count(*) FROM study WHERE images <> taken_up").fetchone()
        connection.close()
        with SqliteJobs(database) as jobs:
            counts = jobs.counts()
            known = jobs.find()
        failed = sorted((job for job in known if job.error), key=lambda job: job.updated_at, reverse=True)
        errors = tuple(
            LastError(
                job_id=job.job_id,
                study_instance_uid=job.study_instance_uid,
                state=job.state,
                error=job.error,
                at=job.updated_at.isoformat(timespec="seconds"),
            )
            for job in failed[:LAST_ERRORS]
        )
        queued = [job.created_at for job in known if job.state is JobState.WAITING]
        waiting = min(queued).isoformat(timespec="seconds") if queued else None
        running = tuple(
            RunningJob(
                job_id=job.job_id,
                study_instance_uid=job.study_instance_uid,
                state=job.state,
                process=job.lease_owner,
                since=job.updated_at.isoformat(timespec="seconds"),
            )
            for job in known
            if job.lease_owner
        )
        models = tuple(sorted({job.model_version for job in known if job.model_version}))
    return NodeStatus(
        process=find_running_node(data) if exists else None,
        data=str(data),
        free_bytes=free,
        minimum_free_bytes=minimum_free_bytes,
        instances=instances,
        open_studies=open_studies,
        jobs={str(state): count for state, count in counts.items()},
        waiting_since=waiting,
        running=running,
        last_errors=errors,
        model=None,
        model_versions=models,
        versions={"python": platform.python_version()} | {name: version(name) for name in _VERSIONED},
    )


def read_model(settings: Settings) -> ModelInService:
    """Returns the model that the settings name, every file of it checked by its hash."""
    from engines.models.card import read_card
    from engines.models.store import verify_folder
    from node.app import find_model

    try:
        verified = verify_folder(find_model(settings))
        card = read_card(verified.text("card.toml"))
    except MmfError as error:
        return ModelInService(refused=str(error))
    if card.demonstration and not settings.models.allow_demonstration:
        why = f"none: {card.name} {card.version} is trained on phantoms, and models.allow_demonstration is not set"
        return ModelInService(refused=why, demonstration=True)
    return ModelInService(
        name=card.name, version=card.version, sha256=verified.sha256, demonstration=card.demonstration
    )
