"""Risk models: equal to lifelines where the two fit alike, sums that add up, nothing imputed, intervals that widen."""

import dataclasses

import numpy as np
import pytest

from engines.clinical.variables import (
    STANDARD_VARIABLES,
    ClinicalVariables,
    Value,
    Variable,
)
from engines.endpoint import HORIZONS_MONTHS, Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.mmf import ENSEMBLE_INPUT, Group, ModelName, Preset
from engines.models.cox_file import coarsen_baseline, read_cox, write_cox
from engines.phantom.cohort import draw_cohort
from engines.survival.cox import predict_survival
from engines.survival.outcome import Outcome
from train.clinical_model import CoxSettings, TrainingRows, complete_rows, fit_risk_model


def training_rows(endpoint, size=300, seed=11):
    cohort = draw_cohort(size, seed=seed, measured=False)
    random = np.random.default_rng(seed)
    latent = np.array(
        [patient.traits.burden + patient.traits.heterogeneity for patient in cohort]
    ) + random.normal(0, 0.7, size)
    follow_up = [patient.follow_up[endpoint] for patient in cohort]
    return TrainingRows(
        endpoint=endpoint,
        ensemble_scores=0.4 * latent - 0.6,
        patients=[patient.clinical for patient in cohort],
        outcome=Outcome(
            np.array([entry.months for entry in follow_up]), np.array([entry.event for entry in follow_up])
        ),
        description="made for a test",
    )


@pytest.fixture(scope="module")
def rows():
    return training_rows(Endpoint.OS)


@pytest.fixture(scope="module")
def mmf(rows):
    return fit_risk_model(ModelName.MMF, rows)


@pytest.fixture(scope="module")
def alone(rows):
    return fit_risk_model(ModelName.ENSEMBLE_DL, rows)


def test_the_inputs_are_the_score_and_thirteen_variables(mmf, alone, rows):
    assert mmf.model.cox.names == (ENSEMBLE_INPUT, *STANDARD_VARIABLES)
    assert alone.model.cox.names == (ENSEMBLE_INPUT,)
    benchmark = fit_risk_model(ModelName.BENCHMARK, rows)
    assert benchmark.model.cox.names == STANDARD_VARIABLES
    all16 = fit_risk_model(ModelName.MMF, rows, CoxSettings(preset=Preset.ALL16))
    assert len(all16.model.cox.names) == 17


def test_the_univariable_preset_keeps_what_is_associated_in_the_training_rows(rows):
    fit = fit_risk_model(ModelName.MMF, rows, CoxSettings(preset=Preset.UNIVARIABLE))
    kept = fit.model.variables
    assert Variable.PVTT in kept
    assert 1 <= len(kept) < 16


def test_log_hazard_equals_lifelines_without_a_ridge(rows):
    pandas = pytest.importorskip("pandas")
    lifelines = pytest.importorskip("lifelines")
    fit = fit_risk_model(ModelName.MMF, rows, CoxSettings(ridge=0.0))
    table = pandas.DataFrame(
        [
            fit.model.inputs(score, patient)
            for score, patient in zip(rows.ensemble_scores, rows.patients, strict=True)
        ],
        columns=fit.model.cox.names,
    )
    table["months"], table["event"] = rows.outcome.time, rows.outcome.event
    theirs = lifelines.CoxPHFitter().fit(table, "months", "event", fit_options={"precision": 1e-12})
    for row in (0, 7, 100):
        ours = fit.model.assess(rows.ensemble_scores[row], rows.patients[row])
        expected = theirs.predict_log_partial_hazard(table.iloc[[row]]).iloc[0]
        assert ours.log_hazard == pytest.approx(expected, abs=1e-8)
        # lifelines draws straight lines between event times where it predicts; its steps are compared instead. They are
        # Breslow's although it fits with Efron's ties: equal to the size of the ties.
        hazard = theirs.baseline_cumulative_hazard_["baseline cumulative hazard"]
        steps = [hazard[hazard.index <= month].iloc[-1] for month in HORIZONS_MONTHS[Endpoint.OS]]
        survival = np.exp(-np.array(steps) * np.exp(expected))
        assert [point.probability for point in ours.survival] == pytest.approx(survival.tolist(), abs=1e-3)


def test_contributions_sum_to_the_log_hazard(mmf, rows):
    for row in range(5):
        risk = mmf.model.assess(rows.ensemble_scores[row], rows.patients[row])
        total = sum(part.log_hazard for part in risk.contributions)
        assert total == pytest.approx(risk.log_hazard, abs=1e-12)
        assert risk.log_hazard == pytest.approx(mmf.log_hazards[row], abs=1e-12)


def test_the_interval_is_that_of_the_covariance_and_survival_falls(mmf, rows):
    risk = mmf.model.assess(rows.ensemble_scores[0], rows.patients[0])
    centred = mmf.model.inputs(rows.ensemble_scores[0], rows.patients[0]) - mmf.model.cox.means
    error = np.sqrt(centred @ mmf.model.cox.covariance @ centred)
    assert risk.high - risk.low == pytest.approx(2 * 1.959963984540054 * error)
    assert [point.months for point in risk.survival] == [6, 12, 24, 36]
    probabilities = [point.probability for point in risk.survival]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(0 < point.low < point.probability < point.high < 1 for point in risk.survival)


