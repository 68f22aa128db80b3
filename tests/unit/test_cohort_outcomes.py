"""Outcomes: read with every fault named, cut at one day for all, joined to cases, refused when knowing depends on them."""

import json
from datetime import date

import numpy as np
import pytest

from engines.case import check_case
from engines.clinical.table import ClinicalTable
from engines.endpoint import Endpoint
from engines.network_input import Preprocessing
from node.cohort.completeness import Followed, assess_completeness
from node.cohort.export import Exporter, ExportPlan
from node.cohort.joining import Change, JoinRules, plan_join, write_join
from node.cohort.linkage import Linkage
from node.cohort.outcomes import (
    DAYS_PER_MONTH,
    FollowUp,
    OutcomeRow,
    cut_of,
    describe_outcome,
    read_outcomes,
    write_template,
)
from node.errors import OutcomesRefused
from tests.small_export import make_row, make_study

FREEZE = date(2025, 6, 30)
HEADER = "patient_id,issuer,treatment_start,death,progression,last_contact,last_imaging,note\n"


def write_table(folder, *lines, header=HEADER):
    path = folder / "outcomes.csv"
    path.write_text(header + "\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def outcome(cut=FREEZE, **days):
    row = OutcomeRow(row=2, patient_id="1", issuer="", treatment_start=date(2024, 5, 20), **days)
    return describe_outcome(row, cut)


def test_os_ends_with_death_and_pfs_with_what_comes_first():
    found = outcome(death=date(2024, 11, 20), progression=date(2024, 8, 20), last_imaging=date(2024, 8, 20))
    assert found.follow_up[Endpoint.OS] == FollowUp(months=184 / DAYS_PER_MONTH, event=True)
    assert found.follow_up[Endpoint.PFS] == FollowUp(months=92 / DAYS_PER_MONTH, event=True)


def test_os_is_censored_at_the_last_contact_and_pfs_at_the_last_imaging():
    found = outcome(last_contact=date(2025, 5, 20), last_imaging=date(2025, 3, 20))
    assert found.follow_up[Endpoint.OS] == FollowUp(months=365 / DAYS_PER_MONTH, event=False)
    assert found.follow_up[Endpoint.PFS] == FollowUp(months=304 / DAYS_PER_MONTH, event=False)


def test_pfs_is_not_known_without_event_and_imaging():
    found = outcome(last_contact=date(2025, 5, 20))
    assert list(found.follow_up) == [Endpoint.OS]
    assert "PFS is not known" in found.notes[0]


def test_nothing_after_the_cut_is_seen_the_same_for_all():
    cut = cut_of(FREEZE, 90)
    assert cut == date(2025, 4, 1)
    dead = outcome(cut, death=date(2025, 5, 1))
    alive = outcome(cut, last_contact=date(2025, 6, 30), last_imaging=date(2025, 6, 1))
    for found in (dead, alive):
        assert found.follow_up[Endpoint.OS] == FollowUp(months=316 / DAYS_PER_MONTH, event=False)
    late = OutcomeRow(
        row=2, patient_id="1", issuer="", treatment_start=date(2025, 5, 1), death=date(2025, 6, 1)
    )
    assert describe_outcome(late, cut).follow_up == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("A,,2024-05-20,2024-05-01,,,,", "row 2, column death: 2024-05-01 is before treatment_start"),
        ("A,,2024-05-20,,2024-05-19,2024-06-01,2024-06-01,", "row 2, column progression"),
        ("A,,2024-05-20,,,,2024-06-01,", "row 2, column last_contact: is empty without a death"),
        ("A,,20.05.2024,,,2024-06-01,,", "row 2, column treatment_start: '20.05.2024' is not a date"),
        ("A,,,,,2024-06-01,,", "row 2, column treatment_start: is empty"),
        (",,2024-05-20,,,2024-06-01,,", "row 2, column patient_id: is empty"),
        ("A,,2024-05-20,2024-07-01,,2024-08-01,,", "column last_contact: 2024-08-01 is after the death"),
        ("A,,2024-05-20,,,2025-07-01,,", "column last_contact: 2025-07-01 is after the data freeze"),
        ("A,,2024-05-20,,,2024-06-01,2024-07-01,", "is before the last imaging"),
        ("A,,2024-05-20,,,2024-05-20,,", "no follow-up at all"),
        ("A,,2024-05-20,,,2024-06-01", "row 2: 6 cells, the header has 8"),
    ],
)
def test_a_fault_is_named_with_row_and_column(tmp_path, line, fault):
    with pytest.raises(OutcomesRefused) as refused:
        read_outcomes(write_table(tmp_path, line), FREEZE)
    assert fault in str(refused.value)


