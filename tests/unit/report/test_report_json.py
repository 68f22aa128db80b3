"""report.json holds the report, and nothing that its schema does not know."""

import json
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.errors import InvalidInput
from node.report.json_form import SCHEMA_PATH, read_json, write_json
from node.report.record import ReasonCode, Status
from tests.report_study import make_failure, make_report


@pytest.mark.parametrize("report", [make_report(), make_failure()], ids=["assessed", "not assessable"])
def test_a_report_comes_back_as_it_was(report):
    back = read_json(write_json(report))
    assert back == report
    assert back.seconds_per_step == report.seconds_per_step


@settings(derandomize=True, deadline=None, max_examples=50)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_not_rounded(value):
    report = make_report()
    risk = replace(report.risks[0], log_hazard=value)
    back = read_json(write_json(replace(report, risks=(risk, report.risks[1]))))
    assert back.risks[0].log_hazard == value


def test_the_schema_knows_exactly_the_reason_codes():
    listed = json.loads(SCHEMA_PATH.read_text())["properties"]["reason_code"]["enum"]
    assert set(listed) == {None, *(reason.value for reason in ReasonCode)}


def test_the_schema_knows_exactly_the_outcomes():
    listed = json.loads(SCHEMA_PATH.read_text())["properties"]["status"]["enum"]
    assert set(listed) == {status.value for status in Status}


def test_risks_stand_under_their_endpoint():
    document = json.loads(write_json(make_report()))
    assert set(document["risks"]) == {"os", "pfs"}
    assert document["risks"]["os"]["model"] == "MMF"
    assert document["demonstration"] is True


@pytest.mark.parametrize(
    "spoil",
    [
        lambda report: replace(report, reason_code=ReasonCode.NO_LIVER),
        lambda report: replace(report, risks=()),
        lambda report: replace(report, study_instance_uid="1.2.x"),
        lambda report: replace(report, risks=(replace(report.risks[0], group="medium"),)),
        lambda report: replace(report, risks=(report.risks[0], report.risks[0])),
        lambda report: replace(report, concluded_at=datetime(2026, 3, 5)),
        lambda report: replace(report, phases=(replace(report.phases[0], probability=1.2),)),
    ],
    ids=["reason though assessed", "no risk", "uid", "group", "endpoint twice", "no zone", "probability"],
)
def test_a_report_that_contradicts_the_schema_is_refused(spoil):
    with pytest.raises(InvalidInput):
        write_json(spoil(make_report()))


def test_a_not_assessable_report_with_a_risk_is_refused():
    with pytest.raises(InvalidInput, match="risks"):
        write_json(replace(make_failure(), risks=make_report().risks))


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"schema_version": 2}', write_json(make_report()).replace('"mmf-report"', '"other"')],
)
def test_other_texts_are_refused(text):
    with pytest.raises(InvalidInput):
        read_json(text)


def test_a_report_of_a_node_that_knew_no_radiomic_features_is_read():
    document = json.loads(write_json(make_report()))
    for risk in document["risks"].values():
        del risk["radiomic_features"]
    assert all(risk.radiomic_features == () for risk in read_json(json.dumps(document)).risks)
