"""The 16 clinical variables: categories on their thresholds, refusals, and the JSON form."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.clinical.regimen import CheckpointInhibitor, TargetedAgent, parse_regimen
from engines.clinical.variables import (
    ALL_VARIABLES,
    DEFINITIONS,
    STANDARD_VARIABLES,
    ClinicalVariables,
    Value,
    Variable,
    categorise,
    decode_variables,
    encode_variables,
    parse_value,
)
from engines.errors import InvalidInput


def test_there_are_sixteen_variables_and_thirteen_are_standard():
    assert len(ALL_VARIABLES) == len(DEFINITIONS) == 16
    left_out = set(ALL_VARIABLES) - set(STANDARD_VARIABLES)
    assert left_out == {Variable.SEX, Variable.HBV, Variable.PREVIOUS_LOCAL_THERAPY}


@pytest.mark.parametrize(
    ("variable", "below", "above"),
    [
        (Variable.AGE, 50, 50.01),
        (Variable.AFP, 400, 400.1),
        (Variable.LINE_OF_ICI, 1, 2),
        (Variable.UP_TO_SEVEN, 7, 7.1),
        (Variable.MAX_TUMOUR_DIAMETER, 5, 5.1),
    ],
)
def test_the_threshold_itself_is_the_reference_category(variable, below, above):
    definition = DEFINITIONS[variable]
    assert categorise(variable, below) == definition.reference
    assert categorise(variable, above) == definition.other


def test_the_reference_of_bclc_is_c():
    both = ClinicalVariables(values={Variable.BCLC: parse_value(Variable.BCLC, "b")})
    assert both.indicator(Variable.BCLC) == 1.0
    assert ClinicalVariables(values={Variable.BCLC: Value(category="C")}).indicator(Variable.BCLC) == 0.0


@pytest.mark.parametrize(
    ("variable", "text", "category", "number"),
    [
        (Variable.AFP, ">400", ">400", None),
        (Variable.AFP, " 12.5 ", "<=400", 12.5),
        (Variable.LINE_OF_ICI, "1", "1", 1.0),
        (Variable.LINE_OF_ICI, "3", ">=2", 3.0),
        (Variable.LINE_OF_ICI, ">=2", ">=2", None),
        (Variable.PVTT, "Yes", "present", None),
        (Variable.PVTT, "0", "absent", None),
        (Variable.SEX, "F", "female", None),
        (Variable.CHILD_PUGH, "b", "B", None),
        (Variable.ECOG, "1", "1", None),
    ],
)
def test_reads_what_a_person_writes(variable, text, category, number):
    assert parse_value(variable, text) == Value(category=category, number=number)


@pytest.mark.parametrize(
    ("variable", "text", "reason"),
    [
        (Variable.MAX_TUMOUR_DIAMETER, "65", "in mm"),
        (Variable.AGE, "1956", "year of birth"),
        (Variable.AFP, "-3", "not plausible"),
        (Variable.AFP, ">=400", "not one of <=400, >400"),
        (Variable.AFP, "nan", "not plausible"),
        (Variable.LINE_OF_ICI, "1.5", "whole number"),
        (Variable.SEX, "O", "not one of male, female"),
        (Variable.CHILD_PUGH, "D", "not one of A, B, C"),
        (Variable.PVTT, "maybe", "not one of absent, present"),
    ],
)
def test_refuses_unknown_categories_and_implausible_units(variable, text, reason):
    with pytest.raises(InvalidInput, match=reason) as caught:
        parse_value(variable, text)
    assert variable.value in str(caught.value)


def test_a_category_cannot_be_measured():
    with pytest.raises(InvalidInput, match="not a number"):
        categorise(Variable.SEX, 1.0)


def test_categories_outside_the_population_are_known_and_never_encoded():
    patient = ClinicalVariables(
        values={Variable.CHILD_PUGH: Value(category="C"), Variable.BCLC: Value(category="B")}
    )
    assert patient.outside_population() == (Variable.CHILD_PUGH,)
    assert patient.indicator(Variable.CHILD_PUGH) is None
    assert Variable.CHILD_PUGH not in patient.missing()
    assert len(patient.missing()) == 14


def test_a_number_that_contradicts_its_category_is_refused():
    with pytest.raises(InvalidInput, match="not in the category"):
        ClinicalVariables(values={Variable.AFP: Value(category=">400", number=12.0)})
    with pytest.raises(InvalidInput, match="not one of"):
        ClinicalVariables(values={Variable.PVTT: Value(category="yes")})


@settings(derandomize=True, deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(Variable)), st.booleans(), max_size=16),
    st.floats(min_value=0.1, max_value=30.0),
)
def test_the_json_form_comes_back_equal(sides, diameter):
    values = {
        variable: Value(category=DEFINITIONS[variable].other if side else DEFINITIONS[variable].reference)
        for variable, side in sides.items()
    }
    values[Variable.MAX_TUMOUR_DIAMETER] = Value(
        category=categorise(Variable.MAX_TUMOUR_DIAMETER, diameter), number=diameter
    )
    patient = ClinicalVariables(values=values)
    assert decode_variables(json.loads(json.dumps(encode_variables(patient)))) == patient


@pytest.mark.parametrize(
    "content", [[], {"afpp": {}}, {"afp": 3}, {"afp": {"category": 3}}, {"afp": {"category": "high"}}]
)
def test_refuses_another_json_form(content):
    with pytest.raises(InvalidInput):
        decode_variables(content)


def test_reads_regimens_by_agent_or_trade_name():
    regimen = parse_regimen("Apatinib + AiRuiKa")
    assert regimen.inhibitor == CheckpointInhibitor.CAMRELIZUMAB
    assert regimen.targeted == (TargetedAgent.APATINIB,)
    assert regimen.text() == "camrelizumab+apatinib"
    assert parse_regimen("tislelizumab+other-targeted").targeted == (TargetedAgent.OTHER,)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nivolumab+lenvatinib", "'nivolumab' is not one of"),
        ("sintilimab", "0 targeted"),
        ("lenvatinib", "0 checkpoint"),
        ("sintilimab+camrelizumab+apatinib", "2 checkpoint"),
        ("sintilimab+lenvatinib+lenvatinib", "twice"),
    ],
)
def test_refuses_what_is_no_combined_treatment(text, reason):
    with pytest.raises(InvalidInput, match=reason):
        parse_regimen(text)
