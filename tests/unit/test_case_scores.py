"""Cohorts of scored case folders as a table to evaluate; the case folders here hold JSON files alone."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter

from engines.case import Case, CaseIdentity, seal_case, write_json
from engines.clinical.variables import Variable
from engines.endpoint import Endpoint
from engines.errors import InvalidInput
from engines.mmf import Group, ModelName, Risk
from engines.models.model import EndpointScores, Scores
from train.commands.evaluate import evaluate, read_source
from train.errors import CohortRefused, FitRefused
from train.evaluate.case_scores import read_case_scores
from train.evaluate.measures import CutoffRule, derive_cutoffs


def risk(endpoint, model, log_hazard):
    return Risk(
        endpoint=endpoint,
        model=model,
        log_hazard=log_hazard,
        low=log_hazard - 0.5,
        high=log_hazard + 0.5,
        group=Group.HIGH if log_hazard > 0.25 else Group.LOW,
        cutoff=0.25,
        percentile=50.0,
        survival=(),
        contributions=(),
    )


def scores(value, *, version="1.0", clinical=True):
    ensemble = {endpoint: risk(endpoint, ModelName.ENSEMBLE_DL, value / 2) for endpoint in Endpoint}
    return Scores(
        name="synthetic",
        version=version,
        sha256="0" * 64,
        demonstration=True,
        endpoints=tuple(
            EndpointScores(
                endpoint=endpoint,
                log_risks=(("network_1", value), ("network_2", -value)),
                mortality=1.0,
                ensemble_score=value,
                risk=risk(endpoint, ModelName.MMF, value) if clinical else ensemble[endpoint],
                others=(ensemble[endpoint],) if clinical else (),
            )
            for endpoint in Endpoint
        ),
        missing=(),
        outside=(),
    )


def write_case(cohort, name, value, *, patient=None, outcome=True, scored=True, **options):
    folder = cohort / name
    folder.mkdir(parents=True)
    if scored:
        content = TypeAdapter(Scores).dump_python(scores(value, **options), mode="json")
        write_json(content, folder / "scores.json")
    write_json({"sex": {"category": "male", "number": None}}, folder / "clinical.json")
    if outcome:
        follow = {"months": 10.0 - value, "event": True}
        write_json({"os": follow, "pfs": follow}, folder / "outcomes.json")
    seal_case(
        Case(folder=folder),
        CaseIdentity(
            case_id=name, patient_key=patient or name, study=f"2.25.{name[1:]}", synthetic=True, phases={}
        ),
    )


@pytest.fixture
def cohort(tmp_path):
    folder = tmp_path / "home"
    for number in range(6):
        write_case(folder, f"c{number}", number / 10, clinical=number > 0)
    lines = [f"c{number},{'training' if number < 3 else 'testing'}" for number in range(6)]
    (folder / "splits.csv").write_text("\n".join(["case_id,split", *lines]))
    return folder


def test_cases_become_a_table_with_the_models_own_cutoffs(cohort, tmp_path):
    write_case(tmp_path / "elsewhere", "e1", 0.3)
    write_case(tmp_path / "elsewhere", "e2", 0.3, scored=False)
    table = read_case_scores(cohort, (tmp_path / "elsewhere",))
    assert table.cohorts == ("training", "testing", "elsewhere")
    assert list(table.scores) == ["network_1", "network_2", "Ensemble-DL", "MMF"]
    assert np.isnan(table.scores["MMF"]["OS"][0])
    assert table.scores["Ensemble-DL"]["OS"][1] == 0.05
    assert table.endpoints[0].time[2] == 9.8
    assert table.clinical[Variable.SEX][0].category == "male"
    assert any("a demonstration, without meaning" in note for note in table.notes)
    assert any("1 cases have no scores" in note for note in table.notes)
    cutoffs = derive_cutoffs(table, table.endpoints[0], CutoffRule.MEDIAN)
    assert cutoffs["MMF"] == cutoffs["Ensemble-DL"] == 0.25
    assert cutoffs["network_1"] == pytest.approx(0.1)


def test_unknown_outcome_is_not_known(cohort):
    write_case(cohort, "c9", 0.2, outcome=False)
    (cohort / "splits.csv").unlink()
    table = read_case_scores(cohort)
    assert table.cohorts == ("home",)
    assert np.isnan(table.endpoints[0].time[-1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": "2.0"}, "different models .synthetic 1.0, synthetic 2.0."),
        ({"patient": "c1"}, "c1 has 2 cases"),
    ],
)
def test_other_models_and_second_scans_are_refused(cohort, tmp_path, options, words):
    write_case(tmp_path / "elsewhere", "e1", 0.3, **options)
    with pytest.raises(CohortRefused, match=words):
        read_case_scores(cohort, (tmp_path / "elsewhere",))


def test_impossible_outcome_is_refused(tmp_path):
    write_case(tmp_path / "home", "c1", 11.0)
    with pytest.raises(CohortRefused, match=r"outcomes\.json says OS"):
        read_case_scores(tmp_path / "home")


def test_foreign_scores_are_refused(tmp_path):
    write_case(tmp_path / "home", "c1", 0.1)
    path = tmp_path / "home" / "c1" / "scores.json"
    path.write_text(json.dumps({"mmf": 1}))
    seal_case(
        Case(folder=path.parent),
        CaseIdentity(case_id="c1", patient_key="c1", study="2.25.1", synthetic=True, phases={}),
    )
    with pytest.raises(CohortRefused, match="not what a model writes"):
        read_case_scores(tmp_path / "home")


def test_cohort_without_scores_is_refused(tmp_path):
    write_case(tmp_path / "home", "c1", 0.1, scored=False)
    with pytest.raises(CohortRefused, match=r"no case of home has scores\.json"):
        read_case_scores(tmp_path / "home")


def test_cohort_without_fit_and_scores_names_the_command_that_is_missing(tmp_path):
    write_case(tmp_path / "home", "c1", 0.1, scored=False)
    with pytest.raises(CohortRefused, match=r"run `mmf-train fit --cohort .*home` first"):
        read_source((tmp_path / "home",), tmp_path)


def test_unfinished_fit_beside_the_cohort_is_said_and_not_passed_by(tmp_path):
    write_case(tmp_path / "home", "c1", 0.1)
    (tmp_path / "home-fit" / "networks").mkdir(parents=True)
    with pytest.raises(FitRefused, match="fit in progress"):
        read_source((tmp_path / "home",), tmp_path)


def test_scored_cases_bring_what_their_folders_tell(cohort):
    table, evidence = read_source((cohort,), cohort)
    assert evidence.fit is None
    assert len(evidence.facts.cases) == 6
    assert table.cohorts == ("training", "testing")


@pytest.mark.parametrize(
    ("options", "words"),
    [({}, "either --table"), ({"table": "t.csv", "external": ["e"]}, "go with --cohort")],
)
def test_one_source_is_asked_for(tmp_path, options, words):
    paths = {
        name: [Path(word) for word in v] if isinstance(v, list) else Path(v) for name, v in options.items()
    }
    with pytest.raises(InvalidInput, match=words):
        evaluate(tmp_path / "report", **paths)
