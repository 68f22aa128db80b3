"""What ``mmf-train networks`` says of a cohort on disk that cannot be trained on: the fault and its case, nothing written."""

import shutil
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


def leave_one_pair_less(data):
    """The one death among the validation cases comes after the last contact of all others."""
    months, event = data.os.months.copy(), data.os.event.copy()
    event[8:], months[8:] = (0.0, 1.0), (10.0, 11.0)
    return replace(data, os=replace(data.os, months=months, event=event))


def keep_hounsfield_units(data):
    inputs = data.inputs.copy()
    inputs[4] = inputs[4] * 340 - 100
    return replace(data, inputs=inputs)


def fill_up_a_phase(data):
    inputs = data.inputs.copy()
    inputs[4, 2] = 0.0
    return replace(data, inputs=inputs)


def rename(data, **words):
    """Puts other words into the last place of a list of words."""
    return replace(data, **{field: [*getattr(data, field)[:-1], word] for field, word in words.items()})


def put_bytes(name, content):
    """Returns what replaces a file of the last case and seals it anew."""

    def spoil(cohort):
        (cohort / LAST / name).write_bytes(content)
        reseal(cohort / LAST, LAST)

    return spoil


def cut_array_short(cohort):
    path = Case(folder=cohort / LAST).network_input_path
    put_bytes(path.name, path.read_bytes()[:-4000])(cohort)


def leave_one_case(cohort):
    for folder in cohort.glob("case-*"):
        if folder.name != LAST:
            shutil.rmtree(folder)
    (cohort / "splits.csv").unlink()


def break_manifest(cohort):
    (cohort / LAST / "case.json").write_bytes(b"\xff\xfe\x00")


def break_splits(content):
    def spoil(cohort):
        path = cohort / "splits.csv"
        path.write_bytes(path.read_bytes().replace(f"{LAST},validation".encode(), content))

    return spoil


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
    "a time of 3 million years": (
        lambda d: set_months(d, 4e7),
        "PFS of case case-0009 is 4e+07 months; expected above 0 and at most 1e+06",
    ),
    "no pair in validation": (
        leave_one_pair_less,
        "no two of the 2 validation cases with OS can be compared: an event with a longer follow-up",
    ),
    "Hounsfield units": (keep_hounsfield_units, "channel 1 of the input of case case-0004 reaches from"),
    "a phase of zeros": (
        fill_up_a_phase,
        "channel 3 of the input of case case-0004 holds one value everywhere",
    ),
    "a patient in capitals in another split": (
        lambda d: rename(d, patient_keys="PATIENT-0000"),
        "patient PATIENT-0000 is in two splits: case case-0000 in training",
    ),
    "ids that differ in capitals": (
        lambda d: rename(d, case_ids="CASE-0000"),
        "case ids CASE-0000 and case-0000 differ in capitals alone",
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
    "an array cut short": (cut_array_short, "network_input.npy cannot be read as an array"),
    "an empty array": (put_bytes("network_input.npy", b""), "network_input.npy cannot be read as an array"),
    "a pickle": (put_bytes("network_input.npy", b"\x80\x04K\x01."), "cannot be read as an array"),
    "outcomes that are no JSON": (put_bytes("outcomes.json", b"{os"), "outcomes.json is not JSON"),
    "outcomes under other words": (
        put_bytes("outcomes.json", b'{"OS": {"months": 3, "event": true}}'),
        f"case {LAST}: outcomes.json holds ['OS']; expected os and pfs",
    ),
    "clinical data out of range": (
        put_bytes("clinical.json", b'{"age": {"category": "<=50", "number": 3}}'),
        f"case {LAST}: clinical.json: age",
    ),
    "one case": (leave_one_case, "the cohort holds 1 patient"),
    "a manifest of bytes": (break_manifest, "case.json is not JSON"),
    "splits in another alphabet": (break_splits(b"\xe9,validation"), "splits.csv is not UTF-8"),
    "a row without a split": (break_splits(LAST.encode()), f"splits.csv: case {LAST} has split ''"),
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


def test_a_cohort_that_is_not_there_is_named(recipe, monkeypatch, capsys):
    assert "cohort is no folder; expected a cohort" in refuse(recipe, monkeypatch, capsys)


def test_a_disk_that_refuses_a_file_ends_with_its_reason(recipe, monkeypatch, capsys):
    data, _, _ = make_cohort(CASES, side=16)
    write_cohort(recipe / "cohort", data)
    (recipe / "out").write_text("a file where a folder is wanted")
    assert "the system refused a file or folder" in refuse(recipe, monkeypatch, capsys)


@pytest.mark.parametrize("fault", FAULTS_ON_DISK)
def test_a_fault_of_a_case_folder_is_named_and_nothing_is_written(fault, recipe, monkeypatch, capsys):
    spoil, words = FAULTS_ON_DISK[fault]
    data, _, _ = make_cohort(CASES, side=16)
    write_cohort(recipe / "cohort", data)
    spoil(recipe / "cohort")
    assert words in refuse(recipe, monkeypatch, capsys)