def test_all_faults_are_named_at_once(tmp_path):
    lines = ["A,,2024-05-20,2024-05-01,,,,", "A,,2024-05-20,,,2024-06-01,,", "B,,x,,,,,"]
    with pytest.raises(OutcomesRefused) as refused:
        read_outcomes(write_table(tmp_path, *lines), FREEZE)
    assert "3 faults" in str(refused.value)
    assert "row 3, column patient_id: the same patient as in row 2" in str(refused.value)
    with pytest.raises(OutcomesRefused, match="did you mean last_contact"):
        read_outcomes(write_table(tmp_path, header="patient_id,treatment_start,last_contct\n"), FREEZE)


def test_the_template_is_a_table_that_can_be_read_back(tmp_path):
    path = tmp_path / "template.csv"
    path.write_text(write_template([{"patient_id": "a,b", "treatment_start": "2024-05-20"}]))
    path.write_text(path.read_text().replace("2024-05-20,,,,", "2024-05-20,2024-06-01,,,"))
    (row,) = read_outcomes(path, FREEZE)
    assert (row.patient_id, row.death) == ("a,b", date(2024, 6, 1))


@pytest.fixture
def cohort(tmp_path):
    """Three exported patients and the register that links them."""
    plan = ExportPlan(
        cohort=tmp_path / "cohort",
        preprocessing=Preprocessing(side=8),
        table=ClinicalTable(rows=tuple(make_row(number) for number in (1, 2, 3))),
    )
    linkage = Linkage.open(tmp_path / "linkage")
    Exporter(plan, linkage, lambda _: None).run([make_study(tmp_path, number) for number in (1, 2, 3)])
    return tmp_path


def rows_of(folder, *lines):
    return read_outcomes(write_table(folder, *lines), FREEZE)


DEAD = "MRN-001-4711,,2024-05-20,2024-11-20,2024-08-20,,2024-08-20,"
ALIVE = "MRN-002-4711,HOSPITAL-EAST,2024-05-20,,,2025-05-20,2025-03-20,"
UNKNOWN = "MRN-777,,2024-01-01,2024-02-01,,,,"


def test_outcomes_join_their_cases_and_the_cases_are_sealed_again(cohort):
    linkage = Linkage.open(cohort / "linkage")
    rows = rows_of(cohort, DEAD, ALIVE, UNKNOWN)
    rules = JoinRules(cut=cut_of(FREEZE, 90))
    join = plan_join(cohort / "cohort", linkage, rows, rules)
    assert [entry.change for entry in join.cases] == [Change.NEW, Change.NEW]
    assert join.without_case == (4,)
    assert len(join.without_row) == 1
    assert (join.completeness.patients, join.completeness.known) == (3, 2)
    assert not list((cohort / "cohort").glob("*/outcomes.json"))  # planned, not written
    write_join(cohort / "cohort", linkage, rows, join)
    case, _ = check_case(cohort / "cohort" / join.cases[0].case_id)
    assert case.read_json("outcomes") == {
        "os": {"months": 184 / DAYS_PER_MONTH, "event": True},
        "pfs": {"months": 92 / DAYS_PER_MONTH, "event": True},
    }
    assert case.read_json("follow_up")["potential_months"] == 10  # whole months: no date can be read off
    again = plan_join(cohort / "cohort", Linkage.open(cohort / "linkage"), rows, rules)
    assert {entry.change for entry in again.cases} == {Change.SAME}
    assert Linkage.open(cohort / "linkage").patient("MRN-777", "").treatment_start == date(2024, 1, 1)
    told = b"".join(path.read_bytes() for path in (cohort / "cohort").rglob("*.json"))
    for word in (b"2024-", b"2025-", b"MRN-"):
        assert word not in told


