"""response.json: lesion lists in, the first response out; what cannot be is refused with the case's name."""

import json

import pytest

from engines.clinical.examinations import (
    Examination,
    FirstResponse,
    first_response,
    read_examinations,
    write_examinations,
)
from engines.clinical.response import Lesion, Response
from engines.errors import CaseRefused


def lesions(*diameters):
    return tuple(
        Lesion(name=f"L{place}", organ="liver", viable_diameter_mm=mm) for place, mm in enumerate(diameters)
    )


BASELINE = Examination(months=-0.5, lesions=lesions(60.0, 40.0, 30.0))


@pytest.mark.parametrize(
    ("diameters", "new", "category"),
    [
        ((40.0, 29.0, 90.0), False, Response.PARTIAL),  # two targets an organ: 69 of 100 mm
        ((50.0, 40.0, 0.0), False, Response.STABLE),
        ((0.0, 0.0, 30.0), False, Response.COMPLETE),
        ((80.0, 41.0, 0.0), False, Response.PROGRESSIVE),
        ((10.0, 10.0, 0.0), True, Response.PROGRESSIVE),
    ],
)
def test_the_first_follow_up_decides(tmp_path, diameters, new, category):
    first = Examination(months=2.0, lesions=lesions(*diameters), new_lesion=new)
    later = Examination(months=5.0, lesions=lesions(200.0, 200.0, 200.0))
    write_examinations((later, BASELINE, first), tmp_path)
    read = read_examinations(json.loads((tmp_path / "response.json").read_text()), "c1")
    assert read == (BASELINE, first, later)
    assert first_response(read, "c1") == FirstResponse(category=category, months=2.0)


def test_without_a_follow_up_nothing_is_said_and_without_targets_nothing_is_evaluable():
    assert first_response((BASELINE,), "c1") is None
    small = Examination(months=0.0, lesions=lesions(8.0))
    found = first_response((small, Examination(months=2.0, lesions=lesions(20.0))), "c1")
    assert found.category is Response.NOT_EVALUABLE
    assert found.category.is_responder is None


def test_faults_name_the_case(tmp_path):
    with pytest.raises(CaseRefused, match=r"case c1: response\.json is not mmf-response"):
        read_examinations({"schema": "other"}, "c1")
    form = {"schema": "mmf-response", "schema_version": 1}
    with pytest.raises(CaseRefused, match="0 examinations before treatment"):
        read_examinations({**form, "examinations": [{"months": 2.0, "lesions": []}]}, "c1")
    wide = [{"name": "a", "organ": "liver", "viable_diameter_mm": 4000.0}]
    with pytest.raises(CaseRefused, match="not a plausible diameter"):
        read_examinations({**form, "examinations": [{"months": 0.0, "lesions": wide}]}, "c1")
    with pytest.raises(CaseRefused, match="not read exactly once: L0, L1"):
        first_response((BASELINE, Examination(months=2.0, lesions=lesions())), "c1")
