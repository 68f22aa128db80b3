"""Child-Pugh, up-to-seven and mRECIST by hand-worked cases, and contradictions between findings."""

import pytest

from engines.clinical.response import Lesion, Response, judge_response, select_targets, sum_of_diameters
from engines.clinical.scores import (
    Ascites,
    ChildPugh,
    LiverFunction,
    find_contradictions,
    score_child_pugh,
    score_up_to_seven,
)
from engines.clinical.variables import ClinicalVariables, Variable, parse_value
from engines.errors import InvalidInput


def liver(bilirubin=20.0, albumin=40.0, inr=1.1, ascites=Ascites.NONE, grade=0):
    return LiverFunction(
        bilirubin_umol_l=bilirubin, albumin_g_l=albumin, inr=inr, ascites=ascites, encephalopathy_grade=grade
    )


@pytest.mark.parametrize(
    ("parts", "points", "grade"),
    [
        ({}, 5, "A"),
        ({"bilirubin": 33.9}, 5, "A"),
        ({"bilirubin": 34.0}, 6, "A"),
        ({"bilirubin": 51.0}, 6, "A"),
        ({"bilirubin": 51.1}, 7, "B"),
        ({"albumin": 35.0}, 6, "A"),
        ({"albumin": 28.0}, 6, "A"),
        ({"albumin": 27.9}, 7, "B"),
        ({"inr": 1.69}, 5, "A"),
        ({"inr": 1.7}, 6, "A"),
        ({"inr": 2.3}, 6, "A"),
        ({"inr": 2.31}, 7, "B"),
        ({"ascites": Ascites.MILD, "grade": 2}, 7, "B"),
        ({"ascites": Ascites.MODERATE, "grade": 3}, 9, "B"),
        ({"ascites": Ascites.SEVERE, "grade": 4, "bilirubin": 34.0}, 10, "C"),
        ({"ascites": Ascites.SEVERE, "grade": 4, "bilirubin": 90, "albumin": 20, "inr": 3}, 15, "C"),
    ],
)
def test_child_pugh_points_on_their_borders(parts, points, grade):
    assert score_child_pugh(liver(**parts)) == ChildPugh(points=points, grade=grade)


def test_child_pugh_refuses_other_units_and_names_every_fault():
    with pytest.raises(InvalidInput) as caught:
        liver(bilirubin=0.8, albumin=4.1, inr=30)
    for word in ("bilirubin_umol_l", "mg/dL", "albumin_g_l", "g/dL", "prothrombin"):
        assert word in str(caught.value)


def test_up_to_seven_adds_centimetres_and_tumours():
    assert score_up_to_seven(4.5, 3) == 7.5
    with pytest.raises(InvalidInput, match="in mm"):
        score_up_to_seven(45, 3)
    with pytest.raises(InvalidInput, match="number of tumours"):
        score_up_to_seven(4.5, 0)


def patient(**texts):
    return ClinicalVariables(
        values={Variable(name): parse_value(Variable(name), text) for name, text in texts.items()}
    )


def test_bclc_b_contradicts_what_defines_stage_c():
    sentences = find_contradictions(patient(bclc="B", pvtt="yes", ecog="1", lung_metastasis="no"))
    assert len(sentences) == 1
    assert "portal vein tumour thrombus, ECOG 1" in sentences[0]
    assert find_contradictions(patient(bclc="C", pvtt="yes", ecog="1")) == ()
    assert find_contradictions(patient(bclc="B", pvtt="no", ecog="0")) == ()
    assert find_contradictions(patient(bclc="B")) == ()


def test_up_to_seven_contradicts_a_larger_diameter():
    assert find_contradictions(patient(up_to_seven="6", max_tumour_diameter="8"))
    assert find_contradictions(patient(up_to_seven="<=7", max_tumour_diameter="8"))
    assert find_contradictions(patient(up_to_seven="9", max_tumour_diameter="8")) == ()
    assert find_contradictions(patient(up_to_seven="<=7", max_tumour_diameter=">5")) == ()


@pytest.mark.parametrize(
    ("baseline", "current", "smallest", "new", "expected"),
    [
        (100.0, 0.0, None, False, "CR"),
        (100.0, 0.0, None, True, "PD"),
        (90.0, 63.0, None, False, "PR"),
        (100.0, 70.1, None, False, "SD"),
        (100.0, 119.9, None, False, "SD"),
        (100.0, 120.0, None, False, "PD"),
        (100.0, 61.0, 50.0, False, "PD"),
        (100.0, 59.0, 50.0, False, "PR"),
        (100.0, 5.0, 0.0, False, "PD"),
        (0.0, 0.0, None, False, "NE"),
        (0.0, 12.0, None, True, "PD"),
    ],
)
def test_mrecist_on_its_borders(baseline, current, smallest, new, expected):
    assert judge_response(baseline, current, smallest_mm=smallest, new_lesion=new) == expected


def test_responders_are_complete_and_partial():
    assert [response.is_responder for response in Response] == [True, True, False, False, None]


def test_mrecist_refuses_impossible_sums():
    with pytest.raises(InvalidInput):
        judge_response(50.0, 20.0, smallest_mm=60.0)
    with pytest.raises(InvalidInput):
        judge_response(-1.0, 20.0)


def test_targets_are_at_most_two_an_organ_and_five_in_all():
    baseline = [
        *(Lesion(name=f"liver {n}", organ="liver", viable_diameter_mm=50.0 - n) for n in range(3)),
        *(Lesion(name=f"lung {n}", organ="lung", viable_diameter_mm=30.0 - n) for n in range(2)),
        Lesion(name="node", organ="lymph node", viable_diameter_mm=12.0),
        Lesion(name="adrenal", organ="adrenal", viable_diameter_mm=11.0),
        Lesion(name="speck", organ="bone", viable_diameter_mm=9.9),
    ]
    targets = select_targets(baseline)
    assert [target.name for target in targets] == ["liver 0", "liver 1", "lung 0", "lung 1", "node"]
    assert select_targets(baseline[-1:]) == ()


def test_every_target_is_read_exactly_once():
    baseline = [Lesion(name="a", organ="liver", viable_diameter_mm=40.0)]
    later = [
        Lesion(name="a", organ="liver", viable_diameter_mm=0.0),
        Lesion(name="b", organ="liver", viable_diameter_mm=30.0),
    ]
    assert sum_of_diameters(baseline, later) == 0.0
    with pytest.raises(InvalidInput, match="exactly once: a"):
        sum_of_diameters(baseline, later[1:])
    with pytest.raises(InvalidInput, match="plausible diameter"):
        Lesion(name="a", organ="liver", viable_diameter_mm=900.0)
