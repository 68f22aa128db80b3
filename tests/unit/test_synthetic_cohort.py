"""Synthetic cohorts: the stated event rates, the logic of BCLC, and times that follow the known hazard."""

import numpy as np
import pytest

from engines.clinical.scores import find_contradictions
from engines.clinical.variables import Variable
from engines.endpoint import Endpoint
from engines.phantom.cohort import (
    CLINICAL_EFFECTS,
    LATENT_EFFECTS,
    READER_SPREAD,
    draw_cohort,
    true_log_hazard,
    true_survival,
)
from engines.survival.cox import fit_cox
from engines.survival.outcome import Outcome


@pytest.fixture(scope="module")
def cohort():
    return draw_cohort(4000, seed=5, measured=False)


def outcome_of(cohort, endpoint):
    follow_up = [patient.follow_up[endpoint] for patient in cohort]
    return Outcome(
        np.array([entry.months for entry in follow_up]), np.array([entry.event for entry in follow_up])
    )


def test_event_rates_and_follow_up_are_like_the_papers(cohort):
    os, pfs = (outcome_of(cohort, endpoint) for endpoint in (Endpoint.OS, Endpoint.PFS))
    assert os.events / os.n == pytest.approx(0.63, abs=0.03)
    assert pfs.events / pfs.n == pytest.approx(0.90, abs=0.03)
    assert 44 < os.time.max() <= 48.1
    assert (pfs.time <= os.time).all()
    assert pfs.event[os.event].all()


def test_stage_c_follows_from_the_findings(cohort):
    for patient in cohort[:500]:
        assert find_contradictions(patient.clinical) == ()
        assert patient.clinical.missing() == ()
        advanced = any(
            patient.clinical.indicator(variable)
            for variable in (
                Variable.PVTT,
                Variable.LUNG_METASTASIS,
                Variable.BONE_METASTASIS,
                Variable.LYMPH_NODE_METASTASIS,
                Variable.ECOG,
            )
        )
        assert patient.clinical.get(Variable.BCLC).category == ("C" if advanced else "B")


def test_clinical_findings_hang_together_with_what_the_images_show(cohort):
    burden = np.array([patient.traits.burden for patient in cohort])
    pvtt = np.array([patient.clinical.indicator(Variable.PVTT) for patient in cohort])
    assert np.corrcoef(burden, pvtt)[0, 1] > 0.2


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_a_cox_model_finds_the_hazard_that_was_put_in(cohort, endpoint):
    truth = np.array([patient.log_hazard[endpoint] for patient in cohort])
    fit = fit_cox(truth, outcome_of(cohort, endpoint))
    standard_error = float(np.sqrt(fit.covariance[0, 0]))
    assert abs(fit.coefficients[0] - 1.0) < 3 * standard_error
    assert standard_error < 0.04


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_survival_at_a_year_is_the_stated_one(cohort, endpoint):
    outcome = outcome_of(cohort, endpoint)
    year = 9.5  # before the first censoring, so that plain counting is right
    expected = np.mean([true_survival(patient.log_hazard[endpoint], endpoint, year) for patient in cohort])
    assert np.mean(outcome.time > year) == pytest.approx(expected, abs=0.02)


def test_the_hazard_is_the_sum_of_its_effects():
    patient = draw_cohort(1, seed=9, measured=False)[0]
    effects = LATENT_EFFECTS[Endpoint.OS]
    expected = sum(effect * getattr(patient.traits, name) for name, effect in effects.items())
    expected += sum(
        effect
        for variable, effect in CLINICAL_EFFECTS[Endpoint.OS].items()
        if patient.clinical.indicator(variable)
    )
    assert true_log_hazard(patient.traits, patient.clinical, Endpoint.OS) == pytest.approx(expected)


def test_the_same_seed_gives_the_same_patients_and_a_longer_cohort_begins_with_them():
    first, longer, other = (draw_cohort(n, seed, measured=False) for n, seed in ((3, 1), (5, 1), (3, 2)))
    assert longer[:3] == first
    assert other != first


def test_the_clinical_diameter_is_a_reading_of_the_phantom():
    from engines.phantom.anatomy import draw_anatomy

    for patient in draw_cohort(8, seed=3):
        tumours = draw_anatomy(patient.traits).tumours
        diameter = patient.clinical.get(Variable.MAX_TUMOUR_DIAMETER).number
        assert diameter == pytest.approx(tumours[0].longest_diameter_mm / 10, rel=4 * READER_SPREAD)
        assert patient.clinical.get(Variable.UP_TO_SEVEN).number >= diameter + len(tumours) - 1e-9


def test_size_and_up_to_seven_are_not_the_same_variable(cohort):
    sides = [
        (
            patient.clinical.indicator(Variable.UP_TO_SEVEN),
            patient.clinical.indicator(Variable.MAX_TUMOUR_DIAMETER),
        )
        for patient in cohort
    ]
    assert 0.05 < np.mean([one != other for one, other in sides]) < 0.4
