"""The command line ``mmf-train``: it names the commands, loads the one that is asked for, turns errors into exit codes."""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import structlog
import typer

from engines.errors import InvalidInput, MmfError

EXIT_FAILED = 1
EXIT_USAGE = 2


class Entry(NamedTuple):
    """Where a command lives (module of train.commands, its function or app), and its line in the overview."""

    module: str
    name: str
    help: str


COMMANDS = {
    "networks": Entry("networks", "networks", "Train Networks 1-3 and their rivals on a cohort."),
    "fit": Entry("fit", "fit", "Fit every model of the method to a cohort, out-of-fold and for release."),
    "release": Entry("release", "release", "Write and check the model folder of a fit."),
    "tune": Entry("tune", "tune", "Search hyper-parameters of a network on the validation cases."),
    "evaluate": Entry(
        "evaluate",
        "evaluate",
        "Every table and figure of the supplement from a fitted cohort or a table of scores.",
    ),
    "ablate": Entry(
        "ablate", "ablate", "The grids of supplementary Tables 2 to 4, planned and priced first."
    ),
    "nightly": Entry(
        "nightly", "nightly", "Train on new cases and judge the candidate against the running model."
    ),
    "demo-models": Entry("demo_models", "demo_models", "Train the demonstration models on phantoms."),
}
"""Every command. Registering one is one line here; its module is imported only when it is asked for."""


def build_app(arguments: Sequence[str]) -> typer.Typer:
    """Returns the command line for these arguments: the command they ask for is loaded, the others are only listed."""
    asked = next((word for word in arguments if not word.startswith("-")), None)
    app = typer.Typer(
        name="mmf-train",
        help="From a cohort of case folders to networks, fusion models and their evaluation. RESEARCH USE ONLY.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(log_to_standard_error)
    for word, entry in COMMANDS.items():
        if word != asked:
            app.command(word, help=entry.help)(_list_only)
            continue
        loaded = getattr(import_module(f"train.commands.{entry.module}"), entry.name)
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=word)
        else:
            app.command(word)(loaded)
    return app


def main() -> None:
    """Runs the command line; the entry point of the package."""
    try:
        build_app(sys.argv[1:])()
    except InvalidInput as error:
        _tell(error)
        sys.exit(EXIT_USAGE)
    except MmfError as error:
        _tell(error)
        sys.exit(EXIT_FAILED)
    except OSError as error:
        typer.echo(f"the system refused a file or folder, or a connection: {error}", err=True)
        typer.echo(
            "Look at the path, who may write there, and the free space, or at the address; then run the command again.",
            err=True,
        )
        sys.exit(EXIT_FAILED)


def _list_only() -> None:
    """Stands in the overview for a command that was not asked for."""


def log_to_standard_error() -> None:
    """Keeps standard output for results: log lines go to standard error, from INFO on."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def _tell(error: MmfError) -> None:
    typer.echo(str(error), err=True)
    typer.echo((type(error).__doc__ or "").strip(), err=True)


if __name__ == "__main__":
    main()
