"""``mmf-node status``: is the node running, what waits, how full is the disk, what went wrong last."""

import json
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from node.commands.jobs import AsJson, Conf, Data
from node.job import JobState
from node.processes import DATABASE_NAME, find_running_node
from node.settings import read_settings
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
class NodeStatus:
    """The state of the node, as ``status --json`` writes it.

    Attributes:
        process: process ID of the running node; None when it does not run.
        open_studies: studies that arrive and have no job yet.
        model_versions: versions that scored the jobs known.
    """

    process: int | None
    data: str
    free_bytes: int
    minimum_free_bytes: int
    instances: int
    open_studies: int
    jobs: dict[str, int]
    last_errors: tuple[LastError, ...]
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
    typer.echo(f"jobs        {counts or 'none'}")
    typer.echo(f"models      {', '.join(found.model_versions) or 'none used yet'}")
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
        models = tuple(sorted({job.model_version for job in known if job.model_version}))
    return NodeStatus(
        process=find_running_node(data) if exists else None,
        data=str(data),
        free_bytes=free,
        minimum_free_bytes=minimum_free_bytes,
        instances=instances,
        open_studies=open_studies,
        jobs={str(state): count for state, count in counts.items()},
        last_errors=errors,
        model_versions=models,
        versions={"python": platform.python_version()} | {name: version(name) for name in _VERSIONED},
    )
