"""Where a file of conf/ is found: given by hand, named by MMF_CONF, in the current folder, or as packaged."""

import os
from pathlib import Path

from engines.errors import InvalidInput

_PACKAGED = (Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf")


def find_conf(name: str, explicit: Path | None = None) -> Path:
    """Returns the path of a configuration file or folder.

    Args:
        name: path below conf/, e.g. ``phases.toml`` or ``recipes/mini.toml``.
        explicit: a file named on the command line; it wins and must exist.

    Raises:
        InvalidInput: it is nowhere; the message lists where it was looked for.
    """
    if explicit is not None:
        if explicit.exists():
            return explicit
        raise InvalidInput(f"{explicit} does not exist")
    named = os.environ.get("MMF_CONF")
    folders = [Path(named)] if named else []
    folders += [Path.cwd() / "conf", *_PACKAGED]
    for folder in folders:
        if (folder / name).exists():
            return folder / name
    places = ", ".join(str(folder / name) for folder in folders)
    raise InvalidInput(f"conf/{name} was not found; looked for {places}")
