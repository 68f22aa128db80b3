"""The table of ready scores: columns sorted into outcomes, scores, clinical variables and groups, every cell checked.

Columns:

    patient_id                        one row a patient
    cohort                            training, validation, testing, or discovery, or any names
    os_months os_event                from the first dose; event 1 = death, 0 = censored; both empty = not known
    pfs_months pfs_event              progression or death; ``ttp_months ttp_event`` instead gives TTP, printed as TTP
    age sex hbv bclc ...              clinical variables under the names of the clinical table
    centre scanner vendor regimen aetiology response   groups in words; response is mRECIST: CR, PR, SD, PD, NE
    kvp slice_thickness_mm liver_box_ml   numbers of the examination: for shortcut baselines, never a model
    any other name                    a model's score, numbers, higher = higher risk; ``name_os`` and ``name_pfs``
                                      together are one model with a score for each endpoint
"""

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from io import StringIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from engines.clinical.regimen import parse_regimen
from engines.clinical.response import Response
from engines.clinical.table import VARIABLE_COLUMNS
from engines.clinical.variables import DEFINITIONS, Value, Variable, parse_value
from engines.errors import InvalidInput
from engines.survival.outcome import BoolArray, FloatArray, Outcome

DISCOVERY_PARTS = ("training", "validation")
"""Cohorts that together are the discovery cohort. Source: method, section 1."""

DISCOVERY = "discovery"

TESTING = "testing"

REGIMEN_COLUMN = "regimen"
"""Agents given, as the clinical table writes them: camrelizumab+apatinib. Source: supplementary Table 8."""

RESPONSE_COLUMN = "response"
"""mRECIST category at the first follow-up CT."""

GROUP_COLUMNS = ("centre", "scanner", "vendor", REGIMEN_COLUMN, "aetiology", RESPONSE_COLUMN)

BACKGROUND_COLUMNS = ("kvp", "slice_thickness_mm", "liver_box_ml")
"""Numbers that tell of the examination, not of the patient. Source: validity, trap 9 (shortcuts)."""

COPIES = {"training": "training (apparent)", "validation": "validation (selected on)"}
"""Names of the rows that networks alone were fitted or selected on, as an ablation writes them."""

FIT_COPIES = {
    "training": "training (apparent)",
    "validation": "validation (networks selected on, fused models apparent)",
}
"""The same patients once more, scored by what was fitted or chosen on them; beside the out-of-fold rows, never instead.

Forests, Radiomic, Benchmark and MMF are fitted on training and validation together: there they are apparent in both.
"""

LONGEST_FOLLOW_UP_MONTHS = 240.0
"""A longer time is days or weeks under the name of months (OURS)."""

