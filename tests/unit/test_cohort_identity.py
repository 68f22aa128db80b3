"""Two persons are never taken for one where an issuer is missing: the study or the table is refused."""

from datetime import date

import pytest

from engines.clinical.table import ClinicalTable
from engines.network_input import Preprocessing
from node.cohort.export import Exporter, ExportPlan, Fate
from node.cohort.joining import JoinRules, plan_join
from node.cohort.linkage import Linkage
from node.cohort.outcomes import OutcomeRow, read_outcomes
from node.cohort.selection import Exclusion
from node.errors import OutcomesRefused, PatientAmbiguous
from tests.small_export import make_patient, make_study

HEADER = "patient_id,issuer,treatment_start,death,last_contact,last_imaging\n"
START = date(2024, 5, 20)


@pytest.fixture
def linkage(tmp_path):
    return Linkage.open(tmp_path / "linkage")


def export(folder, linkage, studies):
    plan = ExportPlan(
        cohort=folder / "cohort",
        preprocessing=Preprocessing(side=8),
        table=ClinicalTable(rows=()),
        unlabelled=True,
    )
    return [(one.fate, one.reason) for one in Exporter(plan, linkage, lambda _: None).run(studies)]


def make_outcome(line, issuer, patient_id="123"):
    return OutcomeRow(
        row=line, patient_id=patient_id, issuer=issuer, treatment_start=START, death=date(2024, 7, 1)
    )


def test_an_identifier_without_issuer_that_two_patients_have_is_nobody(linkage):
    first, second = linkage.patient("123", "A"), linkage.patient("123", "B")
    assert first.key != second.key
    with pytest.raises(PatientAmbiguous, match="issuers A, B"):
        linkage.patient("123", "")
    assert linkage.patient("123", "B").key == second.key


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_a_study_without_issuer_is_excluded_whoever_comes_first(tmp_path, linkage, order):
    studies = [
        make_study(tmp_path, 1, study=number, patient=make_patient(1, issuer))
        for number, issuer in enumerate(("A", "B", ""), start=1)
    ]
    outcomes = export(tmp_path, linkage, [studies[place] for place in order])
    assert sorted(outcomes) == [
        (Fate.EXCLUDED, Exclusion.AMBIGUOUS_PATIENT),
        (Fate.EXPORTED, ""),
        (Fate.EXPORTED, ""),
    ]
    assert len(linkage.patients) == 2


def test_a_study_without_issuer_is_excluded_where_an_earlier_export_knew_two(tmp_path, linkage):
    for number, issuer in enumerate(("A", "B"), start=1):
        export(tmp_path, linkage, [make_study(tmp_path, 1, study=number, patient=make_patient(1, issuer))])
    late = make_study(tmp_path, 1, study=3, patient=make_patient(1, ""))
    assert export(tmp_path, linkage, [late]) == [(Fate.EXCLUDED, Exclusion.AMBIGUOUS_PATIENT)]


@pytest.mark.parametrize("issuers", [("EAST", ""), ("", "EAST")])
def test_a_table_that_names_a_patient_with_and_without_issuer_is_refused(tmp_path, issuers):
    path = tmp_path / "outcomes.csv"
    dead = f"123,{issuers[0]},2024-05-20,2024-07-01,,\n"
    alive = f"123,{issuers[1]},2024-05-20,,2025-02-01,2025-02-01\n"
    path.write_text(HEADER + dead + alive)
    with pytest.raises(OutcomesRefused, match="row 3, column issuer: the identifier stands in row 2 too"):
        read_outcomes(path, date(2025, 6, 30))


def test_a_second_row_for_one_patient_of_the_register_is_a_fault(tmp_path, linkage):
    linkage.patient("123", "")
    rows = (make_outcome(2, "A"), make_outcome(3, "B"))
    with pytest.raises(OutcomesRefused, match="row 3, column patient_id: the same patient of the register"):
        plan_join(tmp_path / "cohort", linkage, rows, JoinRules(cut=date(2025, 3, 1)))


def test_a_row_without_issuer_that_fits_two_patients_is_a_fault(tmp_path, linkage):
    linkage.patient("123", "A")
    linkage.patient("123", "B")
    with pytest.raises(OutcomesRefused, match=r"row 2, column issuer: .* 2 patients of the register"):
        plan_join(tmp_path / "cohort", linkage, (make_outcome(2, ""),), JoinRules(cut=date(2025, 3, 1)))
