"""Demonstration models from the first phantom to the released folder, in small."""

from datetime import UTC, datetime

import numpy as np
import pytest

from engines.endpoint import Endpoint
from engines.mmf import ModelName
from engines.models.store import load_model
from engines.network_input import Preprocessing
from engines.networks.settings import ENSEMBLE
from train.demo_models import DemoPlan, predict_log_risks, render_cohort, train_demo_model
from train.fusion import ForestSettings

PLAN = DemoPlan(patients=60, testing=20, folds=2, epochs=7, seed=8, forest=ForestSettings(trees=20))


@pytest.fixture(scope="module")
def cohorts():
    preprocessing = Preprocessing(side=32)
    return tuple(render_cohort(size, seed, preprocessing) for size, seed in ((60, 8), (20, 9)))


def test_a_demonstration_model_is_trained_released_and_repeated_bit_for_bit(cohorts, tmp_path):
    import torch

    torch.set_num_threads(1)
    created = datetime(2026, 1, 1, tzinfo=UTC)
    models = [
        train_demo_model(tmp_path / name, PLAN, *cohorts, version="test", created=created)
        for name in ("one", "two")
    ]
    assert models[0].sha256 == models[1].sha256  # nothing but the seed decides
    model = load_model(tmp_path / "one", allow_demonstration=True)
    training, testing = cohorts
    scores = model.score(testing.inputs[3], testing.patients[3].clinical)
    networks = {(name, endpoint): model.network(name, endpoint) for name in ENSEMBLE for endpoint in Endpoint}
    batched = predict_log_risks(networks, testing.inputs, np.arange(20))
    for endpoint in Endpoint:
        single = [value for _, value in scores.of(endpoint).log_risks]
        np.testing.assert_allclose(single, batched[endpoint][3], rtol=1e-4, atol=1e-5)
        assert scores.of(endpoint).risk.model == ModelName.MMF
    rows = {entry.rows for entry in model.card.concordance}
    assert rows == {"out-of-fold, 2 folds, 60 training phantoms", "20 other phantoms"}
    assert model.card.training.events_os == training.outcome(Endpoint.OS).events


def test_the_same_traits_give_the_same_input_and_the_box_errs_by_millimetres(cohorts):
    again = render_cohort(2, 8, Preprocessing(side=32))
    np.testing.assert_array_equal(again.inputs, cohorts[0].inputs[:2])
    assert cohorts[0].inputs.min() >= 0
    assert cohorts[0].inputs.max() <= 1
