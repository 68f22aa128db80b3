"""``mmf-node backup``: a consistent copy of the node's database, taken while it runs."""

from pathlib import Path
from typing import Annotated

import typer

from engines.errors import InvalidInput
from node.commands.jobs import Conf, Data
from node.processes import DATABASE_NAME
from node.settings import read_settings
from node.storage.database import back_up_database


def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; an older copy is replaced.")],
    conf: Conf = None,
    data: Data = None,
) -> None:
    """Copies jobs, deliveries and index to FILE, also while the node runs; the files of the data folder are not in it.

    Everything else in the data folder is written once under its final name: copy it with any tool, after this. To
    restore, put the folder back and FILE in the place of node.sqlite; objects that came later are found at the start.
    """
    folder = read_settings(conf, data=data).storage.data
    database = folder / DATABASE_NAME
    if not database.exists():
        raise InvalidInput(f"{folder} is not the data folder of a node: {DATABASE_NAME} is missing")
    if file.resolve() == database.resolve():
        raise InvalidInput(f"{file} is the database itself")
    if not file.absolute().parent.is_dir():
        raise InvalidInput(f"{file.absolute().parent} is not a folder")
    back_up_database(database, file)
    typer.echo(f"{file} holds the jobs of {folder}")
