"""What a night does before and after training: who may be learned from, when the locked cases are read, what is written."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from engines.case import check_case, seal_case, write_json
from engines.endpoint import Endpoint
from engines.models.promotion import CandidateRecord, Decision, SeenCase, write_record
from engines.models.store import ModelStore
from tests.loop_cohort import add_cases, draw_balls, draw_patients
from tests.model_folder import write_small_model
from train.contest import Contest, judge_contest
from train.errors import CohortRefused
from train.fit_folder import ConcordanceRecord
from train.fit_plan import FitPlan
from train.gate import GateRules, plan_power
from train.locked import Ledger, LockRules, Look, assign_patients, note_look, write_ledger
from train.night_cohort import digest_cases, read_night_cases, take_snapshot
from train.night_report import describe_json, write_night_report
from train.nightly import NightPlan, NightStatus, run_nightly
from train.recipes import read_recipe

NIGHT = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
LOOSE = GateRules(margin=0.5, minimum_power=0.2)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [
        write_small_model(folder / version, version=version, seed=seed)
        for version, seed in (("1", 3), ("2", 4))
    ]


@pytest.fixture
def cohort(tmp_path):
    """A dozen exported cases with outcomes."""
    patients = draw_patients(12, 5)
    folder = tmp_path / "cohort"
    add_cases(folder, tmp_path / "linkage", patients, draw_balls(patients, 32))
    for path, (patient, _) in zip(sorted(folder.iterdir()), patients, strict=True):
        set_outcome(path, {e.value.lower(): vars_of(patient.follow_up[e]) for e in Endpoint})
    return folder


def vars_of(follow):
    return {"months": follow.months, "event": follow.event}


def set_outcome(folder, outcomes, **tables):
    case, identity = check_case(folder)
    write_json(outcomes, folder / "outcomes.json")
    for name, content in tables.items():
        write_json(content, folder / f"{name}.json")
    seal_case(case, identity)


def night_plan(cohort, tmp_path, **changes):
    plan = NightPlan(
        cohort=cohort,
        store=tmp_path / "store",
        runs=tmp_path / "runs",
        fit=FitPlan(recipe=read_recipe("mini")),
        minimum_new_patients=1000,
    )
    return replace(plan, **changes)


def own(value=0.7, low=0.6):
    return tuple(
        ConcordanceRecord(
            endpoint=endpoint,
            model="MMF",
            rows="out-of-fold",
            patients=50,
            events=30,
            value=value,
            low=low,
            high=0.8,
        )
        for endpoint in Endpoint
    )


def contest(models, cases, **changes):
    candidate, running = models
    given = {
        "candidate": candidate,
        "record": CandidateRecord(version="1", sha256=candidate.sha256),
        "running": running,
        "running_record": CandidateRecord(version="2", sha256=running.sha256),
        "locked": cases,
        "own": own(),
    }
    return Contest(**{**given, **changes})


def judge(given, rules=LOOSE):
    saved = []
    keys = [one.identity.patient_key for one in given.locked]
    ledger = assign_patients(Ledger(), keys, LockRules(share=0.99), NIGHT)
    return judge_contest(given, rules, ledger, lambda: NIGHT, saved.append), saved


def test_the_look_is_written_down_before_the_cases_are_read_and_after(models, cohort):
    found, saved = judge(contest(models, read_night_cases(cohort)))
    begun, ended = saved
    assert begun.present.looks[0].decision is None
    assert ended.present.looks[0].decision is found.decision
    assert found.compared == "MMF"
    assert found.verdict.patients == 12
    assert found.planned_power > 0.2


@pytest.mark.parametrize(
    ("changes", "decision", "words"),
    [
        ({"own": own(0.45, 0.4)}, Decision.REFUSE, "no better than chance"),
        ({"own": own(0.55, 0.45)}, Decision.CANNOT_DECIDE, "not clearly better than chance"),
        ({"running_record": None}, Decision.CANNOT_DECIDE, "--trained-elsewhere"),
        ({"locked": ()}, Decision.CANNOT_DECIDE, "no locked case"),
    ],
)
def test_the_locked_cases_are_not_read_when_that_can_decide_nothing(models, cohort, changes, decision, words):
    found, saved = judge(contest(models, read_night_cases(cohort), **changes))
    assert found.decision is decision
    assert words in found.reasons[0]
    assert saved == []
    assert found.verdict is None


def test_too_few_locked_cases_are_said_with_the_power(models, cohort):
    found, saved = judge(contest(models, read_night_cases(cohort)), GateRules())
    assert found.decision is Decision.CANNOT_DECIDE
    assert "12 locked cases: with a margin of 0.02" in found.reasons[0]
    assert saved == []


@pytest.mark.parametrize(("bare", "compared"), [(4, 8), (7, 12)])
def test_the_power_is_planned_from_the_cases_that_will_be_compared(models, cohort, bare, compared):
    """Four of twelve lack the variables of MMF: eight are compared. Seven: Ensemble-DL is compared on all twelve."""
    for folder in sorted(cohort.iterdir())[:bare]:
        case, identity = check_case(folder)
        write_json({}, folder / "clinical.json")
        seal_case(case, identity)
    cases = read_night_cases(cohort)
    found, _ = judge(contest(models, cases))
    assert found.verdict.patients == compared
    assert found.planned_power == plan_power(compared, LOOSE.margin)
    least = (plan_power(8, 0.5) + plan_power(12, 0.5)) / 2
    strict, saved = judge(contest(models, cases), GateRules(margin=0.5, minimum_power=least))
    if compared < 12:
        assert "8 of 12 locked cases have every variable of MMF: with a margin of 0.5" in strict.reasons[0]
    assert bool(saved) == (compared == 12)


def test_cases_that_a_model_has_learned_from_are_left_out(models, cohort):
    cases = read_night_cases(cohort)
    twin = SeenCase(case_id="other", patient_key="other", images=cases[1].seen.images)
    record = CandidateRecord(version="2", sha256="0", cases=(cases[0].seen, twin))
    found, _ = judge(contest(models, cases, running_record=record))
    assert found.verdict.patients == 10
    assert "2 locked cases were left out" in found.notes[0]


def test_results_that_were_shown_are_said(models, cohort):
    set_outcome(sorted(cohort.iterdir())[0], {}, provenance={"result_shown": True})
    cases = tuple(replace(one, shown=True) for one in read_night_cases(cohort) if one.labelled)
    found, _ = judge(contest(models, cases))
    assert "was shown for 11 of 11 locked cases" in found.notes[0]


def test_a_snapshot_is_not_changed_by_what_the_export_does_later(cohort, tmp_path):
    cases = read_night_cases(cohort)
    digest = digest_cases(cases)
    take_snapshot(cases, tmp_path / "snapshot")
    take_snapshot(cases, tmp_path / "snapshot")
    set_outcome(cases[0].case.folder, {"os": {"months": 1.0, "event": False}})
    frozen = read_night_cases(tmp_path / "snapshot")
    assert digest_cases(frozen) == digest
    assert digest_cases(read_night_cases(cohort)) != digest


def test_a_night_with_nothing_new_trains_nothing(cohort, tmp_path):
    report = run_nightly(night_plan(cohort, tmp_path), lambda: NIGHT, lambda _: None)
    assert report.status is NightStatus.NOTHING_NEW
    assert "1000 are asked for" in report.notes[0]
    assert dict(report.flow)["cases in the cohort"] == 12
    paths = write_night_report(report, tmp_path / "runs")
    assert json.loads(paths["json"].read_text())["status"] == "nothing new"
    assert "nothing was trained" in paths["md"].read_text()


def test_whom_the_site_keeps_for_testing_is_never_learned_from_also_after_his_locked_set_is_retired(
    cohort, tmp_path
):
    cases = read_night_cases(cohort)
    kept = {one.identity.case_id: one.identity.patient_key for one in cases[:3]}
    words = [
        f"{one.identity.case_id},{'testing' if one.identity.case_id in kept else 'training'}" for one in cases
    ]
    (cohort / "splits.csv").write_text("\n".join(["case_id,split", *words]) + "\n")
    plan = night_plan(cohort, tmp_path, locks=LockRules(share=0.0, looks=1))
    fresh = run_nightly(plan, lambda: NIGHT, lambda _: None)
    assert dict(fresh.flow)["locked, with both outcomes"] == 3
    keys = [one.identity.patient_key for one in cases]
    ledger = assign_patients(Ledger(), keys, plan.locks, NIGHT, kept=frozenset(kept.values()))
    look = Look(at=NIGHT, candidate="1", running="2", patients=3)
    write_ledger(note_look(ledger, look), plan.runs / "locked.json")
    retired = run_nightly(plan, lambda: NIGHT, lambda _: None)
    assert dict(retired.flow)["locked, with both outcomes"] == 0
    assert dict(retired.flow)["to learn from, with both outcomes"] == 9
    assert dict(retired.flow)["kept for testing by the site and not locked: never learned from"] == 3


def test_a_patient_kept_for_testing_whom_a_model_has_learned_from_is_told(models, cohort, tmp_path):
    first, *others = read_night_cases(cohort)
    words = [f"{first.identity.case_id},testing", *(f"{one.identity.case_id},training" for one in others)]
    (cohort / "splits.csv").write_text("\n".join(["case_id,split", *words]) + "\n")
    plan = night_plan(cohort, tmp_path)
    store = ModelStore(plan.store)
    write_small_model(tmp_path / "model", version="1")
    store.install(tmp_path / "model")
    write_record(store, CandidateRecord(version="1", sha256=models[0].sha256, cases=(first.seen,)))
    report = run_nightly(plan, lambda: NIGHT, lambda _: None)
    assert "1 patients whom the site keeps for testing were learned from before" in " ".join(report.notes)


def test_patients_who_could_not_be_followed_long_enough_are_not_learned_from_whatever_happened(
    cohort, tmp_path
):
    early = sorted(cohort.iterdir())[:3]
    dead = {"os": {"months": 1.0, "event": True}, "pfs": {"months": 1.0, "event": True}}
    for folder in early:
        set_outcome(folder, dead, follow_up={"potential_months": 2})
    report = run_nightly(night_plan(cohort, tmp_path), lambda: NIGHT, lambda _: None)
    assert dict(report.flow)["could not be followed long enough yet"] == 3


def test_outcomes_refused_as_incomplete_are_not_learned_from(cohort, tmp_path):
    verdict = {"refusals": ["survivors are missing"], "accepted_by": "", "completeness": 0.5}
    write_json(verdict, cohort / "follow_up.json")
    report = run_nightly(night_plan(cohort, tmp_path), lambda: NIGHT, lambda _: None)
    assert report.status is NightStatus.REFUSED
    assert describe_json(report)["notes"] == ["survivors are missing"]
    write_json({**verdict, "accepted_by": "anna: pilot"}, cohort / "follow_up.json")
    again = run_nightly(night_plan(cohort, tmp_path), lambda: NIGHT, lambda _: None)
    assert again.status is NightStatus.NOTHING_NEW


def test_a_patient_with_two_cases_is_refused(cohort):
    first, second = sorted(cohort.iterdir())[:2]
    _, one = check_case(first)
    case, other = check_case(second)
    seal_case(case, replace(other, patient_key=one.patient_key))
    with pytest.raises(CohortRefused, match="has 2 cases"):
        read_night_cases(cohort)
