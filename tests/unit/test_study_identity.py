"""One patient's study: several names under one identifier are flagged, spellings of one name are not."""

from pathlib import Path

import pytest

from node.identity import flag_names
from node.study import CT_IMAGE_STORAGE, Instance, Patient


def image(name):
    return Instance(
        path=Path("x"),
        sop_class_uid=CT_IMAGE_STORAGE,
        sop_instance_uid="1.2",
        study_instance_uid="1",
        series_instance_uid="1.1",
        patient=Patient(patient_id="P1", patient_name=name),
    )


@pytest.mark.parametrize("other", ["DOE^JANE", "Doe^Jane^^^", "Doe Jane", "Doe^Jane=某^某", ""])
def test_spellings_of_one_name_are_one(other):
    assert flag_names([image("Doe^Jane"), image(other)]) == ()


def test_two_names_under_one_identifier_are_flagged_without_the_names():
    (flag,) = flag_names([image("Doe^Jane"), image("Roe^Richard")])
    assert "2 different patient names" in flag
    assert "Roe" not in flag
