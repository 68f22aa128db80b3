"""An external cohort that holds a patient or a scan of the fit is refused, whatever the patient is called there."""

from dataclasses import replace

import numpy as np
import pytest

from tests.fit_cohort import make_fit_cohort
from train import fitted
from train.commands import evaluate
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


def test_evaluate_keeps_external_cohorts_apart_from_the_fit_and_from_each_other(monkeypatch, tmp_path):
    asked = []

    def write(fit, folder, path, apart_from):
        asked.append((folder.name, tuple(apart_from)))
        path.write_text("patient_id,cohort,os_months,os_event,pfs_months,pfs_event,MMF\np,x,1,1,1,1,0\n")
        return f"read {folder.name}"

    monkeypatch.setattr(fitted, "read_learned", lambda fit, folder: f"learned {folder.name}")
    monkeypatch.setattr(fitted, "write_external_table", write)
    monkeypatch.setattr(evaluate, "_find_fit", lambda cohort, explicit: "fit")
    monkeypatch.setattr(evaluate, "gather_evidence", lambda *given: given)
    folders = tuple(tmp_path / name for name in ("home", "first", "second"))
    evaluate.read_source(folders, tmp_path / "scored")
    assert asked == [("first", ("learned home",)), ("second", ("learned home", "read first"))]
