"""The clinical table: a CSV of one row a patient, its documented columns, and the checks at its door.

Columns (only ``patient_id`` must be there; every cell may be empty or ``unknown``, which means missing):

    patient_id                patient identifier as in the PACS
    issuer                    issuer of the patient identifier
    birth_date                YYYY-MM-DD
    sex                       male, female (M, F)
    treatment_start           first dose of the checkpoint inhibitor, time zero, YYYY-MM-DD
    afp_date liver_function_date ecog_date imaging_date   when these were determined, YYYY-MM-DD, not after time zero
    age_years                 at time zero; computed from birth_date and treatment_start when empty
    hbv cirrhosis previous_local_therapy pvtt lung_metastasis bone_metastasis lymph_node_metastasis
                              present, absent (yes, no, 1, 0)
    bclc                      B, C (0, A, D are known but lie outside the population of the method)
    child_pugh                A, B (C likewise); computed from the five parts when empty
    bilirubin_umol_l or bilirubin_mg_dl, albumin_g_l or albumin_g_dl, inr, encephalopathy_grade (0-4),
    ascites (none, mild, moderate, severe)                 the parts of Child-Pugh
    afp_ng_ml                 a number, or <=400, >400
    line_of_ici               1, 2 ... or >=2
    max_tumour_diameter_cm    a number, or <=5, >5
    number_of_tumours         with the diameter it gives the up-to-seven score
    up_to_seven               the score, or <=7, >7; computed from the two before when empty
    ecog                      0, 1 (2-4 likewise outside)
    regimen                   e.g. camrelizumab+apatinib (supplementary Table 8; see regimen.py)
    note...                   any column whose name begins with ``note`` is not read

The unit is part of the column's name. An unknown column is refused: a misspelt one would silently be missing. A cell that
cannot be believed spoils its own row alone: the row is left out and its faults are named.
"""

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from engines.clinical.regimen import Regimen, parse_regimen
from engines.clinical.scores import (
    MG_DL_BILIRUBIN_IN_UMOL_L,
    Ascites,
    LiverFunction,
    find_contradictions,
    score_child_pugh,
    score_up_to_seven,
)
from engines.clinical.variables import (
    ClinicalVariables,
    Value,
    Variable,
    categorise,
    parse_value,
)
from engines.errors import InvalidInput

VARIABLE_COLUMNS: Mapping[Variable, str] = {
    **{variable: variable.value for variable in Variable},
    Variable.AGE: "age_years",
    Variable.AFP: "afp_ng_ml",
    Variable.MAX_TUMOUR_DIAMETER: "max_tumour_diameter_cm",
}
"""Column of each variable; where a variable is measured, the unit is in the name."""

LABORATORY_DATES = ("afp_date", "liver_function_date", "ecog_date", "imaging_date")

