"""The clinical CSV: what is read, what is derived, what is missing, and that every fault is named at once."""

import re
from datetime import date

import pytest

from engines.clinical.table import COLUMNS, VARIABLE_COLUMNS, complete_age, read_clinical_table
from engines.clinical.variables import ALL_VARIABLES, Variable
from engines.errors import InvalidInput

FULL = {
    "patient_id": "P1",
    "issuer": "HOSPITAL",
    "birth_date": "1960-05-02",
    "sex": "M",
    "treatment_start": "2024-05-01",
    "afp_date": "2024-04-20",
    "hbv": "present",
    "bclc": "C",
    "bilirubin_mg_dl": "1.2",
    "albumin_g_dl": "3.4",
    "inr": "1.1",
    "ascites": "None",
    "encephalopathy_grade": "0",
    "cirrhosis": "yes",
    "afp_ng_ml": "1200",
    "line_of_ici": "1",
    "previous_local_therapy": "no",
    "pvtt": "present",
    "lung_metastasis": "absent",
    "bone_metastasis": "absent",
    "lymph_node_metastasis": "absent",
    "max_tumour_diameter_cm": "8.2",
    "number_of_tumours": "3",
    "ecog": "1",
    "regimen": "camrelizumab+apatinib",
}


def write(folder, *rows, encoding="utf-8"):
    header = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(header)] + [",".join(row.get(name, "") for name in header) for row in rows]
    path = folder / "clinical.csv"
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def test_reads_a_full_row_and_derives_age_child_pugh_and_up_to_seven(tmp_path):
    (row,) = read_clinical_table(write(tmp_path, FULL, encoding="utf-8-sig")).rows
    assert row.variables.missing() == ()
    assert row.variables.get(Variable.AGE).number == 63  # one day before the birthday
    assert row.variables.get(Variable.CHILD_PUGH).category == "A"  # 20.5 umol/L, 34 g/L: 6 points
    assert row.variables.get(Variable.UP_TO_SEVEN).number == pytest.approx(11.2)
    assert row.derived == (Variable.AGE, Variable.CHILD_PUGH, Variable.UP_TO_SEVEN)
    assert row.treatment_start == date(2024, 5, 1)
    assert row.laboratory_dates == {"afp_date": date(2024, 4, 20)}
    assert row.regimen.text() == "camrelizumab+apatinib"
    assert row.contradictions == ()


def test_missing_is_allowed_and_stated(tmp_path):
    (row,) = read_clinical_table(
        write(tmp_path, {"patient_id": "P1", "afp_ng_ml": "unknown", "pvtt": ""})
    ).rows
    assert row.variables.missing() == ALL_VARIABLES
    assert (row.birth_date, row.treatment_start, row.regimen) == (None, None, None)


def test_age_at_the_examination_when_no_treatment_is_planned(tmp_path):
    given = {"patient_id": "P1", "birth_date": "1960-05-02"}
    (row,) = read_clinical_table(write(tmp_path, given)).rows
    assert row.variables.get(Variable.AGE) is None
    completed = complete_age(row, date(2024, 5, 2))
    assert completed.variables.get(Variable.AGE).number == 64
    assert completed.derived == (Variable.AGE,)
    assert complete_age(completed, date(2030, 1, 1)) is completed


def test_names_row_and_column_of_every_fault_at_once(tmp_path):
    bad = {
        "patient_id": "",
        "birth_date": "02.05.1960",
        "max_tumour_diameter_cm": "82",
        "pvtt": "perhaps",
        "ecog": "x",
        "bilirubin_umol_l": "low",
    }
    table = read_clinical_table(write(tmp_path, FULL, bad))
    told = "\n".join(map(str, table.faults))
    for fault in (
        "row 3, column patient_id: is empty",
        "row 3, column birth_date: '02.05.1960' cannot be read; expected a date YYYY-MM-DD",
        "row 3, column max_tumour_diameter_cm: max_tumour_diameter: 82 is not plausible in cm",
        "row 3, column pvtt: pvtt: 'perhaps' is not one of absent, present",
        "row 3, column ecog",
        "row 3, column bilirubin_umol_l: 'low' cannot be read; expected a number",
    ):
        assert fault in told


