"""What ``mmf-train networks`` says of a cohort on disk that cannot be trained on: the fault and its case, nothing written."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from engines.case import Case, CaseIdentity, seal_case, write_array, write_json
from tests.training_cohort import make_cohort, write_cohort
from train.cli import main
from train.data import Split

torch.set_num_threads(1)

CASES = 10
LAST = "case-0009"
"""A validation case; the others but two train."""


def unevent(data, split):
    event = data.os.event.copy()
    event[data.rows(split)] = 0.0
    return replace(data, os=replace(data.os, event=event))


def set_months(data, value):
    months = data.pfs.months.copy()
    months[9] = value
    return replace(data, pfs=replace(data.pfs, months=months))


def copy_volume(data):
    inputs = data.inputs.copy()
    inputs[9] = inputs[0]
    return replace(data, inputs=inputs)


def spoil_voxel(data):
    inputs = data.inputs.copy()
    inputs[3, 0, 1, 2, 3] = np.nan
    return replace(data, inputs=inputs)


def share_patient(data):
    keys = list(data.patient_keys)
    keys[9] = keys[0]
    return replace(data, patient_keys=keys)


def reseal(folder, case_id):
    identity = CaseIdentity(case_id=case_id, patient_key=f"p-{folder.name}", study="s", phases={})
    seal_case(Case(folder=folder), identity)


def drop_channel(cohort):
    case = Case(folder=cohort / LAST)
    write_array(case.read_network_input()[:2], case.network_input_path)
    reseal(case.folder, LAST)


def double_case(cohort):
    reseal(cohort / LAST, "case-0000")


def say_words(cohort):
    case = Case(folder=cohort / LAST)
    write_json({"os": {"months": "soon", "event": True}}, case.folder / "outcomes.json")
    reseal(case.folder, LAST)


def change_after_sealing(cohort):
    case = Case(folder=cohort / LAST)
    write_array(case.read_network_input() * np.float16(0.5), case.network_input_path)


FAULTS_OF_DATA = {
    "no event in validation": (
        lambda d: unevent(d, Split.VALIDATION),
        "no OS event among the 2 validation cases",
    ),
    "no event in training": (lambda d: unevent(d, Split.TRAINING), "no OS event among the 8 training cases"),
    "one patient": (lambda d: replace(d, patient_keys=["p"] * CASES), "the cohort holds 1 patient"),
    "a patient in two splits": (
        share_patient,
        "patient patient-0000 is in two splits: case case-0000 in training",
    ),
    "nearly the same volume": (
        copy_volume,
        "case-0000 (training) and case-0009 (validation) hold nearly the same",
    ),
    "a time of 0": (lambda d: set_months(d, 0.0), "PFS of case case-0009 is 0 months; expected above 0"),
    "a time before 0": (
        lambda d: set_months(d, -3.5),
        "PFS of case case-0009 is -3.5 months; expected above 0",
    ),
    "a voxel that is no number": (
        spoil_voxel,
        "the input of case case-0003 holds voxels that are not finite",
    ),
}
FAULTS_ON_DISK = {
    "wrong channels": (drop_channel, f"case {LAST}: network_input.npy is float16 of shape (2, 16, 16, 16)"),
    "duplicate ids": (double_case, "case id case-0000 occurs in 2 folders"),
    "words for a time": (say_words, f"case {LAST}: outcomes.json says os"),
    "changed after sealing": (change_after_sealing, "network_input.npy"),
}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    text = "[training]\nepochs = 5\nwarm_up_epochs = 0\n[size]\nside = 16\nwidth = 0.125\ndepth = 0.1\n"
    (tmp_path / "recipes" / "tiny.toml").write_text(text)
    monkeypatch.setenv("MMF_CONF", str(tmp_path))
    return tmp_path


def refuse(recipe, monkeypatch, capsys):
    """Runs the command and returns what it said on standard error."""
    arguments = ["mmf-train", "networks", "--cohort", str(recipe / "cohort"), "--recipe", "tiny"]
    arguments += ["--networks", "network1", "--out", str(recipe / "out"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert len(said.err.strip().splitlines()) <= 3, "counts of the cohort, the fault, what to do"
    assert not list((recipe / "out").rglob("*.safetensors"))
    return said.err


@pytest.mark.parametrize("fault", FAULTS_OF_DATA)
def test_a_fault_of_the_data_is_named_and_nothing_is_written(fault, recipe, monkeypatch, capsys):
    spoil, words = FAULTS_OF_DATA[fault]
    data, _, _ = make_cohort(CASES, side=16)
    write_cohort(recipe / "cohort", spoil(data))
    assert words in refuse(recipe, monkeypatch, capsys)


@pytest.mark.parametrize("fault", FAULTS_ON_DISK)
def test_a_fault_of_a_case_folder_is_named_and_nothing_is_written(fault, recipe, monkeypatch, capsys):
    spoil, words = FAULTS_ON_DISK[fault]
    data, _, _ = make_cohort(CASES, side=16)
    write_cohort(recipe / "cohort", data)
    spoil(recipe / "cohort")
    assert words in refuse(recipe, monkeypatch, capsys)
