"""Demonstration models from the first phantom to the released folder, in small."""

from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context

import numpy as np
import pytest

from engines.endpoint import Endpoint
from engines.errors import InvalidInput
from engines.mmf import ModelName
from engines.models.store import load_model
from engines.network_input import Preprocessing
from train.data import Split
from train.demo_models import DemoPlan, join_cohorts, render_cohort, train_demo_model
from train.fusion import ForestSettings

PLAN = DemoPlan(
    patients=60, testing=20, folds=2, epochs=7, seed=8, forest=ForestSettings(trees=20), version="test"
)


@pytest.fixture(scope="module")
def cohorts():
    preprocessing = Preprocessing(side=32)
    return tuple(render_cohort(size, seed, preprocessing) for size, seed in ((60, 8), (20, 9)))


def test_a_demonstration_model_is_trained_released_and_repeated_bit_for_bit(cohorts, tmp_path):
    import torch

    torch.set_num_threads(1)
    created = datetime(2026, 1, 1, tzinfo=UTC)
    models = [train_demo_model(tmp_path / name, PLAN, *cohorts, created=created) for name in ("one", "two")]
    assert models[0].sha256 == models[1].sha256  # nothing but the seed decides
    model = load_model(tmp_path / "one", allow_demonstration=True)
    training, testing = cohorts
    scores = model.score(testing.inputs[3], testing.patients[3].clinical)
    for endpoint in Endpoint:
        assert scores.of(endpoint).risk.model == ModelName.MMF
    rows = {entry.rows for entry in model.card.concordance}
    assert rows == {"out-of-fold, 60 of cohort phantoms", "testing, 20 of cohort phantoms"}
    assert {entry.model for entry in model.card.concordance} == {
        *("Network 1", "Network 2", "Network 3", "Benchmark", "Ensemble-DL", "MMF", "truth")
    }
    assert model.card.training.events_os == training.outcome(Endpoint.OS).events
    assert join_cohorts(training, testing).data.rows(Split.TESTING).size == 20


def test_the_same_traits_give_the_same_input_and_the_box_errs_by_millimetres(cohorts):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        again = render_cohort(2, 8, Preprocessing(side=32), executor)
    np.testing.assert_array_equal(again.inputs, cohorts[0].inputs[:2])
    assert cohorts[0].inputs.min() >= 0
    assert cohorts[0].inputs.max() <= 1


def test_kept_phantoms_are_found_again_and_other_phantoms_are_refused(tmp_path):
    preprocessing = Preprocessing(side=32)
    one = render_cohort(1, 8, preprocessing, kept=tmp_path)
    np.testing.assert_array_equal(render_cohort(1, 8, preprocessing, kept=tmp_path).inputs, one.inputs)
    np.save(tmp_path / "phantoms-9.npy", one.inputs)
    for size, seed in ((2, 8), (1, 9)):
        with pytest.raises(InvalidInput, match=f"phantoms-{seed}.npy holds other phantoms"):
            render_cohort(size, seed, preprocessing, kept=tmp_path)
