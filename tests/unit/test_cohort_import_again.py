"""A cohort over many nights: imports treat the dead like the living, whatever happened to them."""

from datetime import date

import pytest

from engines.case import Case, check_case
from engines.clinical.table import ClinicalTable
from engines.network_input import Preprocessing
from node.cohort.export import Exporter, ExportPlan
from node.cohort.joining import Change, JoinRules, plan_join, write_join
from node.cohort.linkage import Linkage
from node.cohort.outcomes import OutcomeRow
from tests.small_export import make_row, make_study

SMALL = Preprocessing(side=8)
START = date(2024, 5, 20)


@pytest.fixture
def cohort(tmp_path):
    """Two exported patients and the register that links them."""
    plan = ExportPlan(
        cohort=tmp_path / "cohort",
        preprocessing=SMALL,
        table=ClinicalTable(rows=tuple(make_row(number) for number in (1, 2))),
    )
    linkage = Linkage.open(tmp_path / "linkage")
    Exporter(plan, linkage, lambda _: None).run([make_study(tmp_path, number) for number in (1, 2)])
    return tmp_path


def make_outcome(number, line, issuer="HOSPITAL-EAST", **days):
    return OutcomeRow(
        row=line, patient_id=f"MRN-00{number}-4711", issuer=issuer, treatment_start=START, **days
    )


def import_rows(folder, rows, rules):
    linkage = Linkage.open(folder / "linkage")
    join = plan_join(folder / "cohort", linkage, rows, rules)
    write_join(folder / "cohort", linkage, rows, join)
    return {entry.row: entry for entry in join.cases}


def read_follow_up_of(folder, entry):
    check_case(folder / "cohort" / entry.case_id)
    return Case(folder=folder / "cohort" / entry.case_id).read_json("follow_up")


def test_who_died_before_the_first_cut_ages_with_every_import_like_who_lives(cohort):
    for cut, seen, months in (
        (date(2024, 8, 20), date(2024, 9, 1), 3),
        (date(2025, 8, 20), date(2025, 9, 1), 15),
    ):
        rows = (
            make_outcome(1, 2, death=date(2024, 7, 1)),
            make_outcome(2, 3, last_contact=seen, last_imaging=seen),
        )
        found = import_rows(cohort, rows, JoinRules(cut=cut))
        potential = [read_follow_up_of(cohort, found[row])["potential_months"] for row in (2, 3)]
        assert potential == [months, months]
    assert found[2].change == Change.CHANGED
    again = import_rows(cohort, rows, JoinRules(cut=cut))
    assert {entry.change for entry in again.values()} == {Change.SAME}


def test_a_flag_that_changes_is_written(cohort):
    rows = (make_outcome(1, 2, death=date(2024, 7, 1)),)
    import_rows(cohort, rows, JoinRules(cut=date(2025, 3, 1)))
    stricter = JoinRules(cut=date(2025, 3, 1), maximum_scan_age_weeks=1.0)
    found = import_rows(cohort, rows, stricter)
    assert "at most 1" in read_follow_up_of(cohort, found[2])["flags"][0]
