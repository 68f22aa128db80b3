from datetime import date

import pytest

from engines.clinical.table import read_clinical_table
from node.clinical.matching import match_row
from node.eligibility import judge_eligibility
from node.report.record import NotAssessable, ReasonCode
from node.study import Patient

HEADER = "patient_id,issuer,birth_date,sex,treatment_start,bclc,child_pugh,ecog,pvtt\n"


@pytest.fixture
def whole_table(tmp_path):
    def read(*lines):
        path = tmp_path / "clinical.csv"
        path.write_text(HEADER + "\n".join(lines) + "\n")
        return read_clinical_table(path)

    return read


@pytest.fixture
def table(whole_table):
    return lambda *lines: whole_table(*lines).rows


def judge(row, examined_on=date(2026, 3, 1), *, requested=False):
    return judge_eligibility(row, requested=requested, examined_on=examined_on, maximum_scan_age_weeks=8)


def test_without_a_row_a_risk_is_given_on_request_only():
    assert judge(None).refusal.code == ReasonCode.NOT_REQUESTED
    assert judge(None, requested=True).refusal is None


def test_a_row_of_the_population_is_a_request(table):
    (row,) = table("P1,,1960-01-01,male,2026-03-20,C,A,1,present")
    assert judge(row) == judge(row, requested=True)
    assert judge(row).refusal is None


@pytest.mark.parametrize(
    ("line", "word"),
    [("P1,,,,,C,C,1,", "Child-Pugh class C"), ("P1,,,,,C,A,2,", "ECOG"), ("P1,,,,,A,A,0,", "BCLC stage A")],
)
def test_a_patient_outside_the_population_gets_no_risk(table, line, word):
    refusal = judge(table(line)[0], requested=True).refusal
    assert refusal.code == ReasonCode.OUTSIDE_POPULATION
    assert word in refusal.reason


def test_a_scan_after_treatment_start_is_a_follow_up(table):
    (row,) = table("P1,,,,2026-02-20,C,A,0,present")
    refusal = judge(row).refusal
    assert refusal.code == ReasonCode.AFTER_TREATMENT_START
    assert "9 days after" in refusal.reason


def test_an_old_scan_and_contradictions_are_flagged(table):
    (row,) = table("P1,,,,2026-06-01,B,A,0,present")
    flags = judge(row).flags
    assert any("13.1 weeks" in flag for flag in flags)
    assert any("BCLC" in flag for flag in flags)


def test_the_row_is_found_by_identifier_and_issuer_and_checked_by_birth_date_and_sex(whole_table):
    rows = whole_table(
        "P1,HOSP_A,1960-01-01,male,,C,A,1,", "P1,HOSP_B,1970-01-01,female,,B,A,0,", "P2,,,,,B,A,0,"
    )
    found = match_row(
        rows,
        Patient(
            patient_id="P1",
            issuer_of_patient_id="HOSP_B",
            patient_birth_date=date(1970, 1, 1),
            patient_sex="F",
        ),
    )
    assert found is rows.rows[1]
    assert match_row(rows, Patient(patient_id="P3")) is None
    assert match_row(rows, Patient()) is None


@pytest.mark.parametrize(
    ("patient", "word"),
    [
        (Patient(patient_id="P1", patient_birth_date=date(1961, 1, 1)), "birth date"),
        (Patient(patient_id="P1", patient_sex="F"), "says male"),
    ],
)
def test_the_row_of_another_person_is_refused(whole_table, patient, word):
    verdict = match_row(whole_table("P1,,1960-01-01,male,,C,A,1,"), patient)
    assert isinstance(verdict, NotAssessable)
    assert verdict.code == ReasonCode.CLINICAL_ROW_CONTRADICTS
    assert word in verdict.reason


def test_an_identifier_without_issuer_that_fits_two_rows_is_refused(whole_table):
    rows = whole_table("P1,HOSP_A,,,,C,A,1,", "P1,HOSP_B,,,,B,A,0,")
    assert match_row(rows, Patient(patient_id="P1")).code == ReasonCode.CLINICAL_ROW_CONTRADICTS


def test_a_faulty_row_refuses_its_own_patient_alone_and_names_column_and_value(whole_table):
    found = whole_table("P1,HOSP_A,,,,C,A,x,perhaps", "P2,,,,,B,A,0,", "P1,HOSP_B,,,,B,A,0,")
    verdict = match_row(found, Patient(patient_id="P1", issuer_of_patient_id="HOSP_A"))
    assert verdict.code == ReasonCode.CLINICAL_ROW_INVALID
    assert "2 faults: row 2, column pvtt: pvtt: 'perhaps' is not one of absent, present" in verdict.reason
    assert "column ecog" in verdict.reason
    assert match_row(found, Patient(patient_id="P2")) is found.rows[0]
    assert match_row(found, Patient(patient_id="P1", issuer_of_patient_id="HOSP_B")) is found.rows[1]
    assert match_row(found, Patient(patient_id="P1")).code == ReasonCode.CLINICAL_ROW_INVALID


def test_a_second_row_of_a_patient_is_not_chosen_from(whole_table):
    verdict = match_row(whole_table("P1,,,,,C,A,1,", "P1,,,,,B,A,0,"), Patient(patient_id="P1"))
    assert verdict.code == ReasonCode.CLINICAL_ROW_INVALID
    assert "row 3, column patient_id: the same patient as in row 2" in verdict.reason


def test_what_was_not_checked_or_computed_is_said(tmp_path):
    path = tmp_path / "clinical.csv"
    path.write_text(
        "patient_id,birth_date,treatment_start,afp_date,bclc\nP1,,,,B\nP2,1970-01-01,2026-03-20,2025-11-01,B\n"
    )
    no_start, old = read_clinical_table(path).rows
    assert any("no treatment start is given" in flag for flag in judge(no_start).flags)
    flags = judge(old).flags
    assert any("afp_date 2025-11-01 lies 120 days from the scan" in flag for flag in flags)
    assert any("computed from other columns of the clinical row: Age" in flag for flag in flags)
