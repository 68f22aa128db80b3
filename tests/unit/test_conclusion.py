from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from engines.clinical.table import ClinicalRow
from engines.clinical.variables import ClinicalVariables, Value, Variable
from engines.configuration import find_conf
from engines.endpoint import Endpoint
from engines.mmf import RADIOMIC_INPUT, ModelName
from engines.models.store import load_model
from engines.networks.settings import ENSEMBLE
from engines.phantom.cohort import draw_cohort
from engines.phase import Phase
from engines.segmentation.lesions import Lesion
from node.conclusion import (
    SegmentedLiver,
    describe_phases,
    describe_structures,
    examined_on,
    flag_diameter,
    flag_scores,
)
from node.study import Acquisition, Instance, PhaseFinding


def instance(**values):
    return Instance(
        path=Path("1.dcm"),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        sop_instance_uid="1.2.3.4",
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        **values,
    )


def finding(**values):
    acquisition = Acquisition(series_instance_uid="1.2.3", part=0, instances=(instance(),))
    defaults = {"phase": None, "probability": None, "used": False, "excluded": None, "reasons": ("text",)}
    return PhaseFinding(acquisition=acquisition, **{**defaults, **values})


def segmented(*longest_mm):
    lesions = tuple(
        Lesion(label=number, volume_ml=10.0 / number, longest_diameter_mm=longest, slice_index=3)
        for number, longest in enumerate(longest_mm, start=1)
    )
    return SegmentedLiver(provider="baseline", version="1", liver_ml=1500.0, lesions=lesions)


def row(diameter_cm):
    category = "<=5" if diameter_cm <= 5 else ">5"
    values = {Variable.MAX_TUMOUR_DIAMETER: Value(category=category, number=diameter_cm)}
    return ClinicalRow(
        row=2, patient_id="P1", laboratory_dates={}, variables=ClinicalVariables(values=values)
    )


def test_the_native_phase_counts_as_not_used_because_the_method_does_not_take_it():
    (entry,) = describe_phases([finding(phase=Phase.PRE_CONTRAST, probability=0.99, used=True)])
    assert not entry.used
    assert entry.reasons == ("the method takes no native phase", "text")
    (entry,) = describe_phases([finding(phase=Phase.DELAYED, probability=0.99, used=True)])
    assert entry.used


def test_structures_are_liver_tumour_and_each_lesion():
    names = [one.name for one in describe_structures(segmented(40.0, 55.0))]
    assert names == ["liver", "tumour", "lesion 1", "lesion 2"]
    tumour = describe_structures(segmented(40.0, 55.0))[1]
    assert (tumour.volume_ml, tumour.longest_diameter_mm) == (15.0, 55.0)
    assert [one.name for one in describe_structures(segmented())] == ["liver"]


@pytest.mark.parametrize(
    ("table_cm", "longest_mm", "flagged"),
    [(5.0, 120.0, True), (5.0, 68.0, False), (9.0, 50.0, False), (None, 90.0, False)],
)
def test_a_table_and_a_mask_that_disagree_are_flagged(table_cm, longest_mm, flagged):
    flags = flag_diameter(None if table_cm is None else row(table_cm), segmented(longest_mm))
    assert bool(flags) is flagged
    assert not flagged or "5 cm" in flags[0]


def test_the_day_of_the_examination_is_the_earliest_acquisition():
    late, early = datetime(2026, 3, 2, 0, 5), datetime(2026, 3, 1, 23, 58)
    assert examined_on([instance(acquired_at=late), instance(acquired_at=early)]) == early.date()
    assert examined_on([instance(study_at=late)]) == late.date()
    assert examined_on([instance()]) is None


def test_an_mmf_that_wants_the_radiomic_score_says_why_it_was_not_computed():
    model = load_model(find_conf("models/demo"), allow_demonstration=True)
    patient = draw_cohort(1, seed=123, measured=False)[0]
    log_risks = {endpoint: dict.fromkeys(ENSEMBLE, 0.0) for endpoint in Endpoint}
    whole = model.assess(log_risks, patient.clinical)
    assert not any("MMF was not computed" in flag for flag in flag_scores(model, whole))
    for endpoint in Endpoint:
        fitted = model.risk_models[endpoint, ModelName.MMF]
        names = (fitted.names[0], RADIOMIC_INPUT, *fitted.names[2:])
        model.risk_models[endpoint, ModelName.MMF] = replace(fitted, cox=replace(fitted.cox, names=names))
    told = [flag for flag in flag_scores(model, model.assess(log_risks, patient.clinical)) if "MMF" in flag]
    assert told == [
        "MMF was not computed, Ensemble-DL is shown instead; missing: Radiomic score, which this node does not give to"
        " its models"
    ]
