"""``mmf-train networks`` from case folders to weights and scores, and what it refuses."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from engines.errors import InvalidInput
from engines.networks.settings import NetworkName
from engines.phase import Phase
from tests.training_cohort import make_cohort, write_cohort
from train.cli import COMMANDS, build_app
from train.cohort import read_cohort
from train.commands.networks import parse_channels, parse_seeds, shorten_schedule
from train.data import Split
from train.device import CUBLAS_WORKSPACE, choose_device, prepare_device, refuse_full_device
from train.errors import CohortRefused, DeviceFull
from train.recipes import Schedule
from train.splits import draw_splits, read_splits

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    data, _, _ = make_cohort(
        24, side=16, splits={Split.TRAINING: 14, Split.VALIDATION: 6, Split.TESTING: 3}, unlabelled=1
    )
    write_cohort(folder, data)
    return folder, data


def invoke(arguments):
    return CliRunner().invoke(build_app(arguments), arguments, catch_exceptions=False)


def test_a_cohort_comes_back_as_it_was_written(cohort):
    folder, data = cohort
    read = read_cohort(folder, (Phase.ARTERIAL, Phase.PORTAL_VENOUS, Phase.DELAYED), 16)
    assert read.case_ids == data.case_ids
    assert list(read.splits) == list(data.splits)
    assert isinstance(read.inputs, np.memmap)
    np.testing.assert_array_equal(read.inputs, data.inputs)
    np.testing.assert_array_equal(read.os.months, data.os.months)
    np.testing.assert_array_equal(read.pfs.event, data.pfs.event)
    np.testing.assert_array_equal(read.labels, data.labels)
    np.testing.assert_array_equal(read.age_years, data.age_years)
    some = read_cohort(folder, (Phase.ARTERIAL, Phase.DELAYED), 8)
    assert some.inputs.shape == (24, 2, 8, 8, 8)
    blocks = data.inputs[0, 2].astype(np.float32).reshape(8, 2, 8, 2, 8, 2).mean((1, 3, 5))
    np.testing.assert_allclose(some.inputs[0, 1], blocks, atol=1e-3)


def test_a_cache_that_was_cut_short_is_built_again(cohort):
    folder, data = cohort
    read_cohort(folder, (Phase.ARTERIAL,), 16)
    damaged = max((folder / ".cache").glob("inputs-*.npy"), key=lambda path: path.stat().st_mtime_ns)
    for content in (damaged.read_bytes()[:-100], b""):
        damaged.unlink()
        damaged.write_bytes(content)
        read = read_cohort(folder, (Phase.ARTERIAL,), 16)
        np.testing.assert_array_equal(read.inputs[:, 0], data.inputs[:, 0])


def test_the_list_names_every_network_with_its_size():
    rows = json.loads(invoke(["networks", "--list", "--json"]).stdout)
    assert [row["name"] for row in rows] == [name.value for name in NetworkName]
    assert rows[0] == {
        "name": "network1",
        "parameters": 7463596,
        "input_shape": [3, 128, 128, 128],
        "heads": {"os": 1, "pfs": 1, "age": 1, "labels": 9},
    }


def test_the_overview_lists_every_command_without_loading_one():
    text = invoke(["--help"]).stdout
    assert all(name in text for name in COMMANDS)


def test_a_missing_cohort_and_bad_words_are_refused():
    for arguments, word in [
        (["networks"], "--cohort is needed"),
        (["networks", "--phases", "A,X", "--list"], "is not a contrast phase"),
        (["networks", "--phases", "A,A", "--list"], "twice"),
        (["networks", "--cohort", ".", "--seeds", "1,1"], "each seed once"),
        (["networks", "--cohort", ".", "--seeds", "one"], "whole numbers"),
        (["networks", "--cohort", ".", "--seeds", "0"], "1 or more"),
        (["networks", "--cohort", ".", "--seeds", "2026"], "seed 2026 alone is written 2026,$"),
        (["networks", "--cohort", ".", "--seeds", f"0,{2**70}"], "0 to 4294967295"),
        (["networks", "--cohort", ".", "--networks", "network9"], "is not a network"),
        (["networks", "--cohort", ".", "--networks", "vit,vit"], "each network once"),
    ]:
        with pytest.raises(InvalidInput, match=word):
            invoke(arguments)


def test_one_number_is_how_many_seeds_and_a_list_is_the_seeds():
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("7,") == (7,)
    assert parse_seeds("4, 0") == (4, 0)


def test_a_device_without_a_number_is_prepared_as_it_is_set(monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda mode, warn_only: None)
    monkeypatch.setenv(*CUBLAS_WORKSPACE)
    for word in ("cpu", "cuda", "cuda:1"):
        prepare_device(torch.device(word), repeatable=True)
    assert taken == [torch.device("cuda:1")], "torch refuses a GPU without a number here"


def test_fewer_epochs_leave_enough_to_choose_a_checkpoint_from():
    schedule = shorten_schedule(Schedule(epochs=11, warm_up_epochs=2, reconstruction_epochs=2), 5)
    assert (schedule.epochs, schedule.warm_up_epochs, schedule.reconstruction_epochs) == (5, 0, 0)


def test_each_process_takes_its_own_gpu_and_one_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(None) == choose_device("cuda") == "cuda:0"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device(None) == "cuda:1"
    assert choose_device("cuda:0") == "cuda:0"
    assert choose_device("cpu") == "cpu"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(InvalidInput, match="every process the same GPU"):
        choose_device("cuda:0")
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    for word, reason in [
        ("cuda:2", "is GPU 2; torch .* finds 2"),
        ("gpu", "is not a device"),
        ("meta", "expected"),
    ]:
        with pytest.raises(InvalidInput, match=reason):
            choose_device(word)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None) == "cpu"


def test_a_full_device_is_named_with_the_work_it_did_not_suffice_for():
    with (
        pytest.raises(DeviceFull, match=r"^network3: scoring on cuda:1: CUDA out of memory$"),
        refuse_full_device("network3: scoring on cuda:1"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_phases_are_put_in_the_order_of_the_channels():
    assert parse_channels("d+arterial") == (Phase.ARTERIAL, Phase.DELAYED)


def test_faults_of_the_cohort_name_the_case(tmp_path):
    data, _, _ = make_cohort(4, side=16)
    write_cohort(tmp_path, data)
    (tmp_path / "case-0002" / "outcomes.json").write_text('{"os": {"months": "12", "event": true}}')
    from engines.case import Case, CaseIdentity, seal_case

    def seal(case_id):
        identity = CaseIdentity(case_id=case_id, patient_key="p", study="s", phases={})
        seal_case(Case(folder=tmp_path / case_id), identity)

    seal("case-0002")
    with pytest.raises(CohortRefused, match=r"case-0002: outcomes.json says os"):
        read_cohort(tmp_path, (Phase.ARTERIAL,), 16)
    (tmp_path / "case-0002" / "outcomes.json").unlink()
    (tmp_path / "case-0003" / "network_input.npy").unlink()
    seal("case-0002")
    seal("case-0003")
    with pytest.raises(CohortRefused, match=r"no network_input.npy: case-0003"):
        read_cohort(tmp_path, (Phase.ARTERIAL,), 16)


def test_drawn_splits_keep_patients_together_and_the_event_rate():
    patients = {f"c{index}": f"p{index // 2}" for index in range(400)}
    events = {case: (int(key[1:]) % 10 < 6) for case, key in patients.items()}
    events |= {"c398": None, "c399": None}
    drawn = draw_splits(patients, events, seed=1)
    assert drawn == draw_splits(patients, events, seed=1)
    assert drawn["c399"] is Split.UNLABELLED
    for key in set(patients.values()):
        assert len({drawn[case] for case, other in patients.items() if other == key}) == 1
    validating = [case for case, split in drawn.items() if split is Split.VALIDATION]
    assert len(validating) == pytest.approx(80, abs=2)
    assert np.mean([events[case] for case in validating]) == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("case,split\n", "expected case_id, split"),
        ("case_id,split\nx,training\n", "does not hold"),
        ("case_id,split\na,training\na,training\n", "twice"),
        ("case_id,split\na,train\n", "'train'"),
        ("case_id,split\na,training\n", "no split for 1 cases: b"),
    ],
)
def test_faults_of_the_split_file_are_named(tmp_path, text, word):
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(CohortRefused, match=word):
        read_splits(tmp_path / "splits.csv", ["a", "b"])


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="tensorboard is installed here")
def test_tensorboard_is_asked_for_by_name_where_it_is_missing():
    with pytest.raises(InvalidInput, match="needs the package tensorboard"):
        invoke(["networks", "--cohort", ".", "--tensorboard", "events"])
