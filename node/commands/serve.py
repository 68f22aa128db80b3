"""``mmf-node serve``: receive studies, assess them, deliver the results."""

from pathlib import Path
from typing import Annotated

import typer

from node.log import configure_log
from node.settings import Settings, read_settings


def serve(
    conf: Annotated[
        Path | None, typer.Option(help="Settings file; default: MMF_CONF, ./conf, packaged.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder: inbox, jobs, cases, results.")] = None,
) -> None:
    """Runs the node: receives studies by C-STORE, assesses each when it is complete, delivers SEG, SR and PDF.

    Prints one line when peers can call. SIGTERM or Ctrl-C ends it; what was acknowledged is on the disk, and an
    assessment that was interrupted goes on after the next start.
    """
    from node.app import plan_service
    from node.processes import serve as serve_plan

    settings = read_settings(conf, port=port, data=data)
    configure_log("json")
    serve_plan(plan_service(settings), lambda opened: _tell_ready(settings, opened))


def _tell_ready(settings: Settings, port: int) -> None:
    listener, destination = settings.listener, settings.destination
    where = f"{destination.host}:{destination.port}:{destination.ae_title}" if destination.host else "none"
    typer.echo(
        f"mmf-node ready: {listener.ae_title} listens on {listener.address}:{port}, data in "
        f"{settings.storage.data.resolve()}, results to {where}. Research use only."
    )
