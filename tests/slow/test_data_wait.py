"""A training step waits for its data at most a twentieth of its time: the mini recipe, from case folders on the disk."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.networks.settings import ENSEMBLE
from tests.training_cohort import make_cohort, write_cohort
from train.cohort import read_cohort
from train.data import Split
from train.loop import train_network
from train.recipes import read_recipe

torch.set_num_threads(1)

LARGEST_SHARE = 0.05
RECIPE = read_recipe("mini")
AUGMENTATION = 0.55
"""The paper's, on top of the mini recipe: it is part of the step, and its inputs have to be there."""


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    data, _, _ = make_cohort(0, side=32, splits={Split.TRAINING: 96, Split.VALIDATION: 24})
    write_cohort(folder, data)
    return folder


@pytest.mark.parametrize("name", ENSEMBLE)
def test_steps_hardly_wait_for_their_data(name, cohort):
    settings = RECIPE.settings[name]
    data = read_cohort(cohort, settings.phases, settings.side)
    assert isinstance(data.inputs, np.memmap)
    schedule = replace(RECIPE.schedules[name], epochs=7, augmentation=AUGMENTATION)
    history = train_network(name, settings, data, schedule).history
    seconds = sum(record.seconds for record in history)
    share = sum(record.seconds * record.data_wait for record in history) / seconds
    sys.stderr.write(f"\n{name}: {share:.2%} of {seconds:.1f} s waiting for data, {len(history)} epochs\n")
    assert share <= LARGEST_SHARE
