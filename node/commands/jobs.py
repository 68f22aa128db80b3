"""``mmf-node jobs``: list, show, retry, cancel."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from engines.errors import InvalidInput
from node.job import Job, JobState
from node.processes import DATABASE_NAME, SystemClock
from node.settings import read_settings
from node.storage.jobs import SqliteJobs

Conf = Annotated[Path | None, typer.Option("--conf", help="Settings file (node.toml).")]
Data = Annotated[Path | None, typer.Option("--data", help="Data folder of the node.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON alone on standard output.")]
JobId = Annotated[int, typer.Argument(help="Number of the job.", min=1, max=2**63 - 1)]

app = typer.Typer(name="jobs", help="Jobs of the node: list, show, retry, cancel.", no_args_is_help=True)


@app.command("list")
def list_jobs(
    state: Annotated[
        list[JobState] | None,
        typer.Option(case_sensitive=False, help="Only jobs in this state; repeat for more."),
    ] = None,
    study: Annotated[str, typer.Option(help="Only jobs of this Study Instance UID.")] = "",
    conf: Conf = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Lists jobs, newest first."""
    with open_jobs(conf, data) as jobs:
        found = jobs.find(tuple(state) if state else tuple(JobState), study)
    if as_json:
        typer.echo(json.dumps([describe_job(job) for job in found], indent=2))
        return
    for job in found:
        typer.echo(
            f"{job.job_id:>6}  {job.state:<11}  {job.outcome or '-':<14}  {job.study_instance_uid}  "
            + " ".join(job.error.split())
        )
    if not found:
        typer.echo("no jobs", err=True)


@app.command("show")
def show_job(job_id: JobId, conf: Conf = None, data: Data = None, as_json: AsJson = False) -> None:
    """Shows one job: its state, its history, and what the destination answered to each object."""
    with open_jobs(conf, data) as jobs:
        job, history, deliveries = jobs.get(job_id), jobs.history(job_id), jobs.deliveries(job_id)
    if as_json:
        content = describe_job(job) | {
            "history": [
                {"at": move.at.isoformat(), "state": move.state, "detail": move.detail} for move in history
            ],
            "deliveries": [
                {
                    "sop_class_uid": delivery.sop_class_uid,
                    "sop_instance_uid": delivery.sop_instance_uid,
                    "answer": delivery.answer,
                    "status": delivery.status,
                    "detail": delivery.detail,
                }
                for delivery in deliveries
            ],
        }
        typer.echo(json.dumps(content, indent=2))
        return
    for name, value in describe_job(job).items():
        typer.echo(f"{name:<20} {'-' if value in (None, '') else value}")
    typer.echo("")
    for move in history:
        typer.echo(f"{move.at:%Y-%m-%d %H:%M:%S}  {move.state:<11}  {move.detail}")
    for delivery in deliveries:
        typer.echo(f"{delivery.sop_instance_uid}  {delivery.answer}  {delivery.detail}")


@app.command("retry")
def retry_job(job_id: JobId, conf: Conf = None, data: Data = None, as_json: AsJson = False) -> None:
    """Takes a job up again: its delivery when the objects are built, else its assessment."""
    with open_jobs(conf, data) as jobs:
        tell_job(jobs.retry(job_id, SystemClock().now()), as_json=as_json)


@app.command("cancel")
def cancel_job(job_id: JobId, conf: Conf = None, data: Data = None, as_json: AsJson = False) -> None:
    """Stops a job."""
    with open_jobs(conf, data) as jobs:
        tell_job(jobs.cancel(job_id, SystemClock().now()), as_json=as_json)


@contextmanager
def open_jobs(conf: Path | None, data: Path | None) -> Iterator[SqliteJobs]:
    """Yields the job store of the node that the settings name.

    Raises:
        InvalidInput: no node ever ran with this data folder.
    """
    folder = read_settings(conf, data=data).storage.data
    database = folder / DATABASE_NAME
    if not database.exists():
        raise InvalidInput(f"{folder} is not the data folder of a node: {DATABASE_NAME} is missing")
    with SqliteJobs(database) as jobs:
        yield jobs


def tell_job(job: Job, *, as_json: bool) -> None:
    """Writes one job on standard output."""
    if as_json:
        typer.echo(json.dumps(describe_job(job), indent=2))
    else:
        typer.echo(f"job {job.job_id} is {job.state}")


def describe_job(job: Job) -> dict[str, str | int | None]:
    """Returns a job as it goes out in JSON; times in ISO 8601, UTC."""
    return {
        "job_id": job.job_id,
        "study_instance_uid": job.study_instance_uid,
        "state": job.state,
        "outcome": job.outcome,
        "attempt": job.attempt,
        "due_at": job.due_at.isoformat(),
        "created_at": job.created_at.isoformat(),
        "updated_at": job.updated_at.isoformat(),
        "lease_owner": job.lease_owner,
        "lease_until": _iso(job.lease_until),
        "instances_digest": job.instances_digest,
        "model_version": job.model_version,
        "error": job.error,
        "supersedes": job.supersedes,
        "shown_to": job.shown_to,
        "shown_at": _iso(job.shown_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