def test_group_and_percentile_follow_the_training_cohort(mmf, rows):
    risks = [
        mmf.model.assess(score, patient)
        for score, patient in zip(rows.ensemble_scores, rows.patients, strict=True)
    ]
    share_high = np.mean([risk.group == Group.HIGH for risk in risks])
    assert share_high == pytest.approx(0.5, abs=0.01)
    ranks = np.argsort(np.argsort([risk.log_hazard for risk in risks])) / len(risks) * 100
    assert np.abs([risk.percentile for risk in risks] - ranks).max() < 1.6
    assert mmf.model.assess(99.0, rows.patients[0]).percentile == 99
    assert mmf.model.assess(-99.0, rows.patients[0]).percentile == 1


def test_missing_variables_are_named_and_never_imputed(mmf, alone, rows):
    values = dict(rows.patients[0].values)
    del values[Variable.AFP]
    values[Variable.CHILD_PUGH] = Value(category="C")
    patient = ClinicalVariables(values=values)
    assert mmf.model.lacking(patient) == (Variable.CHILD_PUGH, Variable.AFP)
    assert mmf.model.lacking(None) == STANDARD_VARIABLES
    with pytest.raises(InvalidInput, match="MMF OS cannot be computed without child_pugh, afp"):
        mmf.model.assess(-0.5, patient)
    assert alone.model.assess(-0.5, None).model == ModelName.ENSEMBLE_DL
    for score in (None, float("nan")):
        with pytest.raises(InvalidInput, match="without the Ensemble-DL score"):
            alone.model.assess(score, None)


def test_rows_with_missing_values_are_left_out_of_the_fit(rows):
    patients = list(rows.patients)
    values = dict(patients[3].values)
    del values[Variable.ECOG]
    patients[3] = ClinicalVariables(values=values)
    fit = fit_risk_model(ModelName.MMF, dataclasses.replace(rows, patients=patients))
    assert len(fit.used) == 299
    assert 3 not in fit.used
    assert complete_rows(patients, ()).size == 300
    with pytest.raises(InvalidInput, match="no patient has all of"):
        fit_risk_model(
            ModelName.MMF, dataclasses.replace(rows, patients=[ClinicalVariables(values={})] * 300)
        )


def test_horizons_beyond_the_follow_up_are_not_estimable(rows):
    short = Outcome(np.minimum(rows.outcome.time, 20.0), rows.outcome.event & (rows.outcome.time <= 20.0))
    fit = fit_risk_model(ModelName.ENSEMBLE_DL, dataclasses.replace(rows, outcome=short))
    risk = fit.model.assess(-0.5, None)
    assert [point.months for point in risk.survival] == [6, 12]
    assert risk.not_estimable == (24, 36)
    with pytest.raises(InvalidInput, match="not estimable"):
        fit.model.survival(np.array([-0.5]), (24.0,))


def test_the_released_baseline_gives_the_same_survival_and_hides_event_times(mmf, rows):
    row = mmf.model.inputs(rows.ensemble_scores[4], rows.patients[4])
    horizons = HORIZONS_MONTHS[Endpoint.OS]
    full, coarse = (predict_survival(cox, row, horizons) for cox in (mmf.full, mmf.model.cox))
    for name in ("survival", "low", "high", "standard_error"):
        np.testing.assert_array_equal(getattr(full, name), getattr(coarse, name))
    assert (mmf.model.cox.baseline.time % 0.5 == 0).all()
    assert coarsen_baseline(mmf.model.cox).baseline.time.tolist() == mmf.model.cox.baseline.time.tolist()


def test_the_json_form_keeps_every_bit(mmf):
    back = read_cox(write_cox(mmf.model.cox), "cox.json")
    for name in ("coefficients", "covariance", "means"):
        np.testing.assert_array_equal(getattr(back, name), getattr(mmf.model.cox, name))
    for name in ("time", "cumulative_hazard", "variance", "mean_hazard"):
        np.testing.assert_array_equal(getattr(back.baseline, name), getattr(mmf.model.cox.baseline, name))
    assert (back.names, back.n, back.events, back.ridge) == (mmf.model.cox.names, 300, mmf.full.events, 1.0)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"names": ("ensemble_dl", "colour")}, "unknown input 'colour'"),
        ({"names": ("ensemble_dl", "afp")}, "do not have one row for each input"),
        ({"names": ("afp",)}, "MMF has the inputs afp"),
    ],
)
def test_refuses_inputs_that_do_not_fit(alone, change, fault):
    cox = dataclasses.replace(alone.model.cox, **change)
    with pytest.raises(ModelRefused, match=fault):
        dataclasses.replace(alone.model, name=ModelName.MMF, cox=cox)


def test_refuses_numbers_that_cannot_be(alone):
    model, cox = alone.model, alone.model.cox
    falling = dataclasses.replace(cox.baseline, cumulative_hazard=cox.baseline.cumulative_hazard[::-1].copy())
    for change, fault in (
        ({"cox": dataclasses.replace(cox, covariance=np.array([[-1.0]]))}, "not symmetric and positive"),
        ({"cox": dataclasses.replace(cox, coefficients=np.array([np.nan]))}, "not finite"),
        ({"cox": dataclasses.replace(cox, baseline=falling)}, "does not rise"),
        ({"quantiles": model.quantiles[:50]}, "quantiles"),
        ({"quantiles": model.quantiles[::-1]}, "quantiles"),
        ({"cutoff": float("nan")}, "cut-off"),
        ({"name": ModelName.BENCHMARK}, "Benchmark has the inputs"),
    ):
        with pytest.raises(ModelRefused, match=fault):
            dataclasses.replace(model, **change)
