"""Reads the CSV of ready scores: columns sorted into outcomes, scores, clinical variables and groups, every cell checked.

Columns:

    patient_id                        one row a patient
    cohort                            training, validation, testing, or discovery, or any names
    os_months os_event                0 to 240 from the first dose; event 1 = death, 0 = censored; both empty = not known
    pfs_months pfs_event              progression or death; ``ttp_months ttp_event`` instead gives TTP, printed as TTP
    age sex hbv bclc ...              clinical variables under the names of the clinical table
    centre scanner vendor regimen aetiology response   groups in words; response is mRECIST: CR, PR, SD, PD, NE
    kvp slice_thickness_mm liver_box_ml   numbers of the examination: for shortcut baselines, never a model
    any other name                    a model's score, numbers, higher = higher risk; ``name_os`` and ``name_pfs``
                                      together are one model with a score for each endpoint
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.clinical.regimen import parse_regimen
from engines.clinical.response import Response
from engines.clinical.table import CHILD_PUGH_COLUMNS, LABORATORY_DATES, OTHER_SEPARATORS, VARIABLE_COLUMNS
from engines.clinical.variables import Value, Variable, parse_value
from engines.errors import InvalidInput
from engines.survival.outcome import FloatArray
from train.evaluate.score_table import (
    BACKGROUND_COLUMNS,
    DISCOVERY,
    DISCOVERY_PARTS,
    GROUP_COLUMNS,
    REGIMEN_COLUMN,
    RESPONSE_COLUMN,
    TESTING,
    EndpointColumns,
    ScoreTable,
    describe_data,
    order_cohorts,
)

LONGEST_FOLLOW_UP_MONTHS = 240.0
"""A longer time is days or weeks under the name of months (OURS)."""

_CLINICAL: Mapping[str, Variable] = {
    **{variable.value: variable for variable in Variable},
    **{column: variable for variable, column in VARIABLE_COLUMNS.items()},
}
_OUTCOME_COLUMNS = frozenset(
    (
        "patient_id",
        "cohort",
        *(f"{name}_{part}" for name in ("os", "pfs", "ttp") for part in ("months", "event")),
    )
)
_PARTS: Mapping[str, str] = {
    **dict.fromkeys(CHILD_PUGH_COLUMNS, "give child_pugh, the class that comes of it"),
    "number_of_tumours": "give up_to_seven",
    "birth_date": "give age",
    **dict.fromkeys(("issuer", "treatment_start", *LABORATORY_DATES), "leave it out"),
}
"""Columns of the clinical table that are no variable of a model, and what to do with them."""

_MISSING = frozenset(("", "unknown", "nan", "na", "n/a"))
_EVENT = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_MOST_FAULTS_SHOWN = 20
_MOST_ROWS_NAMED = 5
_CLOSE = 0.85


def read_score_table(path: Path) -> ScoreTable:
    """Returns the checked table of a CSV (UTF-8, comma; a byte order mark is allowed).

    Raises:
        InvalidInput: columns are missing or doubtful, or a cell is not plausible; every fault is named with its row.
    """
    try:
        content = path.read_bytes()
        lines = list(csv.reader(StringIO(content.decode("utf-8-sig"), newline=""), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read as a table in UTF-8: {error}") from error
    if not any(cell.strip() for line in lines[1:] for cell in line):
        raise InvalidInput(f"{path} holds no patient; expected a header and one row a patient")
    header = [_column_name(name.strip()) for name in lines[0]]
    other = next((mark for mark in OTHER_SEPARATORS if len(header) == 1 and mark in header[0]), None)
    if other is not None:
        raise InvalidInput(
            f"{path.name}: the columns are separated by {OTHER_SEPARATORS[other]}; expected commas, and a point before decimals"
        )
    body = {
        row: [cell.strip() for cell in line]
        for row, line in enumerate(lines[1:], start=2)
        if any(cell.strip() for cell in line)
    }
    _refuse(path, _faults_of_header(header))
    _refuse(
        path,
        [
            f"row {row}: {len(cells)} cells, the header has {len(header)}"
            for row, cells in body.items()
            if len(cells) != len(header)
        ],
    )
    columns = {name: [cells[place] for cells in body.values()] for place, name in enumerate(header)}
    reader = _Reader(columns, tuple(body))
    table = reader.read(path.name, hashlib.sha256(content).hexdigest())
    _refuse(path, [*reader.faults, *reader.name_cells()])
    return table


def _faults_of_cohorts(cohort: npt.NDArray[np.str_]) -> list[str]:
    faults = []
    if (cohort == "").any():
        faults.append(f"cohort is empty in {int((cohort == '').sum())} rows")
    parts = [part for part in DISCOVERY_PARTS if part in cohort]
    if parts and DISCOVERY in cohort:
        faults.append(f"cohort: discovery and {parts[0]} are both named; discovery = training + validation")
    return faults


def _faults_of_header(header: list[str]) -> list[str]:
    faults = [
        f"column '{name}' is there {count} times" for name, count in Counter(header).items() if count > 1
    ]
    same = Counter(_CLINICAL.get(name.lower(), name.lower()) for name in set(header))
    faults += [f"{what} is there in {count} columns; give one" for what, count in same.items() if count > 1]
    faults += [f"column {place} has no name" for place, name in enumerate(header, start=1) if not name]
    second = "ttp" if "ttp_months" in header else "pfs"
    needed = ("patient_id", "cohort", "os_months", "os_event", f"{second}_months", f"{second}_event")
    other = "pfs" if second == "ttp" else "ttp"
    beside = [name for name in (f"{other}_months", f"{other}_event") if name in header]
    if beside and f"{second}_months" in header:
        faults.append(
            f"both {beside[0]} and {second}_months: the second endpoint is one of them; leave the other out"
        )
    faults += [
        f"column '{name}' belongs to a clinical table and would be taken for a score; {remedy}"
        for name in header
        if (remedy := _PARTS.get(name.lower()))
    ]
    missing = [name for name in needed if name not in header]
    if missing:
        faults.append(
            f"missing column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; expected {', '.join(needed)},"
            " then model scores or clinical variables"
        )
    known = {*_CLINICAL, *GROUP_COLUMNS, *BACKGROUND_COLUMNS, *_OUTCOME_COLUMNS}
    for name in header:
        if name and name not in known and name.lower() not in known:
            close = get_close_matches(name.lower(), known, 1, _CLOSE)
            if close:
                faults.append(f"column '{name}': is it {close[0]}? Correct it, or name the score less alike")
    return faults


class _Reader:
    """Reads the columns and collects every fault, so that all of them are named at once."""

    def __init__(self, columns: Mapping[str, list[str]], rows: Sequence[int]) -> None:
        """Args: cells by column, and the row of the file that each patient stands in."""
        self._columns, self._rows = columns, rows
        self._n = len(next(iter(columns.values())))
        self._cells: dict[str, list[int]] = {}
        self.faults: list[str] = []

    def read(self, name: str, sha256: str) -> ScoreTable:
        ids = self._columns["patient_id"]
        for patient, count in Counter(ids).items():
            if not patient:
                self.faults.append(f"patient_id is empty in {count} rows")
            elif count > 1:
                self.faults.append(f"patient_id {patient} is there {count} times; one index scan a patient")
        cohort = np.array([_cohort_name(cell) for cell in self._columns["cohort"]], dtype=np.str_)
        self.faults += _faults_of_cohorts(cohort)
        cohorts, cutoff_cohort = order_cohorts(cohort)
        second = "ttp" if "ttp_months" in self._columns else "pfs"
        endpoints = tuple(self._read_endpoint(word) for word in ("os", second))
        clinical = {
            _CLINICAL[column.lower()]: self._read_clinical(column)
            for column in self._columns
            if column.lower() in _CLINICAL
        }
        groups = {
            column.lower(): self._read_group(column)
            for column in self._columns
            if column.lower() in GROUP_COLUMNS
        }
        background = {
            column.lower(): self._read_score(column)
            for column in self._columns
            if column.lower() in BACKGROUND_COLUMNS
        }
        scores = self._read_scores(tuple(endpoint.name for endpoint in endpoints))
        if not scores and not clinical:
            self.faults.append("neither a model score nor a clinical variable: nothing to evaluate")
        return ScoreTable(
            name=name,
            sha256=sha256,
            patient_ids=tuple(ids),
            cohort=cohort,
            cohorts=cohorts,
            cutoff_cohort=cutoff_cohort,
            endpoints=endpoints,
            scores=scores,
            clinical=clinical,
            groups=groups,
            notes=describe_data(endpoints, clinical),
            background=background,
        )

    def name_cells(self) -> list[str]:
        """Returns the faults of cells, the same fault of several rows once."""
        return [f"{_name_rows(rows)}: {words}" for words, rows in self._cells.items()]

    def _read_endpoint(self, word: str) -> EndpointColumns:
        time, event = np.full(self._n, np.nan), np.zeros(self._n, dtype=np.bool_)
        months, events = self._columns[f"{word}_months"], self._columns[f"{word}_event"]
        for row, (cell, flag) in enumerate(zip(months, events, strict=True)):
            if cell.lower() in _MISSING and flag.lower() in _MISSING:
                continue
            if cell.lower() in _MISSING or flag.lower() in _MISSING:
                self._fault(row, f"{word}_months '{cell}' and {word}_event '{flag}': give both or neither")
                continue
            value = _number(cell)
            if value is None:
                self._fault(row, f"{word}_months '{cell}' is not a number{_comma_hint(cell)}")
            elif not 0 <= value <= LONGEST_FOLLOW_UP_MONTHS:
                self._fault(
                    row,
                    f"{word}_months '{cell}' is not a time of 0 to {LONGEST_FOLLOW_UP_MONTHS:g} months"
                    " (days or weeks? an event before time zero?)",
                )
            elif flag.lower() not in _EVENT:
                self._fault(row, f"{word}_event '{flag}' is not 0 or 1")
            else:
                time[row], event[row] = value, _EVENT[flag.lower()]
        if np.isnan(time).all() and not self.faults and not self._cells:
            self.faults.append(f"{word}_months is empty in every row")
        return EndpointColumns(name=word.upper(), time=time, event=event)

    def _read_clinical(self, column: str) -> tuple[Value | None, ...]:
        variable = _CLINICAL[column.lower()]
        values: list[Value | None] = []
        for row, cell in enumerate(self._columns[column]):
            value = None
            if cell.lower() not in _MISSING:
                try:
                    value = parse_value(variable, cell)
                except InvalidInput as error:
                    self._fault(row, str(error))
            values.append(value)
        return tuple(values)

    def _read_group(self, column: str) -> tuple[str, ...]:
        words: list[str] = []
        for row, cell in enumerate(self._columns[column]):
            word = "" if cell.lower() in _MISSING else cell
            if word and column.lower() == REGIMEN_COLUMN:
                try:
                    word = parse_regimen(word).text()
                except InvalidInput as error:
                    self._fault(row, str(error))
            if word and column.lower() == RESPONSE_COLUMN:
                word = word.upper()
                if word not in set(Response):
                    self._fault(row, f"response '{word}' is not one of {', '.join(Response)}")
            words.append(word)
        return tuple(words)

    def _read_scores(self, endpoints: tuple[str, ...]) -> dict[str, dict[str, FloatArray]]:
        taken = {*_OUTCOME_COLUMNS, *_CLINICAL, *GROUP_COLUMNS, *BACKGROUND_COLUMNS}
        columns = [column for column in self._columns if column.lower() not in taken]
        halves = {column: _split_by_endpoint(column, endpoints) for column in columns}
        scores: dict[str, dict[str, FloatArray]] = {}
        for column in columns:
            values, half = self._read_score(column), halves[column]
            if half is None or not {(half[0], name) for name in endpoints} <= set(halves.values()):
                half = None
            model, wanted = (column, endpoints) if half is None else (half[0], (half[1],))
            found = scores.setdefault(model, {})
            if not found.keys().isdisjoint(wanted):
                self.faults.append(f"column '{column}': the scores of {model} are there twice")
            found.update(dict.fromkeys(wanted, values))
        return scores

    def _read_score(self, column: str) -> FloatArray:
        values = np.full(self._n, np.nan)
        for row, cell in enumerate(self._columns[column]):
            if cell.lower() in _MISSING:
                continue
            value = _number(cell)
            if value is None:
                self._fault(
                    row,
                    f"column '{column}': '{cell}' is not a number{_comma_hint(cell)}; a score is a number, a group in"
                    f" words is one of {', '.join(GROUP_COLUMNS)}",
                )
            else:
                values[row] = value
        if all(cell.lower() in _MISSING for cell in self._columns[column]):
            self.faults.append(f"column '{column}' holds no score")
        return values

    def _fault(self, row: int, words: str) -> None:
        self._cells.setdefault(words, []).append(self._rows[row])


def _split_by_endpoint(column: str, endpoints: Sequence[str]) -> tuple[str, str] | None:
    """The model and the endpoint that ``name_os`` names; None for another column."""
    model, _, word = column.rpartition("_")
    return (model, word.upper()) if model and word.upper() in endpoints else None


def _column_name(name: str) -> str:
    """The columns that every table has are known in any case; a score keeps its spelling."""
    return name.lower() if name.lower() in _OUTCOME_COLUMNS else name


def _cohort_name(cell: str) -> str:
    """The cohorts of the paper are known in any case; other names stay as they are."""
    return cell.lower() if cell.lower() in (*DISCOVERY_PARTS, DISCOVERY, TESTING) else cell


def _number(cell: str) -> float | None:
    if "_" in cell:  # Python reads 1_000 as a number; in a table it is a slip
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _comma_hint(cell: str) -> str:
    return " (a point stands before decimals)" if "," in cell else ""


def _name_rows(rows: Sequence[int]) -> str:
    if len(rows) == 1:
        return f"row {rows[0]}"
    shown = ", ".join(str(row) for row in rows[:_MOST_ROWS_NAMED])
    more = len(rows) - _MOST_ROWS_NAMED
    return f"rows {shown} and {more} more" if more > 0 else f"rows {shown}"


def _refuse(path: Path, faults: list[str]) -> None:
    if not faults:
        return
    shown = faults[:_MOST_FAULTS_SHOWN]
    more = len(faults) - len(shown)
    tail = f"\n  and {more} more" if more else ""
    raise InvalidInput(
        f"{path.name}: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n  " + "\n  ".join(shown) + tail
    )
