"""What is told beside the scores: maps of the networks in service, their place in the patient, and unusual inputs."""

import copy
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from engines.case import Case, write_array
from engines.configuration import find_conf
from engines.endpoint import Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.models.reference import InputReference, describe_inputs, read_reference, write_reference
from engines.models.store import load_model
from engines.network_input import network_grid
from engines.networks.settings import ENSEMBLE
from engines.novelty import describe_input, find_unusual_channels, fit_novelty
from engines.phantom.cohort import draw_cohort
from engines.phase import ASSESSED_PHASES, Phase
from engines.saliency import explain_risk
from engines.segmentation.baseline import BaselineSegmenter
from engines.volume import Grid, Volume
from node.explanation import COARSE_CHECK, draw_maps, explain_scores, flag_novelty, place_maps
from node.phases.rules import load_rules
from node.steps import Steps
from node.study import Instance, Study
from node.walk import Request, Tools, Walk
from train.synthetic import render_inputs

torch.set_num_threads(1)

STUDY = Study(
    study_instance_uid="2.25.7",
    instances=(
        Instance(
            path=Path("1.dcm"),
            sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
            sop_instance_uid="2.25.9",
            study_instance_uid="2.25.7",
            series_instance_uid="2.25.8",
        ),
    ),
)
GRID = Grid(shape=(20, 24, 28), spacing_mm=(5.0, 4.0, 4.0), origin_mm=(-60.0, -50.0, 10.0))


@pytest.fixture(scope="module")
def model():
    """The demonstration model as an older release would be: without the finer reference of its training inputs."""
    model = load_model(find_conf("models/demo"), allow_demonstration=True)
    model.reference = replace(model.reference, novelty=None)
    return model


@pytest.fixture(scope="module")
def usual(model):
    """The input of a synthetic patient that the model has not seen."""
    return render_inputs(draw_cohort(1, seed=77), model.card.preprocessing)[0]


def liver():
    array = np.zeros(GRID.shape, dtype=bool)
    array[4:16, 6:18, 5:22] = True
    return Volume(array=array, grid=GRID)


def walk_to_the_scores(folder, model, network_input, *, activation_maps=True):
    """A study whose network input lies in its case folder, scored by ``model``."""
    tools = Tools(
        phase_rules=load_rules(),
        segmenter=BaselineSegmenter(),
        radiomics=None,
        activation_maps=activation_maps,
        model_folder=folder,
        allow_demonstration=True,
        maximum_scan_age_weeks=8.0,
        report_unrequested=True,
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
    )
    case = Case(folder=folder / "case")
    walk = Walk(
        request=Request(study=STUDY, row=None), tools=tools, case=case, steps=Steps(folder=case.folder)
    )
    walk.model, walk.liver = model, liver()
    walk.steps.run(
        "input",
        [],
        lambda: write_array(network_input, case.network_input_path),
        TypeAdapter(None),
        [case.network_input_path],
    )
    return walk


def test_each_network_of_the_model_is_explained_for_each_endpoint_after_it_has_scored(model, usual):
    model.log_risks(usual)  # reads the networks in the mode that keeps no gradients
    maps = draw_maps(model, usual)
    assert maps.shape == (2, 3, 32, 32, 32)
    assert maps.dtype == np.uint8
    assert set(maps.max(axis=(2, 3, 4)).ravel()) <= {0, 255}
    alone = explain_risk(model.network(ENSEMBLE[1], Endpoint.PFS), usual, Endpoint.PFS)
    np.testing.assert_array_equal(maps[1, 1], np.rint(alone.values * 255))
    assert torch.is_grad_enabled()


def test_explaining_says_the_risk_that_was_scored(model, usual):
    scored = model.log_risks(usual)
    for endpoint in Endpoint:
        for name in ENSEMBLE:
            found = explain_risk(model.network(name, endpoint), usual, endpoint)
            assert found.log_risk == pytest.approx(scored[endpoint][name], abs=1e-5)


def test_maps_lie_where_the_network_input_was_taken(model):
    grid = network_grid(liver(), model.card.preprocessing)
    maps = np.zeros((2, 3, 32, 32, 32), dtype=np.uint8)
    maps[0, 2, 31, 0, 16] = 255
    placed = place_maps(model, maps, grid)
    assert [(one.endpoint, one.network) for one in placed] == [
        (endpoint, f"Network {n}") for endpoint in ("OS", "PFS") for n in (1, 2, 3)
    ]
    place = np.argwhere(placed[2].volume.array == 1.0)[0]
    point = (placed[2].volume.grid.affine() @ [*place, 1])[:3]
    # the box: x from 5 to 21, y from 6 to 17, z from 4 to 15 voxel centres, half a voxel and 5 mm more on each side
    low = np.array([-60 + 4 * 4.5, -50 + 4 * 5.5, 10 + 5 * 3.5]) - 5
    high = np.array([-60 + 4 * 21.5, -50 + 4 * 17.5, 10 + 5 * 15.5]) + 5
    share = (point - low) / (high - low)
    np.testing.assert_allclose(share, [16.5 / 32, 0.5 / 32, 31.5 / 32], atol=1e-9)


def test_the_step_is_done_once_and_gives_the_same_maps_again(model, usual, tmp_path):
    walk = walk_to_the_scores(tmp_path, model, usual)
    assert explain_scores(walk) is None
    assert len(walk.saliency) == 6
    assert walk.flags == [COARSE_CHECK]
    again = walk_to_the_scores(tmp_path, model, usual)
    assert explain_scores(again) is None
    assert again.steps.done[-1].name == "explain"
    assert again.steps.done[-1].reused
    for one, other in zip(walk.saliency, again.saliency, strict=True):
        np.testing.assert_array_equal(one.volume.array, other.volume.array)