_COPIED = tuple(FIT_COPIES.values())
_CLINICAL: Mapping[str, Variable] = {
    **{variable.value: variable for variable in Variable},
    **{column: variable for variable, column in VARIABLE_COLUMNS.items()},
}
_MISSING = frozenset(("", "unknown", "nan", "na", "n/a"))
_EVENT = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}
_MOST_FAULTS_SHOWN = 20
_CLOSE = 0.85
_SAME_TIME_MONTHS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EndpointColumns:
    """Follow-up for one endpoint.

    Attributes:
        name: OS, PFS or TTP.
        time: (n,) months, NaN where not known.
        event: (n,) bool, False where not known.
    """

    name: str
    time: FloatArray
    event: BoolArray

    @property
    def known(self) -> BoolArray:
        """(n,) whether the patient's follow-up is known."""
        return ~np.isnan(self.time)

    def outcome(self, rows: BoolArray) -> Outcome:
        """Returns the follow-up of rows that are all known."""
        return Outcome(self.time[rows], self.event[rows])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoreTable:
    """A checked table of n patients.

    Attributes:
        name: of the file or of the cohorts.
        sha256: of the file, or of the model that scored the cases.
        patient_ids: n.
        cohort: (n,) words.
        cohorts: names in the order of the tables; training and validation are followed by their sum, discovery.
        cutoff_cohort: the cohort that cut-offs come from.
        endpoints: those present.
        scores: model -> endpoint -> (n,) score, NaN where missing.
        clinical: variable -> n values, None where missing.
        groups: group column -> n words, "" where missing.
        background: numbers of the examination by column, (n,) NaN where missing.
        notes: what a reader must know, in sentences.
        released_cutoffs: endpoint -> model -> cut-off that belongs to a released model; used where there is one.
    """

    name: str
    sha256: str
    patient_ids: tuple[str, ...]
    cohort: npt.NDArray[np.str_]
    cohorts: tuple[str, ...]
    cutoff_cohort: str
    endpoints: tuple[EndpointColumns, ...]
    scores: Mapping[str, Mapping[str, FloatArray]]
    clinical: Mapping[Variable, tuple[Value | None, ...]]
    groups: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    background: Mapping[str, FloatArray] = field(default_factory=dict)
    released_cutoffs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def rows(self, cohort: str) -> BoolArray:
        """Returns (n,) which patients belong to a cohort; discovery is training and validation unless it is named."""
        if cohort == DISCOVERY and DISCOVERY not in self.cohort:
            return np.isin(self.cohort, DISCOVERY_PARTS)
        mask: BoolArray = self.cohort == cohort
        return mask

    @property
    def test_cohort(self) -> str:
        """The cohort the paper's figures show: testing, else the last one that is not part of discovery."""
        others = [name for name in self.cohorts if name not in (*DISCOVERY_PARTS, DISCOVERY, *_COPIED)]
        if TESTING in others:
            return TESTING
        return others[-1] if others else self.cohorts[-1]

    @property
    def own_cohorts(self) -> tuple[str, ...]:
        """The cohorts without the copies: every patient is in one of them, or in discovery too."""
        return tuple(name for name in self.cohorts if name not in _COPIED)

    @property
    def patients(self) -> int:
        """Number of patients; the copy of a row is no further patient."""
        return int((~np.isin(self.cohort, _COPIED)).sum())

    def title(self, cohort: str) -> str:
        """Returns how a table heads a cohort; what its scores are worth is part of the name."""
        if cohort in FIT_COPIES and any(copy in self.cohorts for copy in _COPIED):
            return f"{cohort}, out-of-fold"
        return COPIES[cohort] if cohort == DISCOVERY_PARTS[1] else cohort


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
    if len(lines) < 2:
        raise InvalidInput(f"{path} holds no patient; expected a header and one row a patient")
    header = [name.strip() for name in lines[0]]
    body = [[cell.strip() for cell in line] for line in lines[1:] if any(cell.strip() for cell in line)]
    _refuse(path, _faults_of_header(header))
    _refuse(
        path,
        [
            f"row {row}: {len(cells)} cells, the header has {len(header)}"
            for row, cells in enumerate(body, start=2)
            if len(cells) != len(header)
        ],
    )
    columns = {name: [cells[place] for cells in body] for place, name in enumerate(header)}
    reader = _Reader(columns)
    table = reader.read(path.name, hashlib.sha256(content).hexdigest())
    _refuse(path, reader.faults)
    return table


def order_cohorts(cohort: npt.NDArray[np.str_]) -> tuple[tuple[str, ...], str]:
    """Returns the cohorts in the order of the tables, and the one that cut-offs come from.

    Training and validation come first, followed by their sum, discovery; cut-offs come from discovery, or from the
    first cohort named when there is none. The copy of a part stands beside it.
    """
    named = list(dict.fromkeys(str(word) for word in cohort))
    order = [name for part in DISCOVERY_PARTS for name in (part, FIT_COPIES[part])]
    parts = [name for name in order if name in named]
    others = [name for name in named if name not in order]
    if set(DISCOVERY_PARTS) <= set(parts):
        return (*parts, DISCOVERY, *others), DISCOVERY
    if parts:
        return (*parts, *others), parts[0]
    if DISCOVERY in named:
        return (DISCOVERY, *(name for name in others if name != DISCOVERY)), DISCOVERY
    return tuple(named), named[0]


def describe_data(
    endpoints: tuple[EndpointColumns, ...], clinical: Mapping[Variable, tuple[Value | None, ...]]
) -> tuple[str, ...]:
    """Returns what a reader must know of the data: contradictions, unknown follow-up, categories outside the population."""
    return (*_contradictions(endpoints), *_outside(clinical))


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
    faults += [f"column {place} has no name" for place, name in enumerate(header, start=1) if not name]
    second = "ttp" if "ttp_months" in header else "pfs"
    needed = ("patient_id", "cohort", "os_months", "os_event", f"{second}_months", f"{second}_event")
    missing = [name for name in needed if name not in header]
    if missing:
        faults.append(
            f"missing column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; expected {', '.join(needed)},"
            " then model scores or clinical variables"
        )
    known = {*_CLINICAL, *GROUP_COLUMNS, *BACKGROUND_COLUMNS, *needed}
    for name in header:
        if name and name not in known and name.lower() not in known:
            close = get_close_matches(name.lower(), known, 1, _CLOSE)
            if close:
                faults.append(f"column '{name}': is it {close[0]}? Correct it, or name the score less alike")
    return faults


