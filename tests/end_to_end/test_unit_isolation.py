"""The networks of a unit: nothing of the cases it must not see, image, outcome or label, changes a weight."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.case import hash_file
from engines.networks.settings import NetworkName, NetworkSettings
from tests.fit_cohort import make_fit_cohort
from train.data import Split
from train.fit_folder import FitFolder
from train.fit_plan import FitPlan, draw_cohort_folds, plan_units
from train.fit_units import list_tasks, run_task
from train.recipes import Recipe, Schedule

torch.set_num_threads(1)

SIZE = NetworkSettings(side=32, width=0.0625, depth=0.05, norm_momentum=0.2)
QUICK = Schedule(epochs=5, warm_up_epochs=0, batch_size=8, learning_rate=3e-3, l1=0.0, augmentation=0.5)
PLAN = FitPlan(
    recipe=Recipe(
        name="quick", schedules=dict.fromkeys(NetworkName, QUICK), settings=dict.fromkeys(NetworkName, SIZE)
    ),
    folds=2,
)


def weights_of(cohort, name, folder):
    """Hashes of the weights of one network of unit fold-1."""
    unit = plan_units(cohort, PLAN, draw_cohort_folds(cohort, PLAN))[2]
    (task,) = [
        task for task in list_tasks(cohort, PLAN, unit, FitFolder(root=folder)) if task.plan.name is name
    ]
    run_task(task)
    return [hash_file(task.run / f"{word}.safetensors") for word in ("os", "pfs", "combined")]


def spoil(cohort, rows):
    """Other images, labels and times in some rows; who had an event stays, for the folds are balanced by it."""
    data = cohort.data
    inputs, labels = data.inputs.copy(), data.labels.copy()
    inputs[rows] = 1.0 - inputs[rows][:, :, ::-1]
    labels[rows] = 1.0 - labels[rows]
    os = replace(data.os, months=data.os.months.copy())
    pfs = replace(data.pfs, months=data.pfs.months.copy())
    os.months[rows], pfs.months[rows] = os.months[rows] * 3 + 1, pfs.months[rows] * 2 + 1
    ages = data.age_years.copy()
    ages[rows] = 99.0
    return replace(cohort, data=replace(data, inputs=inputs, labels=labels, os=os, pfs=pfs, age_years=ages))


@pytest.mark.parametrize("name", [NetworkName.NETWORK1, NetworkName.NETWORK2])
def test_images_and_outcomes_that_a_unit_must_not_see_change_no_weight(name, tmp_path):
    splits = {Split.TRAINING: 20, Split.VALIDATION: 4, Split.TESTING: 6}
    cohort = make_fit_cohort(splits, seed=6, unlabelled=1)[0]
    unit = plan_units(cohort, PLAN, draw_cohort_folds(cohort, PLAN))[2]
    hidden = np.concatenate([cohort.data.rows(Split.TESTING), unit.held_out])
    before = weights_of(cohort, name, tmp_path / "before")
    assert weights_of(spoil(cohort, hidden), name, tmp_path / "after") == before
    seen = unit.seen[:1]  # the positive control: one case that it does see
    assert weights_of(spoil(cohort, seen), name, tmp_path / "leak") != before