def test_a_network_that_cannot_be_read_is_a_flag_and_no_failed_study(usual, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(find_conf("models/demo"), folder)
    model = load_model(folder, allow_demonstration=True)
    for path in (folder / "networks").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    walk = walk_to_the_scores(tmp_path, model, usual)
    assert explain_scores(walk) is None
    assert walk.saliency == ()
    flag = walk.flags[-1]
    assert flag.startswith("where the networks looked cannot be shown: ")
    assert "SHA-256" in flag


def test_a_site_may_leave_the_maps_out(model, usual, tmp_path):
    walk = walk_to_the_scores(tmp_path, model, usual, activation_maps=False)
    assert explain_scores(walk) is None
    assert walk.saliency == ()
    assert not walk.case.activation_maps_path.exists()


def test_an_input_like_the_training_inputs_is_not_flagged_and_one_unlike_them_is_with_its_numbers(
    model, usual
):
    assert flag_novelty(model, usual) == (COARSE_CHECK,)
    strange = usual.copy()
    strange[1] = 1.0
    flag, coarse = flag_novelty(model, strange)
    assert coarse == COARSE_CHECK
    assert flag.startswith(
        "input unlike the training data: portal venous mean 1.00, training 0.32 ± 0.01 (+68 SD)"
    )
    assert "portal venous spread 0.00, training 0.30 ± 0.01 (-30 SD)" in flag
    assert "arterial" not in flag


def drawn(seed):
    """An input of three channels, each with its own gradient, that varies from case to case."""
    random = np.random.default_rng(seed)
    slope = np.linspace(-0.1, 0.1, 8)
    ways = np.stack([slope[:, None, None] + np.zeros((8, 8, 8)), slope[None, :, None] + np.zeros((8, 8, 8))])
    ways = np.concatenate([ways, slope[None, None, :] + np.zeros((1, 8, 8, 8))])
    level = np.array([0.5, 0.5, 0.5]) + random.normal(0, 0.02, 3)
    return np.clip(level[:, None, None, None] + ways + random.normal(0, 0.02, (3, 8, 8, 8)), 0, 1)


def test_a_finer_reference_tells_exchanged_phases_that_brightness_and_spread_cannot(model):
    inputs = np.stack([drawn(seed) for seed in range(120)])
    voxels = inputs.reshape(120, 3, -1)
    finer = copy.copy(model)
    finer.reference = replace(
        model.reference,
        network_input=describe_inputs(voxels.mean(axis=2), voxels.std(axis=2), ASSESSED_PHASES),
        novelty=fit_novelty(np.stack([describe_input(one) for one in inputs])),
    )
    assert flag_novelty(finer, drawn(500)) == ()
    swapped = drawn(500)[::-1].copy()
    assert find_unusual_channels(swapped, finer.reference.network_input) == ()
    (flag,) = flag_novelty(finer, swapped)
    assert re.fullmatch(
        r"input unlike the training data: distance \d+\.\d, 99% of the training inputs lie within \d\.\d; it would be"
        r" usual with arterial and delayed exchanged: check the phases",
        flag,
    )
    (flag,) = flag_novelty(finer, np.full((3, 8, 8, 8), 0.5))
    assert "exchanged" not in flag
    assert "spread 0.00" in flag


def test_a_model_folder_keeps_the_finer_reference_and_refuses_a_ragged_one(model):
    novelty = fit_novelty(np.stack([describe_input(drawn(seed)) for seed in range(30)]))
    kept = replace(model.reference, novelty=novelty)
    assert read_reference(write_reference(kept)) == kept
    assert "novelty" not in write_reference(model.reference)
    assert read_reference(write_reference(model.reference)).novelty is None
    for ragged in (
        replace(novelty, mean=novelty.mean[:-1]),
        replace(novelty, variances=novelty.variances[:-1]),
    ):
        with pytest.raises(ModelRefused, match="ragged"):
            read_reference(write_reference(replace(kept, novelty=ragged)))


def test_four_deviations_are_unusual_and_a_tiny_deviation_counts_as_a_hundredth():
    reference = [
        InputReference(phase=phase, mean=0.5, mean_sd=0.05, sd=0.0, sd_sd=1e-6) for phase in ASSESSED_PHASES
    ]
    array = np.empty((3, 4, 4, 4))
    array[0], array[1], array[2] = 0.5 + 0.19, 0.5 - 0.21, 0.5 + 0.30
    found = find_unusual_channels(array, reference)
    assert [(one.phase, one.quantity) for one in found] == [
        (Phase.DELAYED, "mean"),
        (Phase.PORTAL_VENOUS, "mean"),
    ]
    assert [one.deviations for one in found] == pytest.approx([6.0, -4.2])
    exact = [replace(entry, mean=0.5, sd_sd=0.0) for entry in reference]
    array[:] = 0.5
    array[0, :2] += 0.039
    array[0, 2:] -= 0.039
    assert find_unusual_channels(array, exact) == ()
    array[0, :2] += 0.002
    array[0, 2:] -= 0.002
    assert [one.quantity for one in find_unusual_channels(array, exact)] == ["spread"]
    with pytest.raises(InvalidInput, match="2 channels"):
        find_unusual_channels(array[:2], reference)
