"""The report folder: report.html, report.pdf, model_card.md, records.json, one CSV a table, one PNG a figure."""

import csv
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from engines.errors import InvalidInput
from train.evaluate.document import Document, RowKind, Table
from train.evaluate.html import write_html
from train.evaluate.json_form import Json
from train.evaluate.markdown import write_markdown
from train.evaluate.pdf import write_pdf
from train.evaluate.sections.card import CARD_TITLE


def write_report(document: Document, records: Sequence[Json], folder: Path) -> tuple[Path, ...]:
    """Writes the report into a folder, which is made if need be, and returns the files written.

    Args:
        document: the report.
        records: the JSON form of what was measured.
        folder: an earlier report in it is replaced: its tables and figures that this one lacks are removed.

    Raises:
        InvalidInput: the folder cannot be written, or a file has its name.
    """
    contents: dict[str, bytes] = {
        "report.html": write_html(document).encode("utf-8"),
        "report.pdf": write_pdf(document),
        "records.json": encode_json(records).encode("utf-8"),
    }
    card = next((section for section in document.sections if section.title == CARD_TITLE), None)
    if card is not None:
        contents["model_card.md"] = write_markdown(card, f"{CARD_TITLE}: {document.subtitle}").encode("utf-8")
    contents |= {f"tables/{table.name}.csv": _csv(table).encode("utf-8") for table in document.tables}
    contents |= {f"figures/{picture.name}.png": picture.png for picture in document.pictures}
    try:
        _clear(folder, contents)
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise InvalidInput(f"the report cannot be written to {folder}: {error}") from error
    return tuple(folder / name for name in contents)


def _clear(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Removes tables and figures that an earlier report left here; nothing where records.json shows no report."""
    if not (folder / "records.json").is_file():
        return
    for old in (*folder.glob("tables/*.csv"), *folder.glob("figures/*.png")):
        if old.relative_to(folder).as_posix() not in contents:
            old.unlink()


def encode_json(records: Sequence[Json]) -> str:
    """Returns the records as JSON text, floats unrounded."""
    return json.dumps(records, indent=1, allow_nan=False) + "\n"


def _csv(table: Table) -> str:
    stream = StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((*table.header, "kind"))
    for row in table.rows:
        cells = row.cells if row.kind != RowKind.HEADING else (*row.cells, *("",) * (len(table.header) - 1))
        writer.writerow((*cells, row.kind.value))
    return stream.getvalue()
