"""Intervals of the fitted risk models hold the truth about as often as they say, where the truth is known."""

import numpy as np
import pytest

from engines.endpoint import HORIZONS_MONTHS, Endpoint
from engines.mmf import ModelName
from engines.phantom.cohort import LATENT_EFFECTS, draw_cohort, true_survival
from engines.survival.outcome import Outcome
from train.clinical_model import TrainingRows, fit_risk_model

COHORTS = 200
PATIENTS = 520  # the paper's training cohort


def imaging_hazard(patient, endpoint):
    """The part of the true log hazard that the images show: an ideal Ensemble-DL score, so that the Cox model is true."""
    return sum(effect * getattr(patient.traits, name) for name, effect in LATENT_EFFECTS[endpoint].items())


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_intervals_of_survival_hold_the_truth(endpoint):
    patients = draw_cohort(20, seed=10**6, measured=False)
    horizons = HORIZONS_MONTHS[endpoint]
    truth = np.array(
        [
            [true_survival(patient.log_hazard[endpoint], endpoint, month) for month in horizons]
            for patient in patients
        ]
    )
    held = np.zeros((COHORTS, *truth.shape), dtype=bool)
    for number in range(COHORTS):
        cohort = draw_cohort(PATIENTS, seed=number, measured=False)
        follow_up = [patient.follow_up[endpoint] for patient in cohort]
        fit = fit_risk_model(
            ModelName.MMF,
            TrainingRows(
                endpoint=endpoint,
                ensemble_scores=np.array([imaging_hazard(patient, endpoint) for patient in cohort]),
                patients=[patient.clinical for patient in cohort],
                outcome=Outcome(
                    np.array([entry.months for entry in follow_up]),
                    np.array([entry.event for entry in follow_up]),
                ),
                description="simulated",
            ),
        )
        for place, patient in enumerate(patients):
            risk = fit.model.assess(imaging_hazard(patient, endpoint), patient.clinical)
            low, high = (
                np.array([getattr(point, side) for point in risk.survival]) for side in ("low", "high")
            )
            held[number, place] = (low <= truth[place]) & (truth[place] <= high)
    by_horizon = held.mean(axis=(0, 1))
    assert (np.abs(by_horizon - 0.95) < 0.02).all()
    assert (held.mean(axis=0) > 0.89).all()  # for each patient at each horizon