def test_a_row_that_contradicts_its_case_is_an_error(cohort):
    linkage = Linkage.open(cohort / "linkage")
    other_start = "MRN-001-4711,,2024-06-20,2024-11-20,,,,"
    follow_up = "MRN-002-4711,,2024-05-01,,,2025-05-20,,"
    with pytest.raises(OutcomesRefused) as refused:
        plan_join(cohort / "cohort", linkage, rows_of(cohort, other_start, follow_up), JoinRules(cut=FREEZE))
    assert "row 2, column treatment_start: 2024-06-20, the clinical table" in str(refused.value)
    with pytest.raises(OutcomesRefused, match="5 days after it: a follow-up"):
        plan_join(cohort / "cohort", linkage, rows_of(cohort, follow_up), JoinRules(cut=FREEZE, replace=True))


def test_an_event_is_not_taken_back_silently(cohort):
    linkage = Linkage.open(cohort / "linkage")
    rows = rows_of(cohort, DEAD)
    write_join(
        cohort / "cohort", linkage, rows, plan_join(cohort / "cohort", linkage, rows, JoinRules(cut=FREEZE))
    )
    alive = rows_of(cohort, "MRN-001-4711,,2024-05-20,,,2025-05-20,2025-03-20,")
    with pytest.raises(OutcomesRefused, match="no longer shows"):
        plan_join(cohort / "cohort", linkage, alive, JoinRules(cut=FREEZE))
    join = plan_join(cohort / "cohort", linkage, alive, JoinRules(cut=FREEZE, replace=True))
    assert join.cases[0].change == Change.CHANGED


def test_an_old_scan_is_flagged(cohort):
    linkage = Linkage.open(cohort / "linkage")
    late = rows_of(cohort, "MRN-001-4711,,2024-08-20,2024-11-20,,,,")
    join = plan_join(cohort / "cohort", linkage, late, JoinRules(cut=FREEZE, replace=True))
    assert join.cases[0].flags == ("the scan is 15.1 weeks older than the first dose (at most 8)",)


def follow(random, n, *, deaths_first=False, lost=False, unknown=0.0):
    """Patients of a constant hazard who started over three years; what is known of them may depend on it."""
    patients = []
    for _ in range(n):
        potential = random.uniform(1, 36)
        death = random.exponential(20)
        known = FollowUp(months=min(death, potential), event=death <= potential)
        if deaths_first and not known.event and potential < 18:
            patients.append(Followed(potential_months=potential, os=None))  # survivors come late
            continue
        if lost and not known.event:
            known = FollowUp(months=max(0.3 * potential, 0.1), event=False)
        missing = random.random() < unknown
        patients.append(Followed(potential_months=potential, os=None if missing else known))
    return patients


def test_a_complete_follow_up_is_not_refused():
    random = np.random.default_rng(1)
    refused = [assess_completeness(follow(random, 200)).refusals for _ in range(50)]
    assert sum(bool(words) for words in refused) <= 3  # the log-rank test at P < 0.01, one side
    found = assess_completeness(follow(random, 200, unknown=0.1))
    assert found.refusals == ()
    assert found.share == pytest.approx(1.0)
    assert "is not known" in found.warnings[0]


def test_deaths_that_come_before_survivors_are_refused():
    random = np.random.default_rng(2)
    found = assess_completeness(follow(random, 200, deaths_first=True))
    assert any("not known" in line for line in found.refusals)
    assert any("late starters die" in line for line in found.refusals)


def test_survivors_who_were_not_seen_again_are_refused():
    random = np.random.default_rng(3)
    found = assess_completeness(follow(random, 200, lost=True))
    assert found.share < 0.7
    assert any("completeness of follow-up" in line for line in found.refusals)


def test_no_outcome_at_all_is_refused():
    found = assess_completeness([Followed(potential_months=3.0, os=None)])
    assert found.refusals == ("no outcome is known",)
    assert json.dumps(found.share) == "0.0"
