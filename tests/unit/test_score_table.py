"""The table of scores: what is read from it, and the one clear error of each bad input."""

import csv

import numpy as np
import pytest

from engines.clinical.variables import Variable
from engines.errors import InvalidInput
from train.evaluate.score_file import read_score_table

HEADER = ["patient_id", "cohort", "os_months", "os_event", "pfs_months", "pfs_event", "MMF"]


def rows(n=6):
    return [
        [f"P{k}", "training" if k < 3 else "testing", str(4 + k), str(k % 2), str(2 + k), "1", str(k / 10)]
        for k in range(n)
    ]


@pytest.fixture
def write(tmp_path):
    def write(header, body):
        path = tmp_path / "scores.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, *body])
        return path

    return write


def with_column(name, values):
    return [*HEADER, name], [[*row, value] for row, value in zip(rows(), values, strict=True)]


def with_cell(row, column, value):
    body = rows()
    body[row][HEADER.index(column)] = value
    return HEADER, body


def test_columns_are_sorted_into_outcomes_scores_variables_and_groups(write):
    header = [*HEADER, "age", "centre", "afp_ng_ml"]
    body = [[*row, "61", "Leiden", "<=400"] for row in rows()]
    table = read_score_table(write(header, body))
    assert table.cohorts == ("training", "testing")
    assert table.cutoff_cohort == "training"
    assert table.test_cohort == "testing"
    assert list(table.scores) == ["MMF"]
    assert list(table.clinical) == [Variable.AGE, Variable.AFP]
    assert table.groups == {"centre": ("Leiden",) * 6}
    assert [endpoint.name for endpoint in table.endpoints] == ["OS", "PFS"]


def test_discovery_is_training_and_validation(write):
    body = rows()
    body[1][1] = "validation"
    table = read_score_table(write(HEADER, body))
    assert table.cohorts == ("training", "validation", "discovery", "testing")
    assert table.cutoff_cohort == "discovery"
    assert table.rows("discovery").sum() == 3


def test_first_cohort_named_gives_the_cutoffs_when_there_is_no_discovery(write):
    body = [[row[0], "Porto" if k < 2 else "Lyon", *row[2:]] for k, row in enumerate(rows())]
    table = read_score_table(write(HEADER, body))
    assert table.cutoff_cohort == "Porto"
    assert table.test_cohort == "Lyon"


def test_scores_by_endpoint_are_one_model(write):
    header = [*HEADER[:-1], "net_os", "net_pfs"]
    body = [[*row[:-1], "1", "2"] for row in rows()]
    table = read_score_table(write(header, body))
    assert table.scores["net"]["OS"][0] == 1
    assert table.scores["net"]["PFS"][0] == 2


def test_ttp_stands_in_for_pfs_under_its_own_name(write):
    header = [name.replace("pfs", "ttp") for name in HEADER]
    assert [endpoint.name for endpoint in read_score_table(write(header, rows())).endpoints] == ["OS", "TTP"]


def test_regimens_are_validated_and_written_alike(write):
    header, body = with_column("regimen", ["Apatinib + AiRuiKa"] * 5 + [""])
    assert read_score_table(write(header, body)).groups["regimen"][4:] == ("camrelizumab+apatinib", "")


def test_cohorts_of_the_paper_are_known_in_any_case(write):
    table = read_score_table(write(HEADER, [[row[0], row[1].title(), *row[2:]] for row in rows()]))
    assert table.cohorts == ("training", "testing")


def test_unknown_follow_up_is_left_out_and_said(write):
    header, body = with_cell(0, "os_months", "")
    body[0][HEADER.index("os_event")] = ""
    table = read_score_table(write(header, body))
    assert np.isnan(table.endpoints[0].time[0])
    assert any("OS is not known for 1 patients" in note for note in table.notes)


def test_contradicting_endpoints_are_said(write):
    table = read_score_table(write(*with_cell(0, "pfs_months", "9")))
    assert any("In 1 patients PFS time is longer than OS time" in note for note in table.notes)


def test_follow_up_of_more_than_ten_years_is_asked_to_be_months(write):
    notes = read_score_table(write(*with_cell(0, "os_months", "150"))).notes
    assert any("longest follow-up is 150.0 months" in note and "weeks" in note for note in notes)


