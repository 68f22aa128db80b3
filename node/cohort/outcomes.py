"""Outcomes of patients: a CSV of dates, read and checked, cut at one day for all, joined to exported cases.

Columns (``patient_id`` and ``treatment_start`` must be there; a cell may be empty where nothing is known):

    patient_id       patient identifier as in the PACS
    issuer           issuer of the patient identifier
    treatment_start  first dose of the checkpoint inhibitor, time zero, YYYY-MM-DD
    death            day of death, YYYY-MM-DD
    progression      day of progression, YYYY-MM-DD
    last_contact     last day on which the patient was known to be alive, YYYY-MM-DD; OS is censored there
    last_imaging     day of the last imaging, YYYY-MM-DD; PFS is censored there
    note...          any column whose name begins with ``note`` is not read

OS = death; PFS = progression or death, whichever comes first. Nobody is "alive today": a patient without death needs
``last_contact``. Everything after the administrative cut, one day for all, is not seen: the data freeze less the reporting
lag. Source: method, section 1; validity, trap 3.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from difflib import get_close_matches
from pathlib import Path

from engines.endpoint import Endpoint
from node.errors import OutcomesRefused

COLUMNS = (
    "patient_id",
    "issuer",
    "treatment_start",
    "death",
    "progression",
    "last_contact",
    "last_imaging",
)
_NEEDED = ("patient_id", "treatment_start")
_DATES = COLUMNS[2:]

DAYS_PER_MONTH = 30.4375
"""Mean length of a month of the Gregorian calendar, 365.25 / 12."""

FIRST_DAY_MONTHS = 0.5 / DAYS_PER_MONTH
"""Time of an event on the day of the first dose: half a day, since a follow-up of 0 enters no risk set (OURS)."""

_MISSING = frozenset(("", "unknown", "nan", "na", "n/a"))
_MOST_FAULTS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeRow:
    """One patient of the outcomes table.

    Attributes:
        row: line of the file, the header is line 1.
    """

    row: int
    patient_id: str
    issuer: str
    treatment_start: date
    death: date | None = None
    progression: date | None = None
    last_contact: date | None = None
    last_imaging: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """Observed time and event of one endpoint, as outcomes.json holds them.

    Attributes:
        months: from the first dose, > 0.
    """

    months: float
    event: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientOutcome:
    """Follow-up of one patient at the cut.

    Attributes:
        follow_up: by endpoint; an endpoint is absent where nothing can be said of it.
        potential_months: from the first dose to the cut; negative when the treatment began after it.
        notes: what is not as the table means it, in words without dates.
    """

    follow_up: Mapping[Endpoint, FollowUp]
    potential_months: float
    notes: tuple[str, ...] = ()


def read_outcomes(path: Path, freeze: date) -> tuple[OutcomeRow, ...]:
    """Returns the rows of an outcomes table (UTF-8, comma; a byte order mark is allowed).

    Args:
        path: of the CSV.
        freeze: day of the data freeze; no date may be later.

    Raises:
        OutcomesRefused: it is not such a table, or dates that cannot be true; every fault is named with row and column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OutcomesRefused(f"{path} cannot be read as a table in UTF-8: {error}") from error
    if not lines:
        raise OutcomesRefused(f"{path} is empty; expected a header with {', '.join(COLUMNS)}")
    header = [name.strip() for name in lines[0]]
    faults = _faults_of_header(header)
    if faults:
        raise OutcomesRefused(_listed(path, faults))
    rows: list[OutcomeRow] = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            faults.append(f"row {number}: {len(cells)} cells, the header has {len(header)}")
            continue
        row = _read_row(number, dict(zip(header, (cell.strip() for cell in cells), strict=True)), faults)
        if row is not None:
            faults += _faults_of_dates(row, freeze)
            rows.append(row)
    faults += _faults_of_identity(rows)
    if faults:
        raise OutcomesRefused(_listed(path, faults))
    return tuple(rows)


def write_template(rows: Sequence[Mapping[str, str]] = ()) -> str:
    """Returns an outcomes table with its header, and a row for each of ``rows``."""
    lines = [",".join(COLUMNS)]
    lines += [",".join(_quoted(row.get(name, "")) for name in COLUMNS) for row in rows]
    return "\n".join(lines) + "\n"


def describe_outcome(row: OutcomeRow, cut: date) -> PatientOutcome:
    """Returns the follow-up of a patient with everything after the cut unseen.

    Args:
        row: checked.
        cut: the administrative cut, the same for all patients.
    """
    start, notes = row.treatment_start, []
    follow_up: dict[Endpoint, FollowUp] = {}
    if start < cut:
        known = _follow(start, cut, row.death, row.last_contact)
        if known is not None:
            follow_up[Endpoint.OS] = known
        first = min((day for day in (row.progression, row.death) if day is not None), default=None)
        known = _follow(start, cut, first, row.last_imaging)
        if known is None:
            notes.append("PFS is not known: neither progression nor death, and no last imaging")
        else:
            follow_up[Endpoint.PFS] = known
        if row.death is not None and row.death > cut:
            notes.append("the death after the administrative cut is not seen")
    else:
        notes.append("the treatment began after the administrative cut: no follow-up yet")
    return PatientOutcome(
        follow_up=follow_up, potential_months=_months(start, cut) if start < cut else 0.0, notes=tuple(notes)
    )


