"""The Radiomic model: every step of the selection, the paper's list, and what happens when nothing is left."""

import numpy as np
import pytest

from engines.endpoint import Endpoint
from engines.errors import InvalidInput, SurvivalRefused
from engines.radiomics.names import FEATURE_NAMES, full_name
from engines.survival.outcome import Outcome
from engines.survival.risk_sets import Ties, arrange_risk_sets, partial_likelihood
from train.errors import CohortRefused
from train.radiomic_model import (
    FIXED_FEATURES,
    FeatureMatrix,
    RadiomicMode,
    fit_radiomic,
    log_likelihoods,
)

ROWS = 160


def draw(seed=0):
    """Two features that tell, a worse copy of the first, one near-constant, one often missing, four of noise."""
    random = np.random.default_rng(seed)
    first, second = random.normal(size=(2, ROWS))
    constant = np.zeros(ROWS)
    constant[:5] = 1.0
    absent = first.copy()
    absent[:40] = np.nan
    noise = random.normal(size=(ROWS, 4))
    copy = np.exp(first + random.normal(0, 0.35, ROWS))
    values = np.column_stack([1e4 * first, second, copy, constant, absent, noise])
    names = ("first", "second", "copy", "constant", "absent", *(f"noise{k}" for k in range(4)))
    time = 20 * random.exponential(np.exp(-0.9 * first + 0.8 * second))
    contact = random.uniform(10, 48, ROWS)
    outcome = Outcome(np.minimum(time, contact), time <= contact)
    return FeatureMatrix(names=names, values=values), outcome


def test_the_selection_keeps_what_tells_and_says_how_many_each_step_left():
    matrix, outcome = draw()
    fit = fit_radiomic(matrix, np.arange(ROWS), outcome, Endpoint.OS)
    assert set(fit.features) >= {"first", "second"}
    assert not set(fit.features) & {"copy", "constant", "absent"}
    steps = dict(fit.steps)
    assert (steps["measured"], steps["known"], steps["not near-constant"]) == (9, 8, 7)
    assert steps["|Spearman| <= 0.9"] == 6
    assert steps["lasso, 10-fold"] == len(fit.features)
    coefficients = dict(zip(fit.cox.names, fit.cox.coefficients, strict=True))
    assert coefficients["second"] < 0 < coefficients["first"]
    assert np.isfinite(fit.log_hazards(matrix)).all()


def test_rows_that_may_not_be_seen_decide_nothing():
    matrix, outcome = draw()
    seen = np.arange(120)
    before = fit_radiomic(matrix, seen, outcome.take(seen), Endpoint.OS)
    values = matrix.values.copy()
    values[120:] = 1e9
    after = fit_radiomic(
        FeatureMatrix(names=matrix.names, values=values), seen, outcome.take(seen), Endpoint.OS
    )
    assert before.features == after.features
    np.testing.assert_array_equal(before.cox.coefficients, after.cox.coefficients)


def test_where_nothing_is_left_everyone_has_the_same_log_hazard():
    matrix, outcome = draw()
    noise = FeatureMatrix(names=("constant",), values=matrix.values[:, 3:4])
    fit = fit_radiomic(noise, np.arange(ROWS), outcome, Endpoint.OS)
    assert (fit.features, fit.cox) == ((), None)
    assert (fit.log_hazards(noise) == 0).all()
    empty = FeatureMatrix(names=("constant",), values=np.full((ROWS, 1), np.nan))
    assert np.isnan(fit_radiomic(empty, np.arange(ROWS), outcome, Endpoint.OS).log_hazards(empty)).all()


def test_the_papers_list_has_nine_and_six_features_under_pyradiomics_names():
    assert [len(FIXED_FEATURES[endpoint]) for endpoint in Endpoint] == [9, 6]
    known = {full_name(family, name) for family, names in FEATURE_NAMES.items() for name in names}
    for endpoint in Endpoint:
        for column in FIXED_FEATURES[endpoint]:
            region, phase, feature = column.split(" ")
            assert region in ("liver", "tumour")
            assert phase in ("ARTERIAL", "PORTAL_VENOUS", "DELAYED")
            assert feature in known
    assert FIXED_FEATURES[Endpoint.PFS][-1] == "tumour DELAYED original_glcm_Imc1"


def test_the_papers_list_leaves_out_cases_that_lack_a_feature_and_is_refused_without_any():
    _, outcome = draw()
    values = np.random.default_rng(1).normal(size=(ROWS, 6))
    values[7, 2] = np.nan
    matrix = FeatureMatrix(names=FIXED_FEATURES[Endpoint.PFS], values=values)
    fit = fit_radiomic(matrix, np.arange(ROWS), outcome, Endpoint.PFS, RadiomicMode.FIXED)
    assert fit.features == FIXED_FEATURES[Endpoint.PFS]
    assert fit.used.size == ROWS - 1
    assert np.isnan(fit.log_hazards(matrix)[7])
    lacking = FeatureMatrix(names=matrix.names[:5], values=values[:, :5])
    with pytest.raises(CohortRefused, match="none has tumour DELAYED original_glcm_Imc1"):
        fit_radiomic(lacking, np.arange(ROWS), outcome, Endpoint.PFS, RadiomicMode.FIXED)
    with pytest.raises(InvalidInput, match="3 rows, 160 outcomes"):
        fit_radiomic(matrix, np.arange(3), outcome, Endpoint.PFS)
    censored = Outcome(outcome.time, np.zeros(ROWS, dtype=bool))
    with pytest.raises(SurvivalRefused, match="all 159 patients are censored"):
        fit_radiomic(matrix, np.arange(ROWS), censored, Endpoint.PFS, RadiomicMode.FIXED)


def test_the_likelihood_of_many_models_equals_that_of_the_cox_room():
    _, outcome = draw()
    rounded = Outcome(np.ceil(outcome.time), outcome.event)  # tied times
    x = np.random.default_rng(3).normal(size=(ROWS, 3))
    betas = np.random.default_rng(4).normal(size=(3, 5))
    data = arrange_risk_sets(x, rounded, Ties.BRESLOW)
    expected = [partial_likelihood(data, beta).log_likelihood for beta in betas.T]
    np.testing.assert_allclose(log_likelihoods(x @ betas, rounded), expected, rtol=1e-12)