CHILD_PUGH_COLUMNS = (
    "bilirubin_umol_l",
    "bilirubin_mg_dl",
    "albumin_g_l",
    "albumin_g_dl",
    "inr",
    "ascites",
    "encephalopathy_grade",
)
"""What a Child-Pugh class is computed from where the table does not give it."""
COLUMNS = (
    "patient_id",
    "issuer",
    "birth_date",
    "treatment_start",
    *LABORATORY_DATES,
    *VARIABLE_COLUMNS.values(),
    *CHILD_PUGH_COLUMNS,
    "number_of_tumours",
    "regimen",
)

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
"""What spreadsheets write instead of commas in some countries."""
_MISSING = ("", "unknown", "nan", "na", "n/a")
_MOST_FAULTS_SHOWN = 50
_AGE_TOLERANCE_YEARS = 1.0
_SCORE_TOLERANCE = 0.05
"""Half of the last written decimal of a diameter in cm."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalRow:
    """One patient of the clinical table.

    Attributes:
        row: line of the file, the header is line 1.
        treatment_start: time zero; None before the treatment is planned.
        laboratory_dates: date by column name, of those given.
        derived: variables that were computed from other columns of this row.
        contradictions: values that cannot be true together, in sentences; a reader decides.
    """

    row: int
    patient_id: str
    issuer: str = ""
    birth_date: date | None = None
    treatment_start: date | None = None
    laboratory_dates: Mapping[str, date]
    variables: ClinicalVariables
    regimen: Regimen | None = None
    derived: tuple[Variable, ...] = ()
    contradictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFault:
    """Why a row of the clinical table is left out.

    Attributes:
        row: line of the file, the header is line 1.
        column: "" when the row as a whole is torn.
        sentence: what was got and what was expected; it may hold a patient's value, so it does not go into a log.
        patient_ids: whose row it may be: all its cells where the row is torn, else its patient identifier.
        issuer: "" when not known.
    """

    row: int
    column: str = ""
    sentence: str
    patient_ids: frozenset[str]
    issuer: str = ""

    @property
    def place(self) -> str:
        """Row and column in words, without the value."""
        return f"row {self.row}, column {self.column}" if self.column else f"row {self.row}"

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClinicalTable:
    """A clinical table as it was read.

    Attributes:
        rows: one a patient, those without a fault.
        faults: of the rows that are left out, in the order of the file; of a patient with two rows, those of the later.
    """

    rows: tuple[ClinicalRow, ...]
    faults: tuple[RowFault, ...] = ()


def read_clinical_table(path: Path) -> ClinicalTable:
    """Returns the rows of a clinical CSV (UTF-8, comma; a byte order mark is allowed) and the faults of those left out.

    Raises:
        InvalidInput: it is not such a table at all: unreadable, or a column that is missing, unknown or there twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} cannot be read as a table in UTF-8: {error}") from error
    if not lines:
        raise InvalidInput(f"{path} is empty; expected a header with patient_id and other columns")
    header = [name.strip() for name in lines[0]]
    faults = _faults_of_header(header)
    if faults:
        raise InvalidInput(_listed(path, faults))
    rows: list[ClinicalRow] = []
    torn: list[RowFault] = []
    for number, cells in enumerate(lines[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            sentence = f"{len(cells)} cells, the header has {len(header)}"
            names = frozenset(name for cell in cells if (name := cell.strip()))
            torn.append(RowFault(row=number, sentence=sentence, patient_ids=names))
            continue
        reader = _RowReader(number, dict(zip(header, cells, strict=True)))
        row = reader.read()
        torn += reader.faults
        if row is not None:
            rows.append(row)
    whole, again = _part_by_identity(rows)
    return ClinicalTable(rows=whole, faults=tuple(sorted((*torn, *again), key=lambda fault: fault.row)))


def age_at(birth_date: date, day: date) -> float:
    """Returns the age in completed years on ``day``."""
    return float(day.year - birth_date.year - ((day.month, day.day) < (birth_date.month, birth_date.day)))


def complete_age(row: ClinicalRow, day: date) -> ClinicalRow:
    """Returns the row with the age on ``day`` where it was missing and the birth date is known.

    Before a treatment is planned there is no time zero: the age at the examination serves, said as derived.
    """
    if row.birth_date is None or row.variables.get(Variable.AGE) is not None:
        return row
    years = age_at(row.birth_date, day)
    value = Value(category=categorise(Variable.AGE, years), number=years)
    return replace(
        row,
        variables=ClinicalVariables(values={**row.variables.values, Variable.AGE: value}),
        derived=(*row.derived, Variable.AGE),
    )


class _RowReader:
    """Reads one row and collects its faults, so that all of them are named at once."""

    def __init__(self, row: int, cells: Mapping[str, str]) -> None:
        self._row = row
        self._cells = {name: cell.strip() for name, cell in cells.items()}
        self.faults: list[RowFault] = []

    def read(self) -> ClinicalRow | None:
        """Returns the row, or None when it has faults."""
        patient_id = self._cells["patient_id"]
        if not patient_id:
            self._fault("patient_id", "is empty")
        birth, start = self._date("birth_date"), self._date("treatment_start")
        dates = {name: day for name in LABORATORY_DATES if (day := self._date(name)) is not None}
        for name, day in dates.items():
            if start is not None and day > start:
                self._fault(name, f"{day} is after treatment_start {start}: not a predictor")
        values = {
            variable: value
            for variable, column in VARIABLE_COLUMNS.items()
            if (value := self._parsed(column, _reader_of(variable))) is not None
        }
        derived = [
            *self._derive_age(values, birth, start),
            *self._derive_child_pugh(values),
            *self._derive_up_to_seven(values),
        ]
        regimen = self._parsed("regimen", parse_regimen)
        if self.faults:
            return None
        variables = ClinicalVariables(values=values)
        return ClinicalRow(
            row=self._row,
            patient_id=patient_id,
            issuer=self._text("issuer") or "",
            birth_date=birth,
            treatment_start=start,
            laboratory_dates=dates,
            variables=variables,
            regimen=regimen,
            derived=tuple(derived),
            contradictions=find_contradictions(variables),
        )

    def _derive_age(
        self, values: dict[Variable, Value], birth: date | None, start: date | None
    ) -> list[Variable]:
        if birth is None or start is None:
            return []
        if birth >= start:
            self._fault("birth_date", f"{birth} is not before treatment_start {start}")
            return []
        years = age_at(birth, start)
        given = values.get(Variable.AGE)
        if given is not None:
            if given.number is not None and abs(given.number - years) > _AGE_TOLERANCE_YEARS:
                self._fault(
                    "age_years",
                    f"{given.number:g} is not the age {years:g} by birth_date and treatment_start",
                )
            return []
        return self._derived(values, "birth_date", Variable.AGE, years)

    def _derive_child_pugh(self, values: dict[Variable, Value]) -> list[Variable]:
        bilirubin = self._converted("bilirubin_umol_l", "bilirubin_mg_dl", MG_DL_BILIRUBIN_IN_UMOL_L)
        albumin = self._converted("albumin_g_l", "albumin_g_dl", 10.0)
        inr, grade = self._number("inr"), self._parsed("encephalopathy_grade", _whole)
        ascites = self._parsed("ascites", _ascites)
        if bilirubin is None or albumin is None or inr is None or grade is None or ascites is None:
            return []
        try:
            liver = LiverFunction(
                bilirubin_umol_l=bilirubin,
                albumin_g_l=albumin,
                inr=inr,
                ascites=ascites,
                encephalopathy_grade=grade,
            )
        except InvalidInput as error:
            self._fault("child_pugh", str(error))
            return []
        score = score_child_pugh(liver)
        given = values.get(Variable.CHILD_PUGH)
        if given is None:
            values[Variable.CHILD_PUGH] = Value(category=score.grade)
            return [Variable.CHILD_PUGH]
        if given.category != score.grade:
            self._fault(
                "child_pugh", f"{given.category} is not {score.grade} ({score.points} points from its parts)"
            )
        return []

    def _derive_up_to_seven(self, values: dict[Variable, Value]) -> list[Variable]:
        diameter, number = values.get(Variable.MAX_TUMOUR_DIAMETER), self._parsed("number_of_tumours", _whole)
        if diameter is None or diameter.number is None or number is None:
            return []
        try:
            score = score_up_to_seven(diameter.number, number)
        except InvalidInput as error:
            self._fault("number_of_tumours", str(error))
            return []
        given = values.get(Variable.UP_TO_SEVEN)
        if given is None:
            return self._derived(values, "number_of_tumours", Variable.UP_TO_SEVEN, score)
        differs = (
            given.category != categorise(Variable.UP_TO_SEVEN, score)
            if given.number is None
            else abs(given.number - score) > _SCORE_TOLERANCE
        )
        if differs:
            self._fault(
                "up_to_seven", f"{given.text()} is not {score:g} (diameter in cm + number of tumours)"
            )
        return []

    def _derived(
        self, values: dict[Variable, Value], column: str, variable: Variable, number: float
    ) -> list[Variable]:
        try:
            values[variable] = Value(category=categorise(variable, number), number=number)
        except InvalidInput as error:
            self._fault(column, str(error))
            return []
        return [variable]

    def _converted(self, column: str, other_column: str, factor: float) -> float | None:
        value, other = self._number(column), self._number(other_column)
        if value is not None and other is not None:
            self._fault(other_column, f"is given beside {column}; give one of the two units")
            return None
        return value if other is None else other * factor

    def _text(self, column: str) -> str | None:
        cell = self._cells.get(column, "")
        return None if cell.lower() in _MISSING else cell

    def _number(self, column: str) -> float | None:
        return self._parsed(column, float)

    def _date(self, column: str) -> date | None:
        return self._parsed(column, date.fromisoformat)

    def _parsed(self, column: str, parse: Callable[[str], T]) -> T | None:
        cell = self._text(column)
        if cell is None:
            return None
        try:
            return parse(cell)
        except InvalidInput as error:
            self._fault(column, str(error))
        except ValueError:
            self._fault(column, f"'{cell}' cannot be read; expected {_EXPECTED.get(parse, 'a number')}")
        return None

    def _fault(self, column: str, sentence: str) -> None:
        fault = RowFault(
            row=self._row,
            column=column,
            sentence=sentence,
            patient_ids=frozenset({self._cells["patient_id"]} - {""}),
            issuer=self._text("issuer") or "",
        )
        self.faults.append(fault)


def _reader_of(variable: Variable) -> Callable[[str], Value]:
    def parse(cell: str) -> Value:
        return parse_value(variable, cell)

    return parse


def _whole(cell: str) -> int:
    return int(cell)


def _ascites(cell: str) -> Ascites:
    return Ascites(cell.lower())


_EXPECTED: Mapping[Callable[[str], object], str] = {
    date.fromisoformat: "a date YYYY-MM-DD",
    _whole: "a whole number",
    _ascites: f"one of {', '.join(Ascites)}",
}


def _faults_of_header(header: Sequence[str]) -> list[str]:
    if len(header) == 1:
        for mark, name in OTHER_SEPARATORS.items():
            if mark in header[0]:
                return [
                    f"the columns are separated by {name}; expected commas (save it as CSV UTF-8, comma delimited)"
                ]
    faults = [f"column '{name}' is there {n} times" for name, n in Counter(header).items() if n > 1]
    if "patient_id" not in header:
        faults.append("column 'patient_id' is missing")
    for name in header:
        if name in COLUMNS or name.lower().startswith("note"):
            continue
        near = get_close_matches(name.lower(), COLUMNS, n=1)
        faults.append(f"column '{name}' is not known" + (f"; is it {near[0]}?" if near else ""))
    return faults


def _part_by_identity(rows: Sequence[ClinicalRow]) -> tuple[tuple[ClinicalRow, ...], list[RowFault]]:
    """Returns the first row of each patient, and a fault for every further one."""
    first: dict[tuple[str, str], ClinicalRow] = {}
    faults: list[RowFault] = []
    for row in rows:
        earlier = first.setdefault((row.patient_id, row.issuer), row)
        if earlier is not row:
            fault = RowFault(
                row=row.row,
                column="patient_id",
                sentence=f"the same patient as in row {earlier.row}",
                patient_ids=frozenset({row.patient_id}),
                issuer=row.issuer,
            )
            faults.append(fault)
    return tuple(first.values()), faults


def _listed(path: Path, faults: Sequence[str]) -> str:
    shown = "\n".join(faults[:_MOST_FAULTS_SHOWN])
    rest = len(faults) - _MOST_FAULTS_SHOWN
    return f"{path.name}:\n{shown}" + (f"\nand {rest} more" if rest > 0 else "")