def _follow(start: date, cut: date, event: date | None, last_seen: date | None) -> FollowUp | None:
    """Time to the event or to the last day seen, both no later than the cut; None where neither is known."""
    if event is not None and event <= cut:
        return FollowUp(months=_months(start, event), event=True)
    days = [day for day in (last_seen, event) if day is not None]
    if not days:
        return None
    end = min(max(days), cut)
    return FollowUp(months=_months(start, end), event=False)


def _months(start: date, end: date) -> float:
    days = (end - start).days
    return days / DAYS_PER_MONTH if days > 0 else FIRST_DAY_MONTHS


def _faults_of_header(header: Sequence[str]) -> list[str]:
    faults = [f"column {name} is missing" for name in _NEEDED if name not in header]
    for place, name in enumerate(header, start=1):
        if name in header[: place - 1]:
            faults.append(f"column {name} is there twice")
        elif name not in COLUMNS and not name.startswith("note"):
            close = get_close_matches(name, COLUMNS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            faults.append(f"column '{name}' is not one of {', '.join(COLUMNS)}{hint}")
    return faults


def _read_row(number: int, cells: Mapping[str, str], faults: list[str]) -> OutcomeRow | None:
    before = len(faults)
    days: dict[str, date] = {}
    for name in _DATES:
        text = cells.get(name, "")
        if text.lower() in _MISSING:
            continue
        try:
            days[name] = date.fromisoformat(text)
        except ValueError:
            faults.append(f"row {number}, column {name}: '{text}' is not a date YYYY-MM-DD")
    if cells["patient_id"].lower() in _MISSING:
        faults.append(f"row {number}, column patient_id: is empty")
    if "treatment_start" not in days and len(faults) == before:
        faults.append(
            f"row {number}, column treatment_start: is empty; without time zero there is no outcome"
        )
    if len(faults) > before:
        return None
    return OutcomeRow(row=number, patient_id=cells["patient_id"], issuer=cells.get("issuer", ""), **days)


def _faults_of_dates(row: OutcomeRow, freeze: date) -> list[str]:
    """What cannot be true together, each with the column to look at."""
    start, place = row.treatment_start, f"row {row.row}, column"
    named = {name: day for name in _DATES if (day := _day(row, name)) is not None}
    faults = [
        f"{place} {name}: {day} is before treatment_start {start}: an event or contact before time zero"
        for name, day in named.items()
        if day < start
    ]
    faults += [
        f"{place} {name}: {day} is after the data freeze of {freeze}"
        for name, day in named.items()
        if day > freeze
    ]
    if row.death is not None:
        faults += [
            f"{place} {name}: {named[name]} is after the death of {row.death}"
            for name in ("progression", "last_contact", "last_imaging")
            if name in named and named[name] > row.death
        ]
    elif row.last_contact is None:
        faults.append(
            f"{place} last_contact: is empty without a death: nobody is taken for alive today; give the last documented "
            "contact"
        )
    elif row.last_imaging is not None and row.last_imaging > row.last_contact:
        faults.append(
            f"{place} last_contact: {row.last_contact} is before the last imaging of {row.last_imaging}, which was a contact"
        )
    elif row.last_contact == start:
        faults.append(f"{place} last_contact: is the day of the first dose: no follow-up at all")
    return faults


def _day(row: OutcomeRow, name: str) -> date | None:
    days: dict[str, date | None] = {
        "treatment_start": row.treatment_start,
        "death": row.death,
        "progression": row.progression,
        "last_contact": row.last_contact,
        "last_imaging": row.last_imaging,
    }
    return days[name]


def _faults_of_identity(rows: Sequence[OutcomeRow]) -> list[str]:
    """One row a patient; without its issuer an identifier may be any patient's who has it."""
    earlier: dict[str, list[OutcomeRow]] = {}
    faults: list[str] = []
    for row in rows:
        for other in earlier.setdefault(row.patient_id, []):
            if other.issuer == row.issuer:
                faults.append(f"row {row.row}, column patient_id: the same patient as in row {other.row}")
                break
            if not (other.issuer and row.issuer):
                faults.append(
                    f"row {row.row}, column issuer: the identifier stands in row {other.row} too, and one of them has no"
                    " issuer: it may be the same patient"
                )
                break
        earlier[row.patient_id].append(row)
    return faults


def _listed(path: Path, faults: Sequence[str]) -> str:
    shown = list(faults[:_MOST_FAULTS_SHOWN])
    if len(faults) > len(shown):
        shown.append(f"... and {len(faults) - len(shown)} more")
    return f"{path} has {len(faults)} {'fault' if len(faults) == 1 else 'faults'}:\n" + "\n".join(shown)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text


def cut_of(freeze: date, reporting_lag_days: int) -> date:
    """Returns the administrative cut: the data freeze less the reporting lag."""
    return freeze - timedelta(days=reporting_lag_days)