def test_a_faulty_cell_spoils_its_own_row_alone_and_says_whose_it_is(tmp_path):
    bad = {"patient_id": "P2", "issuer": "HOSPITAL", "ecog": "x"}
    table = read_clinical_table(write(tmp_path, FULL, bad, {**FULL, "patient_id": "P3"}))
    assert [row.patient_id for row in table.rows] == ["P1", "P3"]
    (fault,) = table.faults
    assert (fault.row, fault.column, fault.place) == (3, "ecog", "row 3, column ecog")
    assert (fault.patient_ids, fault.issuer) == ({"P2"}, "HOSPITAL")


def test_a_torn_row_may_be_anybodys_whom_it_names(tmp_path):
    path = tmp_path / "clinical.csv"
    path.write_text("patient_id,bclc,ecog\nP1,C,1\nP2,portal, vein,C,1\n")
    table = read_clinical_table(path)
    assert [row.patient_id for row in table.rows] == ["P1"]
    (fault,) = table.faults
    assert fault.patient_ids >= {"P2"}
    assert str(fault) == "row 3: 5 cells, the header has 3"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"afp_date": "2024-05-02"}, "column afp_date: 2024-05-02 is after treatment_start"),
        ({"birth_date": "2024-06-01"}, "column birth_date: 2024-06-01 is not before"),
        ({"age_years": "45"}, "column age_years: 45 is not the age 63"),
        ({"child_pugh": "B"}, "column child_pugh: B is not A \\(6 points"),
        ({"up_to_seven": "9"}, "column up_to_seven: 9 is not 11.2"),
        ({"up_to_seven": "<=7"}, "column up_to_seven: <=7 is not 11.2"),
        ({"bilirubin_umol_l": "20"}, "give one of the two units"),
        ({"albumin_g_dl": "34"}, "column child_pugh: albumin_g_l: 340 is not plausible"),
        ({"number_of_tumours": "2.5"}, "column number_of_tumours: '2.5' cannot be read; expected a whole"),
        ({"number_of_tumours": "0"}, "column number_of_tumours: number of tumours: got 0"),
        ({"ascites": "some"}, "column ascites: 'some' cannot be read; expected one of none, mild"),
        ({"regimen": "aspirin"}, "column regimen: regimen: 'aspirin' is not one of"),
    ],
)
def test_refuses_rows_that_contradict_themselves(tmp_path, change, fault):
    table = read_clinical_table(write(tmp_path, {**FULL, **change}))
    assert table.rows == ()
    assert re.search(fault, "\n".join(map(str, table.faults)))


def test_a_contradiction_of_findings_is_told_not_refused(tmp_path):
    (row,) = read_clinical_table(write(tmp_path, {**FULL, "bclc": "B"})).rows
    assert "portal vein tumour thrombus" in row.contradictions[0]


def test_refuses_an_unknown_column_and_suggests_the_right_one(tmp_path):
    with pytest.raises(InvalidInput, match="column 'AFP_ng_mL' is not known; is it afp_ng_ml"):
        read_clinical_table(write(tmp_path, {"patient_id": "P1", "AFP_ng_mL": "3"}))
    (row,) = read_clinical_table(write(tmp_path, {"patient_id": "P1", "Note of the ward": "free text"})).rows
    assert row.patient_id == "P1"


def test_refuses_files_that_are_no_table(tmp_path):
    path = tmp_path / "clinical.csv"
    for content, fault in (
        (b"", "is empty"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"issuer\nA\n", "'patient_id' is missing"),
        (b"patient_id,patient_id\nA,B\n", "is there 2 times"),
    ):
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match=fault):
            read_clinical_table(path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_clinical_table(tmp_path / "absent.csv")


def test_the_second_row_of_a_patient_is_a_fault(tmp_path):
    path = tmp_path / "clinical.csv"
    path.write_text("patient_id\nA\nB\nA\n")
    table = read_clinical_table(path)
    assert [row.row for row in table.rows] == [2, 3]
    assert [str(fault) for fault in table.faults] == [
        "row 4, column patient_id: the same patient as in row 2"
    ]


def test_a_table_separated_by_semicolons_is_told_so(tmp_path):
    path = tmp_path / "clinical.csv"
    path.write_text("patient_id;ecog\nP1;1\n")
    with pytest.raises(InvalidInput, match="separated by semicolons; expected commas"):
        read_clinical_table(path)


def test_every_variable_has_a_column_and_the_docstring_names_each(tmp_path):
    assert set(VARIABLE_COLUMNS) == set(Variable)
    text = __import__("engines.clinical.table", fromlist=["x"]).__doc__
    assert [name for name in COLUMNS if name not in text] == []
