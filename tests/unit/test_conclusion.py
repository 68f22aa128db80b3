from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from engines.clinical.table import ClinicalRow
from engines.clinical.variables import ClinicalVariables, Value, Variable
from engines.configuration import find_conf
from engines.endpoint import Endpoint
from engines.mmf import RADIOMIC_INPUT, ModelName
from engines.models.comparator import Comparator, ComparatorName
from engines.models.store import load_model
from engines.networks.settings import ENSEMBLE
from engines.phantom.cohort import draw_cohort
from engines.phase import Phase
from engines.radiomics.feature_file import FeatureLine
from engines.segmentation.lesions import Lesion
from node.conclusion import (
    SegmentedLiver,
    describe_missing,
    describe_phases,
    describe_risk,
    describe_structures,
    draw_patient_curves,
    examined_on,
    flag_diameter,
    flag_scores,
)
from node.study import Acquisition, Instance, PhaseFinding
from tests.fit_cohort import ORIGIN


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


def scored(model, clinical, features=None):
    log_risks = {endpoint: dict.fromkeys(ENSEMBLE, 0.0) for endpoint in Endpoint}
    return model.assess(log_risks, clinical, features)


@pytest.fixture
def radiomic_model():
    """The demonstration model with a Radiomic score in the place of a clinical variable; made for these tests alone."""
    model = load_model(find_conf("models/demo"), allow_demonstration=True)
    for endpoint in Endpoint:
        fitted = model.risk_models[endpoint, ModelName.MMF]
        names = (fitted.names[0], RADIOMIC_INPUT, *fitted.names[2:])
        model.risk_models[endpoint, ModelName.MMF] = replace(fitted, cox=replace(fitted.cox, names=names))
        alone = model.risk_models[endpoint, ModelName.ENSEMBLE_DL].cox
        model.comparators[endpoint, ComparatorName.RADIOMIC] = Comparator(
            name=ComparatorName.RADIOMIC,
            endpoint=endpoint,
            cox=replace(alone, names=("tumour DELAYED original_glcm_Imc1",)),
            cutoff=0.0,
            cutoff_rule="made for a test",
            origin=ORIGIN,
        )
    return model


def line(**values):
    given = {
        "region": "tumour",
        "phase": Phase.DELAYED,
        "feature": "original_glcm_Imc1",
        "value": -0.25,
        "grid": "g",
        "settings_sha256": ORIGIN.settings_sha256,
        "extractor": ORIGIN.extractor,
        "mask_provider": ORIGIN.mask_provider,
        "mask_version": ORIGIN.mask_version,
    }
    return FeatureLine(**{**given, **values})


def test_an_mmf_with_the_radiomic_score_shows_it_and_its_features(radiomic_model):
    clinical = draw_cohort(1, seed=123, measured=False)[0].clinical
    scores = scored(radiomic_model, clinical, [line(), line(region="liver", value=9.0)])
    assert not any("not computed" in flag for flag in flag_scores(scores))
    for endpoint in scores.endpoints:
        risk = describe_risk(endpoint)
        assert risk.model == "MMF"
        (part,) = [one for one in risk.contributions if one.name == "Radiomic score"]
        cox = radiomic_model.comparators[endpoint.endpoint, ComparatorName.RADIOMIC].cox
        expected = (-0.25 - cox.means[0]) * cox.coefficients[0]
        assert endpoint.radiomic.log_hazard == pytest.approx(expected, abs=1e-12)
        assert part.value == f"{expected:.4f}"
        (entry,) = risk.radiomic_features
        assert (entry.region, entry.phase, entry.value) == ("tumour", Phase.DELAYED, -0.25)
    assert len(draw_patient_curves(radiomic_model, scores, clinical)) == 2


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        (None, "no features were extracted"),
        ([], "1 of 1 features could not be measured: tumour DELAYED original_glcm_Imc1"),
        (
            [line(value=float("nan"))],
            "1 of 1 features could not be measured: tumour DELAYED original_glcm_Imc1",
        ),
        (
            [line(mask_provider="reader")],
            f"features come from fast, settings {'5' * 12}, masks of reader 1, those of the model from"
            f" {ORIGIN.text()}",
        ),
    ],
)
def test_an_mmf_without_its_radiomic_score_says_why_and_leaves_ensemble_dl(radiomic_model, features, reason):
    clinical = draw_cohort(1, seed=123, measured=False)[0].clinical
    scores = scored(radiomic_model, clinical, features)
    lacking = f"Radiomic score of OS and PFS ({reason})"
    assert [flag for flag in flag_scores(scores) if "MMF" in flag] == [
        f"MMF was not computed, Ensemble-DL is shown instead; missing: {lacking}"
    ]
    known = ClinicalRow(row=2, patient_id="P1", laboratory_dates={}, variables=clinical)
    assert describe_missing(known, scores) == (lacking,)
    assert describe_missing(None, scores)[1:] == (lacking,)
    for endpoint in scores.endpoints:
        assert endpoint.risk.model is ModelName.ENSEMBLE_DL
        assert describe_risk(endpoint).radiomic_features == ()


def test_the_radiomic_model_of_an_older_folder_gives_no_score(radiomic_model):
    for key, comparator in radiomic_model.comparators.items():
        radiomic_model.comparators[key] = replace(comparator, origin=None)
    scores = scored(radiomic_model, draw_cohort(1, seed=123, measured=False)[0].clinical, [line()])
    assert "no word on how its features were measured" in flag_scores(scores)[-1]


def test_a_model_without_the_radiomic_score_says_nothing_of_it():
    model = load_model(find_conf("models/demo"), allow_demonstration=True)
    scores = scored(model, draw_cohort(1, seed=123, measured=False)[0].clinical)
    assert not any("MMF was not computed" in flag for flag in flag_scores(scores))
    assert all(endpoint.radiomic is None for endpoint in scores.endpoints)
