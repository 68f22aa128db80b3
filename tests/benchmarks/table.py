"""The rows of a benchmark and the one table they are printed in."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One line: what was measured, the figure with its unit, and what stands beside it in the same run."""

    what: str
    figure: str
    beside: str = ""


def print_table(rows: Sequence[Row]) -> None:
    """Prints the rows in three columns."""
    heads = Row("what", "figure", "beside, in the same run (ours / theirs)")
    widths = [max(len(getattr(row, name)) for row in (heads, *rows)) for name in ("what", "figure")]
    for row in (heads, *rows):
        sys.stdout.write(f"{row.what:<{widths[0]}}  {row.figure:<{widths[1]}}  {row.beside}".rstrip() + "\n")
    sys.stdout.flush()


def give(rows: Sequence[Row], file: Path | None) -> None:
    """Prints the rows, or leaves them for the whole table in a file."""
    if file is None:
        print_table(rows)
    else:
        file.write_text(json.dumps([asdict(row) for row in rows]), encoding="utf-8")


def take(file: Path) -> list[Row]:
    """The rows that another process left."""
    return [Row(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
