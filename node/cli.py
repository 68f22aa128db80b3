"""The command line ``mmf-node``: it registers the commands and turns errors into messages and exit codes."""

import sqlite3
import sys

import typer

from engines.errors import InvalidInput, MmfError
from node.commands.backup import backup
from node.commands.check import check
from node.commands.demo import demo
from node.commands.export import export
from node.commands.jobs import app as jobs
from node.commands.models import app as models
from node.commands.outcomes import app as outcomes
from node.commands.phases import phases
from node.commands.radiomics import radiomics
from node.commands.run import run
from node.commands.send import send
from node.commands.serve import serve
from node.commands.status import status
from node.commands.verify import verify
from node.errors import SettingsRefused

EXIT_FAILED = 1
EXIT_USAGE = 2

app = typer.Typer(
    name="mmf-node",
    help="DICOM node for the multimodal fusion (MMF) survival risk in unresectable liver cancer. RESEARCH USE ONLY.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo)
app.command("serve")(serve)
app.command("run")(run)
app.command("send")(send)
app.command("check")(check)
app.command("status")(status)
app.add_typer(jobs)
app.command("backup")(backup)
app.command("phases")(phases)
app.command("radiomics")(radiomics)
app.command("verify")(verify)
app.command("export")(export)
app.add_typer(outcomes)
app.add_typer(models)


def main() -> None:
    """Runs the command line; the entry point of the package."""
    try:
        app()
    except (SettingsRefused, InvalidInput) as error:
        _tell(error)
        sys.exit(EXIT_USAGE)
    except MmfError as error:
        _tell(error)
        sys.exit(EXIT_FAILED)
    except OSError as error:
        typer.echo(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), err=True)
        sys.exit(EXIT_FAILED)
    except sqlite3.OperationalError as error:
        typer.echo(f"the node's database cannot be used now: {error}", err=True)
        sys.exit(EXIT_FAILED)


def _tell(error: MmfError) -> None:
    typer.echo(str(error), err=True)
    typer.echo((type(error).__doc__ or "").strip(), err=True)
