"""Reads a table of series descriptions and plans phases from them alone, study by study."""

import csv
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from engines.errors import InvalidInput
from node.phases.plan import plan_phases
from node.phases.rules import PhaseRules
from node.study import CT_IMAGE_STORAGE, Acquisition, Instance, PhaseFinding

REQUIRED_COLUMNS = ("patient", "study_date", "series_description")
OPTIONAL_COLUMNS = ("collection", "study_description", "series_number", "acquisition_number")
MOST_ROWS = 40
"""More rows of one patient and date are no examination (a table without real patients or dates): each is read alone (OURS)."""


def read_descriptions(path: Path) -> tuple[Acquisition, ...]:
    """Returns one acquisition without images per row of a CSV file, in input order; its series UID is ``row N``.

    Args:
        path: UTF-8, with the columns ``patient``, ``study_date``, ``series_description`` and, where known,
            ``collection``, ``study_description``, ``series_number``, ``acquisition_number``; others are ignored.

    Raises:
        InvalidInput: not readable as UTF-8 CSV, a required column is missing or a column named twice, or a row has more
            cells than columns or lacks a required one (a comma or a line break in a text needs quotes).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            _check_columns(path, reader.fieldnames or ())
            return tuple(_read_row(row, index, path) for index, row in enumerate(reader))
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise InvalidInput(f"{path} cannot be read as a UTF-8 CSV file: {fault}") from fault


def _check_columns(path: Path, names: Sequence[str]) -> None:
    """Refuses a header that lacks a column or names one twice."""
    missing = [name for name in REQUIRED_COLUMNS if name not in names]
    if missing:
        other = len(names) == 1 and any(sign in names[0] for sign in ";\t|")
        hint = "; the columns must be separated by commas" if other else ""
        raise InvalidInput(f"{path.name} lacks the columns {', '.join(missing)}; it has {list(names)}{hint}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"{path.name} names the columns {', '.join(twice)} more than once")


def plan_descriptions(rows: Sequence[Acquisition], rules: PhaseRules) -> tuple[PhaseFinding, ...]:
    """Returns what each row's text and the other rows of its study say, in input order.

    Args:
        rows: as read; rows of one patient and date are one study, up to ``MOST_ROWS``.
        rules: of phases.toml.
    """
    studies: dict[str, list[Acquisition]] = defaultdict(list)
    for row in rows:
        studies[row.first.study_instance_uid].append(row)
    findings: dict[str, PhaseFinding] = {}
    for study in studies.values():
        for members in [study] if len(study) <= MOST_ROWS else [[row] for row in study]:
            for finding in plan_phases(members, {}, rules, geometry=False).findings:
                findings[finding.acquisition.label] = finding
    return tuple(findings[row.label] for row in rows)


def _read_row(row: dict[str, str | None], index: int, path: Path) -> Acquisition:
    """Makes an acquisition of one row."""
    if None in row or any(row.get(name) is None for name in REQUIRED_COLUMNS):
        cells = sum(len(cell) if isinstance(cell, list) else cell is not None for cell in row.values())
        columns = len(row) - (None in row)
        raise InvalidInput(
            f"{path.name}, row {index} (the first is 0): {cells} cells, {columns} columns; "
            "a text with a comma must stand in quotes"
        )
    study = " ".join((row.get(name) or "").strip() for name in ("collection", "patient", "study_date"))
    instance = Instance(
        path=Path(),
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid=f"row {index}",
        study_instance_uid=study,
        series_instance_uid=f"row {index}",
        modality="CT",
        series_description=(row.get("series_description") or "").strip(),
        study_description=(row.get("study_description") or "").strip(),
        series_number=_integer(row.get("series_number")),
        acquisition_number=_integer(row.get("acquisition_number")),
    )
    return Acquisition(series_instance_uid=f"row {index}", part=0, instances=(instance,))


def _integer(text: str | None) -> int | None:
    """A whole number, None when there is none."""
    text = (text or "").strip()
    return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text) else None
