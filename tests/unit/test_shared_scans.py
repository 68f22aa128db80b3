"""An external cohort that holds a patient or a scan of the fit is refused, whatever the patient is called there."""

from dataclasses import replace

import numpy as np
import pytest

from tests.fit_cohort import make_fit_cohort
from train.data import Split
from train.errors import CohortRefused
from train.shared_scans import refuse_shared_scans


@pytest.fixture
def pair():
    """(cohort of a fit, an external one of other patients)."""
    home, _ = make_fit_cohort({Split.TRAINING: 3, Split.TESTING: 2}, seed=1, side=16)
    away, _ = make_fit_cohort({Split.TRAINING: 3}, seed=2, side=16)
    keys = [f"away-{key}" for key in away.data.patient_keys]
    return replace(home, name="home"), replace(away, name="away", data=replace(away.data, patient_keys=keys))


def test_other_patients_pass(pair):
    refuse_shared_scans(*pair)


@pytest.mark.parametrize(("row", "noise"), [(0, 0.0), (0, 0.004), (4, 0.004)])
def test_a_scan_of_the_fit_under_another_name_is_refused_with_both_cases(pair, row, noise):
    home, away = pair
    random = np.random.default_rng(3)
    copied = home.data.inputs[row] + random.normal(0, noise, home.data.inputs[row].shape)
    away.data.inputs[1] = copied.astype(np.float16)
    with pytest.raises(
        CohortRefused, match=f"case-000{row} of home and case-0001 of away hold nearly the same"
    ):
        refuse_shared_scans(home, away)


def test_a_patient_key_of_the_fit_is_refused(pair):
    home, away = pair
    keys = ["new", home.data.patient_keys[2], "other"]
    with pytest.raises(CohortRefused, match="case case-0002 of home, case case-0001 of away"):
        refuse_shared_scans(home, replace(away, data=replace(away.data, patient_keys=keys)))
