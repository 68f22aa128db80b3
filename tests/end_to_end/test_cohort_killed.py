"""A run that is killed at any step leaves each case old or new, and the next run ends with one whole case a patient."""

import json
import os
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from engines.case import check_case
from engines.clinical.table import ClinicalTable
from engines.network_input import Preprocessing
from node.cohort.export import Exporter, ExportPlan, Fate
from node.cohort.joining import JoinRules, plan_join, write_join
from node.cohort.linkage import Linkage
from node.cohort.outcomes import OutcomeRow
from node.cohort.swap import DRAFTS, mend_cohort
from tests.small_export import make_row, make_study

KILLED = 9
REPLACE = Path.replace
TOLD = ("outcomes.json", "follow_up.json", "case.json", "register.json")
"""Tables whose writing may be the last thing a killed run did; the others lie in drafts like these."""
RULES = JoinRules(cut=date(2025, 3, 1))


def export(folder, studies, row=None, *, again=True):
    plan = ExportPlan(
        cohort=folder / "cohort",
        preprocessing=Preprocessing(side=8),
        table=ClinicalTable(rows=(row or make_row(1),)),
        replace=again,
    )
    return Exporter(plan, Linkage.open(folder / "linkage"), lambda _: None).run(studies)


def import_death(folder, day):
    row = OutcomeRow(
        row=2,
        patient_id="MRN-001-4711",
        issuer="HOSPITAL-EAST",
        treatment_start=date(2024, 5, 20),
        death=day,
    )
    linkage = Linkage.open(folder / "linkage")
    mend_cohort(folder / "cohort")
    join = plan_join(folder / "cohort", linkage, (row,), RULES)
    write_join(folder / "cohort", linkage, (row,), join)


def find_cases(folder):
    return sorted(path.parent.name for path in (folder / "cohort").glob("*/case.json"))


def read_months(folder):
    (name,) = find_cases(folder)
    case, _ = check_case(folder / "cohort" / name)
    sealed = json.loads((case.folder / "case.json").read_text())["files"]
    assert "outcomes.json" in sealed
    assert "follow_up.json" in sealed
    return round(case.read_json("outcomes")["os"]["months"] * 30.4375)


def count_steps(run):
    """Runs ``run`` in a child; returns how many changes of the disk it makes."""
    return run_killed(run, at=None)


def run_killed(run, at):
    """Runs ``run`` in a child that ends without any clean-up just before its change number ``at`` of the disk."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        steps = [0]

        def count(real):
            def step(*words, **options):
                if real is REPLACE and Path(words[1]).name not in TOLD:
                    return real(*words, **options)
                if steps[0] == at:
                    os._exit(KILLED)
                steps[0] += 1
                return real(*words, **options)

            return step

        Path.rename, Path.replace = count(Path.rename), count(REPLACE)
        shutil.rmtree = count(shutil.rmtree)
        try:
            run()
            os.write(writing, str(steps[0]).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == (0 if at is None else KILLED)
    return int(told) if told else 0


def kill_everywhere(template, tmp_path, run, check):
    """Kills ``run`` before each change it makes, each time on a fresh copy of ``template``, and checks what is left."""
    shutil.copytree(template, tmp_path / "whole")
    steps = count_steps(lambda: run(tmp_path / "whole"))
    assert steps > 3
    for at in range(steps):
        folder = tmp_path / f"killed-{at}"
        shutil.copytree(template, folder)
        run_killed(lambda folder=folder: run(folder), at)
        check(folder)
        assert not (folder / "cohort" / DRAFTS).exists() or not list((folder / "cohort" / DRAFTS).iterdir())


@pytest.fixture
def template(tmp_path):
    """One patient's case with outcomes."""
    folder = tmp_path / "template"
    export(folder, [make_study(tmp_path / "early", 1, study=1, day=date(2024, 4, 1))])
    import_death(folder, date(2024, 7, 1))
    return folder


def test_an_import_killed_at_any_step_is_made_whole_by_the_next(template, tmp_path):
    def check(folder):
        mend_cohort(folder / "cohort")
        assert read_months(folder) in (42, 50)
        import_death(folder, date(2024, 7, 9))
        assert read_months(folder) == 50

    kill_everywhere(template, tmp_path, lambda folder: import_death(folder, date(2024, 7, 9)), check)


def test_a_case_whose_successor_was_killed_at_any_step_is_one_case_after_the_next_export(template, tmp_path):
    (early,) = find_cases(template)
    late = make_study(tmp_path / "late", 1, study=2, day=date(2024, 5, 6))

    def check(folder):
        mend_cohort(folder / "cohort")
        assert len(find_cases(folder)) == 1
        assert read_months(folder) == 42
        export(folder, [late])
        assert len(find_cases(folder)) == 1
        assert find_cases(folder) != [early]
        assert read_months(folder) == 42

    kill_everywhere(template, tmp_path, lambda folder: export(folder, [late]), check)


def test_a_case_killed_between_its_two_renames_comes_back_with_its_outcomes(template, tmp_path):
    study = make_study(tmp_path / "again", 1, study=1, day=date(2024, 4, 1))
    row = replace(make_row(1), variables=type(make_row(1).variables)(values={}))

    def check(folder):
        export(folder, [study], row, again=False)
        assert read_months(folder) == 42

    kill_everywhere(template, tmp_path, lambda folder: export(folder, [study], row), check)


def test_two_cases_that_an_earlier_version_left_become_one(template, tmp_path):
    (early,) = find_cases(template)
    late = make_study(tmp_path / "late", 1, study=2, day=date(2024, 5, 6))
    shutil.copytree(template / "cohort" / early, tmp_path / "kept")
    export(template, [late])
    shutil.copytree(tmp_path / "kept", template / "cohort" / early)
    assert len(find_cases(template)) == 2
    (outcome,) = export(template, [late])
    assert outcome.fate == Fate.REPLACED
    assert find_cases(template) == [outcome.case_id]
