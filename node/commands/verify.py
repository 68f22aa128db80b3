"""``mmf-node verify``: do the objects of a result say what its report.json says?"""

import json
from pathlib import Path
from typing import Annotated

import typer

_FAILED = 1


def verify(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder that `mmf-node run` or the node filled.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="JSON alone on standard output.")] = False,
) -> None:
    """Compares SEG, SR and PDF with report.json; exit code 1 when anything contradicts."""
    from node.report.verify import verify_result

    contradictions = verify_result(out)
    if as_json:
        typer.echo(json.dumps(list(contradictions), ensure_ascii=False, indent=1))
    else:
        for line in contradictions:
            typer.echo(line)
        typer.echo(
            "no contradiction" if not contradictions else f"{len(contradictions)} contradictions", err=True
        )
    if contradictions:
        raise typer.Exit(_FAILED)
