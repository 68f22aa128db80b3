"""Fits with missing values, without features or responses, with separating variables, and with every option."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.clinical.variables import ClinicalVariables, Value, Variable
from engines.endpoint import Endpoint
from engines.errors import ModelRefused
from engines.mmf import RADIOMIC_INPUT, ModelName, Preset
from engines.models.comparator import NON_RESPONDER, ComparatorName, feature_column, read_feature_column
from engines.models.reference import Reference, describe_clinical, describe_inputs
from engines.network_input import Preprocessing
from engines.networks.registry import build_network
from engines.networks.settings import ENSEMBLE, NetworkSettings
from engines.radiomics.feature_file import FeatureLine
from tests.fit_cohort import FIT_PLAN, FIT_SPLITS, fit_imaginary, make_fit_cohort
from tests.model_folder import statement
from train.clinical_model import CoxSettings, Estimator
from train.cutoff import CutoffChoice, CutoffRule
from train.fusion import ForestSettings
from train.radiomic_model import FIXED_FEATURES, FeatureMatrix, RadiomicMode
from train.release import FittedParts, write_release


@pytest.fixture(scope="module")
def cohort():
    return make_fit_cohort(FIT_SPLITS, seed=4, images=False)[0]


def test_missing_values_are_complete_case_counted_and_never_imputed(cohort):
    clinical = list(cohort.clinical)
    for row in (0, 1, 2):
        values = {name: value for name, value in clinical[row].values.items() if name != Variable.AFP}
        clinical[row] = ClinicalVariables(values=values)
    values = cohort.features.values.copy()
    values[3] = np.nan
    broken = replace(
        cohort, clinical=tuple(clinical), features=FeatureMatrix(names=cohort.features.names, values=values)
    )
    models = fit_imaginary(broken)
    assert models.used["MMF OS"] == models.used["Benchmark PFS"] == 107
    assert models.used["Radiomic OS"] == 109
    assert np.isnan(models.out_of_fold["MMF"][Endpoint.OS][:3]).all()
    assert np.isfinite(models.out_of_fold["Ensemble-DL"][Endpoint.OS][:3]).all()
    words = " ".join(models.limits)
    assert "MMF OS: 3 of 110 discovery cases lack an input" in words
    assert "Radiomic OS: 1 of 110 discovery cases lack a feature" in words


def test_a_cohort_without_features_and_responses_says_so_and_has_the_other_models(cohort):
    bare = replace(
        cohort,
        features=FeatureMatrix(names=(), values=np.empty((cohort.n, 0))),
        responses=replace(cohort.responses, non_responder=np.full(cohort.n, np.nan)),
    )
    models = fit_imaginary(bare)
    assert "Radiomic" not in models.out_of_fold
    assert not models.comparators
    assert any("no Radiomic model" in words for words in models.limits)
    assert any("no mRECIST model" in words for words in models.limits)
    undated = replace(cohort, responses=replace(cohort.responses, months=np.full(cohort.n, np.nan)))
    models = fit_imaginary(undated)
    assert {one.name for one in models.comparators} == {
        ComparatorName.RADIOMIC,
        ComparatorName.MRECIST_FROM_START,
    }
    assert any("no landmark" in words for words in models.limits)


def test_a_variable_that_separates_and_one_that_never_varies_are_told(cohort):
    clinical = []
    for row, patient in enumerate(cohort.clinical):
        early = cohort.data.os.months[row] < 8 and cohort.data.os.event[row] > 0
        values = dict(patient.values)
        values[Variable.ECOG] = Value(category="1" if early else "0")
        values[Variable.CIRRHOSIS] = Value(category="absent")
        clinical.append(ClinicalVariables(values=values))
    models = fit_imaginary(replace(cohort, clinical=tuple(clinical)))
    words = " ".join(models.limits)
    assert "MMF OS was fitted without Cirrhosis" in words
    assert "ECOG performance status separates the events" in words
    risk = next(
        f for f in models.risk_fits if (f.model.name, f.model.endpoint) == (ModelName.MMF, Endpoint.OS)
    )
    assert np.isfinite(risk.model.cox.coefficients).all()


def test_the_options_forest_radiomic_fixed_list_and_maxstat(cohort):
    clinical = CoxSettings(
        preset=Preset.ALL16,
        estimator=Estimator.FOREST,
        forest=ForestSettings(trees=8, depth=3),
        with_radiomic=True,
        cutoff=CutoffChoice(rule=CutoffRule.MAXSTAT),
    )
    models = fit_imaginary(cohort, replace(FIT_PLAN, clinical=clinical, radiomic=RadiomicMode.FIXED))
    for fit_ in models.risk_fits:
        assert (fit_.model.front is not None) == (fit_.model.name is ModelName.MMF)
    mmf = models.risk_fits[0].model
    assert len(mmf.names) == 18
    assert RADIOMIC_INPUT in mmf.names
    score, radiomic = (
        models.apparent["Ensemble-DL"][Endpoint.OS][0],
        models.apparent["Radiomic"][Endpoint.OS][0],
    )
    risk = mmf.assess(float(score), cohort.clinical[0], float(radiomic))
    assert risk.log_hazard == pytest.approx(models.apparent["MMF"][Endpoint.OS][0])
    assert sum(part.log_hazard for part in risk.contributions) == pytest.approx(risk.log_hazard, abs=1e-12)
    assert models.radiomic["whole", Endpoint.OS].features == FIXED_FEATURES[Endpoint.OS]
    assert len(models.radiomic["fold-0", Endpoint.PFS].features) == 6
    assert models.cutoffs["MMF", Endpoint.OS][1].startswith("maximally selected")


def test_every_option_survives_the_model_folder(cohort, tmp_path):
    clinical = CoxSettings(
        estimator=Estimator.FOREST, forest=ForestSettings(trees=8, depth=3), with_radiomic=True
    )
    plan = replace(FIT_PLAN, clinical=clinical, radiomic=RadiomicMode.FIXED)
    models = fit_imaginary(cohort, plan)
    torch.manual_seed(1)
    settings = NetworkSettings(side=32, width=0.125, depth=0.25)
    networks = {name: build_network(name, settings).eval() for name in ENSEMBLE}
    inputs = np.random.default_rng(2).random((3, 32, 32, 32)).astype(np.float16)
    statistics = np.random.default_rng(3).random((2, 20, 3))
    parts = FittedParts(
        preprocessing=Preprocessing(side=32),
        networks={(name, endpoint): network for name, network in networks.items() for endpoint in Endpoint},
        half=False,
        ensembles=models.ensembles,
        risk_fits=models.risk_fits,
        comparators=models.comparators,
        reference=Reference(
            models=tuple(fit.reference for fit in models.risk_fits),
            network_input=describe_inputs(*statistics, Preprocessing().phases),
            log_risks=(),
            clinical=describe_clinical(cohort.clinical),
        ),
    )
    model = write_release(tmp_path / "model", statement("1"), parts, inputs)
    patient, features = cohort.clinical[5], feature_lines(cohort, 5)
    for endpoint in Endpoint:
        released = model.risk_models[endpoint, ModelName.MMF]
        assert released.front is not None
        score = float(models.apparent["Ensemble-DL"][endpoint][5])
        radiomic = model.radiomic_score(endpoint, features).log_hazard
        assert radiomic == pytest.approx(models.apparent["Radiomic"][endpoint][5], abs=1e-12)
        risk = released.assess(score, patient, radiomic)
        assert risk.log_hazard == pytest.approx(models.apparent["MMF"][endpoint][5], abs=1e-12)
        assert 0 < risk.survival[0].probability < 1
        answer = model.comparators[endpoint, ComparatorName.MRECIST_FROM_START]
        flag = float(cohort.responses.non_responder[5])
        expected = models.apparent["mRECIST (no landmark)"][endpoint][5]
        assert answer.log_hazard({NON_RESPONDER: flag}) == pytest.approx(expected, abs=1e-12)
        assert answer.log_hazard({}) is None
    assert model.score(inputs, patient, features).of(Endpoint.OS).risk.model is ModelName.MMF
    other = [replace(line, settings_sha256="6" * 64) for line in features]
    for given, reason in (
        (None, "no features were extracted"),
        (features[1:], "1 of 9 features could not be measured: liver ARTERIAL original_glrlm_GrayLevel"),
        (other, "settings 666666666666, masks of synthetic 1, those of the model from fast, settings 5"),
        (
            [*features[:3], replace(features[3], mask_version="2"), *features[4:]],
            "masks of synthetic 2, those",
        ),
    ):
        scores = model.score(inputs, patient, given).of(Endpoint.OS)
        assert scores.risk.model is ModelName.ENSEMBLE_DL, "never wrong silently: no score, no MMF"
        assert scores.radiomic.log_hazard is None
        assert reason in scores.radiomic.reason
    unfit = tuple(
        replace(one, origin=None) if one.name is ComparatorName.RADIOMIC else one
        for one in models.comparators
    )
    with pytest.raises(ModelRefused, match=r"MMF OS, PFS takes the Radiomic score, but there is no"):
        write_release(tmp_path / "unfit", statement("1"), replace(parts, comparators=unfit), inputs)


def test_an_mmf_takes_no_radiomic_score_whose_released_model_has_no_feature(cohort):
    values = np.random.default_rng(8).normal(size=cohort.features.values.shape)
    noise = replace(cohort, features=FeatureMatrix(names=cohort.features.names, values=values))
    models = fit_imaginary(noise, replace(FIT_PLAN, clinical=CoxSettings(with_radiomic=True)))
    without = {endpoint for endpoint in Endpoint if models.radiomic["whole", endpoint].cox is None}
    assert without, "the seed was chosen so that selection leaves nothing"
    for fit_ in models.risk_fits:
        if fit_.model.name is ModelName.MMF:
            assert fit_.model.needs_radiomic == (fit_.model.endpoint not in without)
    for endpoint in without:
        assert f"MMF {endpoint} was fitted without the Radiomic score: no feature was left" in " ".join(
            models.limits
        )


def test_a_radiomic_model_names_region_phase_and_feature_of_each_input(cohort):
    models = fit_imaginary(cohort)
    radiomic = next(one for one in models.comparators if one.name is ComparatorName.RADIOMIC)
    places = [read_feature_column(name) for name in radiomic.cox.names]
    assert [feature_column(one.region, one.phase, one.feature) for one in places] == list(radiomic.cox.names)
    for wrong in ("liver", "spleen ARTERIAL original_x_Y", "liver PRE_CONTRAST original_x_Y", "liver A B C"):
        cox = replace(radiomic.cox, names=(wrong, *radiomic.cox.names[1:]))
        with pytest.raises(ModelRefused, match="is no radiomic feature"):
            replace(radiomic, cox=cox)


def feature_lines(cohort, row):
    """The features of a case as its features.csv would hold them."""
    lines = []
    for name, value in zip(cohort.features.names, cohort.features.values[row], strict=True):
        place, origin = read_feature_column(name), cohort.feature_origin
        lines.append(
            FeatureLine(
                region=place.region,
                phase=place.phase,
                feature=place.feature,
                value=float(value),
                settings_sha256=origin.settings_sha256,
                grid="g",
                extractor=origin.extractor,
                mask_provider=origin.mask_provider,
                mask_version=origin.mask_version,
            )
        )
    return lines