class _Reader:
    """Reads the columns and collects every fault, so that all of them are named at once."""

    def __init__(self, columns: Mapping[str, list[str]]) -> None:
        self._columns = columns
        self._n = len(next(iter(columns.values())))
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

    def _read_endpoint(self, word: str) -> EndpointColumns:
        time, event = np.full(self._n, np.nan), np.zeros(self._n, dtype=np.bool_)
        months, events = self._columns[f"{word}_months"], self._columns[f"{word}_event"]
        for row, (cell, flag) in enumerate(zip(months, events, strict=True)):
            if cell.lower() in _MISSING and flag.lower() in _MISSING:
                continue
            value = _number(cell)
            if value is None or not 0 <= value <= LONGEST_FOLLOW_UP_MONTHS:
                self._fault(
                    row,
                    f"{word}_months '{cell}' is not a time of 0 to {LONGEST_FOLLOW_UP_MONTHS:g} months"
                    " (days or weeks? an event before time zero?)",
                )
            elif flag.lower() not in _EVENT:
                self._fault(row, f"{word}_event '{flag}' is not 0 or 1")
            else:
                time[row], event[row] = value, _EVENT[flag.lower()]
        if np.isnan(time).all() and not self.faults:
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
        taken = {"patient_id", "cohort", *_CLINICAL, *GROUP_COLUMNS, *BACKGROUND_COLUMNS}
        taken |= {f"{name.lower()}_{part}" for name in endpoints for part in ("months", "event")}
        taken |= {"ttp_months", "ttp_event", "pfs_months", "pfs_event"}
        scores: dict[str, dict[str, FloatArray]] = {}
        for column in self._columns:
            if column.lower() in taken:
                continue
            values = self._read_score(column)
            pair = re.fullmatch(r"(.+)_([a-z]+)", column, re.IGNORECASE)
            siblings = [f"{pair[1]}_{name}" for name in endpoints] if pair else []
            lower = {name.lower() for name in self._columns}
            if pair and pair[2].upper() in endpoints and all(name.lower() in lower for name in siblings):
                scores.setdefault(pair[1], {})[pair[2].upper()] = values
            else:
                scores[column] = dict.fromkeys(endpoints, values)
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
                    f"column '{column}': '{cell}' is not a number; a score is a number, a group in words is one of"
                    f" {', '.join(GROUP_COLUMNS)}",
                )
            else:
                values[row] = value
        if np.isnan(values).all():
            self.faults.append(f"column '{column}' holds no score")
        return values

    def _fault(self, row: int, words: str) -> None:
        self.faults.append(f"row {row + 2}: {words}")


def _cohort_name(cell: str) -> str:
    """The cohorts of the paper are known in any case; other names stay as they are."""
    return cell.lower() if cell.lower() in (*DISCOVERY_PARTS, DISCOVERY, TESTING) else cell


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _contradictions(endpoints: tuple[EndpointColumns, ...]) -> list[str]:
    first, second = endpoints
    both = first.known & second.known
    later = int((both & (second.time > first.time + _SAME_TIME_MONTHS)).sum())
    missed = int((both & first.event & ~second.event & (second.time >= first.time - _SAME_TIME_MONTHS)).sum())
    notes = []
    if later:
        notes.append(
            f"In {later} patients {second.name} time is longer than {first.name} time: check the table."
        )
    if missed and second.name == "PFS":
        notes.append(
            f"In {missed} patients death came at the last {second.name} time but is not counted as a PFS event,"
            " although PFS is progression or death: check the table."
        )
    for endpoint in endpoints:
        unknown = int((~endpoint.known).sum())
        if unknown:
            notes.append(
                f"{endpoint.name} is not known for {unknown} patients; they are left out of its statistics."
                " No row means not known, never alive today."
            )
    return notes


def _outside(clinical: Mapping[Variable, tuple[Value | None, ...]]) -> list[str]:
    notes = []
    for variable, values in clinical.items():
        definition = DEFINITIONS[variable]
        counts = Counter(v.category for v in values if v is not None and v.category in definition.outside)
        if counts:
            words = ", ".join(f"{category} ({count})" for category, count in sorted(counts.items()))
            notes.append(
                f"{definition.title}: categories outside the method's population are present and shown as their"
                f" own rows: {words}."
            )
    return notes


def _refuse(path: Path, faults: list[str]) -> None:
    if not faults:
        return
    shown = faults[:_MOST_FAULTS_SHOWN]
    more = len(faults) - len(shown)
    tail = f"\n  and {more} more" if more else ""
    raise InvalidInput(
        f"{path.name}: {len(faults)} fault{'s' if len(faults) > 1 else ''}\n  " + "\n  ".join(shown) + tail
    )