def test_categories_outside_the_population_are_allowed_and_said(write):
    table = read_score_table(write(*with_column("bclc", ["A", "B", "C", "C", "B", "A"])))
    assert any("BCLC stage" in note and "A (2)" in note for note in table.notes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            (HEADER[:2] + HEADER[4:], [row[:2] + row[4:] for row in rows()]),
            "missing columns os_months, os_event",
        ),
        (with_cell(2, "os_months", "-3"), "row 4: os_months '-3' is not a time of 0 to 240 months"),
        (with_cell(2, "os_months", "900"), "days or weeks"),
        (with_cell(1, "os_event", "2"), "row 3: os_event '2' is not 0 or 1"),
        (with_cell(1, "os_event", ""), "row 3: os_months '5' and os_event '': give both or neither"),
        (
            with_cell(1, "os_months", "12,5"),
            "os_months '12,5' is not a number .a point stands before decimals",
        ),
        (
            with_column("remark", ["late"] * 6),
            "1 fault\n  rows 2, 3, 4, 5, 6 and 1 more: column 'remark': 'late'",
        ),
        (with_cell(1, "patient_id", "P0"), "patient_id P0 is there 2 times"),
        (with_cell(1, "cohort", ""), "cohort is empty in 1 rows"),
        (with_cell(1, "cohort", "discovery"), "discovery = training . validation"),
        (with_cell(1, "MMF", "high"), "column 'MMF': 'high' is not a number"),
        (with_column("Net", [""] * 6), "column 'Net' holds no score"),
        (
            with_column("child_pugh", ["A", "B", "A", "E", "A", "B"]),
            "row 5: child_pugh: 'E' is not one of A, B, C",
        ),
        (with_column("max_tumour_diameter_cm", ["4", "55", "3", "2", "1", "6"]), "is it a diameter in mm"),
        (with_column("regimen", ["sorafenib"] * 6), "0 checkpoint inhibitors"),
        (with_column("lung_metastases", ["1"] * 6), "is it lung_metastasis"),
        (with_column("MMF", ["1"] * 6), "column 'MMF' is there 2 times"),
        (([*HEADER[:-1]], [row[:-1] for row in rows()]), "neither a model score nor a clinical variable"),
        ((HEADER, []), "holds no patient"),
        ((HEADER, [[""] * 7]), "holds no patient"),
        (([";".join(HEADER)], [[";".join(row)] for row in rows()]), "separated by semicolons"),
        (with_column("albumin_g_l", ["4.0"] * 6), "would be taken for a score; give child_pugh"),
        (with_column("ttp_months", ["3"] * 6), "both pfs_months and ttp_months"),
        (with_column("ttp_event", ["1"] * 6), "both ttp_event and pfs_months"),
        (with_column("ttp_month", ["3"] * 6), "is it ttp_months"),
        (with_column("mmf_OS", ["1_0"] * 6), "'1_0' is not a number"),
        (with_column("Cohort", ["x"] * 6), "column 'cohort' is there 2 times"),
        (
            ([*HEADER, "age", "AGE_years"], [[*row, "50", "60"] for row in rows()]),
            "age is there in 2 columns",
        ),
        (
            ([*HEADER, "MMF_os", "MMF_pfs"], [[*row, "1", "2"] for row in rows()]),
            "the scores of MMF are there twice",
        ),
        ((HEADER, [rows()[0][:-1]]), "row 2: 6 cells, the header has 7"),
    ],
)
def test_bad_input_is_one_clear_error(content, words, write):
    with pytest.raises(InvalidInput, match=words):
        read_score_table(write(*content))


def test_halves_of_a_model_that_are_written_differently_are_two_models(write):
    header, body = [*HEADER[:-1], "mmf_os", "MMF_PFS"], [[*row, "2"] for row in rows()]
    table = read_score_table(write(header, body))
    assert set(table.scores) == {"mmf_os", "MMF_PFS"}
    assert all(set(by_endpoint) == {"OS", "PFS"} for by_endpoint in table.scores.values())


def test_columns_of_every_table_are_known_in_any_case(write):
    assert read_score_table(write([name.upper() for name in HEADER], rows())).scores.keys() == {"MMF"}


def test_a_fault_after_an_empty_line_names_the_row_of_the_file(write):
    header, body = with_cell(1, "MMF", "high")
    with pytest.raises(InvalidInput, match="row 4: column 'MMF'"):
        read_score_table(write(header, [body[0], [], *body[1:]]))


def test_every_fault_is_named_at_once(write):
    header, body = with_cell(0, "os_months", "x")
    body[1][HEADER.index("pfs_event")] = "7"
    with pytest.raises(InvalidInput, match=r"2 faults(.|\n)*row 2(.|\n)*row 3"):
        read_score_table(write(header, body))


def test_a_file_that_is_no_table_is_refused(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="cannot be read as a table"):
        read_score_table(path)
