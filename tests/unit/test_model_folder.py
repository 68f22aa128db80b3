"""The model folder: what is released is what is loaded, and whatever was changed is refused before it is read."""

import json
import shutil
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
import pytest
import torch

from engines.clinical.variables import STANDARD_VARIABLES, ClinicalVariables, Value, Variable
from engines.endpoint import Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.mmf import ModelName
from engines.models.card import read_card, write_card
from engines.models.promotion import roll_back_version
from engines.models.reference import read_reference, write_reference
from engines.models.store import ModelStore, load_model, verify_folder
from engines.networks.settings import NetworkName
from engines.networks.weights import round_weights
from engines.novelty import fit_novelty
from engines.phantom.cohort import draw_cohort
from tests.model_folder import network_input, write_small_model
from train.release import seal_model


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "model"
    return folder, write_small_model(folder)


@pytest.fixture
def copy(released, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(released[0], folder)
    return folder


@pytest.fixture(scope="module")
def patient():
    return draw_cohort(1, seed=77, measured=False)[0].clinical


def test_scores_one_patient_from_input_to_risks(released, patient):
    _, model = released
    scores = model.score(network_input(), patient)
    assert scores.demonstration
    assert (scores.missing, scores.outside) == ((), ())
    for endpoint in Endpoint:
        found = scores.of(endpoint)
        assert [name for name, _ in found.log_risks] == ["network1", "network2", "network3"]
        assert found.risk.model == ModelName.MMF
        assert {risk.model for risk in found.others} == {ModelName.ENSEMBLE_DL, ModelName.BENCHMARK}
        event_times = model.ensembles[endpoint].forest.event_times
        assert found.ensemble_score == pytest.approx(np.log(found.mortality * 100 / event_times))
        assert found.risk.contributions[0].value == f"{found.ensemble_score:.4f}"


def test_the_log_risks_are_those_of_the_networks(released):
    _, model = released
    risks = model.log_risks(network_input())
    network = model.network(NetworkName.NETWORK1, Endpoint.PFS)
    with torch.inference_mode():
        output = network(torch.from_numpy(network_input().astype(np.float32))[None])
    assert risks[Endpoint.PFS][NetworkName.NETWORK1] == float(output.pfs_log_risk[0])
    assert not network.training
    assert model.network(NetworkName.NETWORK1, Endpoint.OS) is network  # one file, read once


def test_loading_again_gives_the_same_scores_to_the_last_bit(released, patient):
    folder, model = released
    again = load_model(folder, allow_demonstration=True)
    assert again.score(network_input(), patient) == model.score(network_input(), patient)
    assert again.sha256 == model.sha256


def test_without_every_variable_ensemble_dl_speaks_and_names_what_is_missing(released, patient):
    _, model = released
    values = {**patient.values, Variable.ECOG: Value(category="2")}
    del values[Variable.AFP]
    scores = model.score(network_input(), ClinicalVariables(values=values))
    assert scores.missing == (Variable.AFP,)
    assert scores.outside == ("ECOG performance status 2",)
    assert {found.risk.model for found in scores.endpoints} == {ModelName.ENSEMBLE_DL}
    assert scores.of(Endpoint.OS).others == ()
    assert len(scores.of(Endpoint.OS).risk.survival) == 4
    nothing = model.score(network_input(), None)
    assert nothing.missing == STANDARD_VARIABLES
    assert nothing.of(Endpoint.PFS).risk == scores.of(Endpoint.PFS).risk


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (network_input()[:2], "needs float16 of shape"),
        (network_input().astype(np.float32), "needs float16"),
        (network_input() * np.float16(2), "expected 0 to 1"),
        (np.full_like(network_input(), np.nan), "expected 0 to 1"),
    ],
)
def test_refuses_another_network_input(released, wrong, reason):
    with pytest.raises(InvalidInput, match=reason):
        released[1].score(wrong, None)


def test_refuses_log_risks_that_lack_a_network(released):
    with pytest.raises(InvalidInput, match="no OS log-risk of network1"):
        released[1].assess({}, None)


def test_a_demonstration_model_is_refused_unless_allowed(released):
    with pytest.raises(ModelRefused, match="trained on phantoms"):
        load_model(released[0], allow_demonstration=False)


def test_every_changed_byte_is_noticed(copy):
    names = [path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()]
    assert len(names) == 3 + 3 + 2 + 6  # manifest, card, reference; networks; forests; Cox models
    for name in names:
        path = copy / name
        content = path.read_bytes()
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
        with pytest.raises(ModelRefused):
            load_model(copy, allow_demonstration=True)
        path.write_bytes(content)
    load_model(copy, allow_demonstration=True)


def test_names_every_missing_unexpected_and_linked_file(copy):
    (copy / "forests" / "os.safetensors").unlink()
    (copy / "weights.pkl").write_bytes(b"cos\nsystem\n")
    link = copy / "cox" / "mmf-os.json"
    link.unlink()
    link.symlink_to("/etc/hostname")
    with pytest.raises(ModelRefused) as caught:
        verify_folder(copy)
    for fault in (
        "forests/os.safetensors is missing",
        "weights.pkl is not in manifest.json",
        "cox/mmf-os.json is not a plain file",
    ):
        assert fault in str(caught.value)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b", ".hidden", "a//b"])
def test_a_manifest_cannot_name_a_file_outside(copy, name):
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"][name] = {"sha256": "0" * 64, "bytes": 0}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelRefused, match="breaks the schema model-manifest"):
        verify_folder(copy)


def test_weights_that_changed_after_loading_are_refused(copy):
    model = load_model(copy, allow_demonstration=True)
    path = copy / "networks" / "network2.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(ModelRefused, match="SHA-256"):
        model.log_risks(network_input())


def change_card(folder, old, new):
    card = folder / "card.toml"
    text = card.read_text()
    assert old in text
    card.write_text(text.replace(old, new))
    seal_model(folder)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("schema_version = 1", "schema_version = 2", "version 2, expected mmf-model version 1"),
        ("side = 32", "sides = 16", "'side' is a required property"),
        ("side = 32", "side = 24", "multiple of 16"),
        ("smoothed = true", 'smoothed = "yes"', "is not of type 'boolean'"),
        ("side = 32", "side = 48", "the card says network1 of side 48"),
        ('model = "MMF"', 'model = "Benchmark"', "no model MMF for OS"),
        ('endpoint = "PFS"', 'endpoint = "OS"', "0 ensembles for PFS"),
        ('created = "2026-01-02T03:04:05+00:00"', 'created = "2026-01-02T03:04:05"', "no time zone"),
        ('file = "cox/mmf-os.json"', 'file = "cox/mmf-pfs.json"', "the card does not name cox/mmf-os.json"),
        ('file = "cox/mmf-os.json"', 'file = "../../mmf-os.json"', "breaks the schema model-card"),
        ("created = ", "created == ", "not TOML"),
    ],
)
def test_refuses_a_card_that_does_not_fit_even_when_it_is_sealed(copy, old, new, fault):
    change_card(copy, old, new)
    with pytest.raises(ModelRefused, match=fault):
        load_model(copy, allow_demonstration=True).log_risks(np.zeros((3, 48, 48, 48), dtype=np.float16))


def test_refuses_damaged_parts_even_when_they_are_sealed(copy):
    for name, content, fault in (
        ("cox/mmf-os.json", "[]", "breaks the schema model-cox"),
        ("cox/mmf-os.json", "{", "is not JSON"),
        ("reference.json", "{}", "breaks the schema model-reference"),
        ("forests/os.safetensors", "no tensors", "cannot be read as safetensors"),
        ("networks/network1.safetensors", "no tensors", "cannot be read as safetensors"),
    ):
        path = copy / name
        whole = path.read_bytes()
        path.write_text(content)
        seal_model(copy)
        with pytest.raises(ModelRefused, match=fault):
            load_model(copy, allow_demonstration=True).log_risks(network_input())
        path.write_bytes(whole)


def test_refuses_a_reference_of_other_inputs_than_the_card_s_even_when_it_is_sealed(copy):
    path = copy / "reference.json"
    whole = json.loads(path.read_text())
    descriptions = np.random.default_rng(1).normal(size=(30, 2 * 69))
    for changed, fault in (
        (
            {"network_input": whole["network_input"][::-1]},
            "describes inputs of DELAYED, PORTAL_VENOUS, ARTERIAL",
        ),
        ({"novelty": asdict(fit_novelty(descriptions))}, "by 138 numbers; the card's 3 channels have 207"),
    ):
        path.write_text(json.dumps({**whole, **changed}))
        seal_model(copy)
        with pytest.raises(ModelRefused, match=fault):
            load_model(copy, allow_demonstration=True)


def test_card_and_reference_come_back_equal(released):
    folder, model = released
    card = read_card((folder / "card.toml").read_text())
    assert card == model.card
    assert read_card(write_card(card)) == card
    assert card.c_index_sentence() == "MMF OS 0.70 (0.65 to 0.75), simulated"
    assert read_reference(write_reference(model.reference)) == model.reference
    assert [entry.known for entry in model.reference.clinical] == [160] * 16


def test_reference_holds_aggregates_only(released):
    _, model = released
    entry = model.reference.of(Endpoint.OS, ModelName.MMF)
    for curve in (entry.low_curve, entry.high_curve):
        assert min(curve.at_risk) >= 5
        assert list(curve.months) == list(range(len(curve.months)))
        assert list(curve.survival) == sorted(curve.survival, reverse=True)
    assert entry.low_curve.survival[12] > entry.high_curve.survival[12]


def test_rounded_weights_survive_storage_as_halves(released):
    model = load_model(released[0], allow_demonstration=True)
    network = model.network(NetworkName.NETWORK2, Endpoint.OS)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    round_weights(network)
    for name, tensor in network.state_dict().items():
        expected = before[name].half().float() if tensor.ndim > 1 else before[name]
        assert torch.equal(tensor, expected), name


def test_a_release_never_overwrites_another(released):
    with pytest.raises(ModelRefused, match="never overwrites"):
        write_small_model(released[0])


NOW = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release") / "second"
    write_small_model(folder, version="2", seed=4)
    return folder


def test_the_store_installs_promotes_and_rolls_back(released, second, tmp_path):
    store = ModelStore(tmp_path / "models")
    assert (store.versions(), store.history()) == ((), ())
    assert [store.install(folder) for folder in (released[0], second, second)] == ["1", "2", "2"]
    assert store.versions() == ("1", "2")
    with pytest.raises(ModelRefused, match="no model is in service"):
        store.current()
    store.promote("1", since=NOW, by="reader")
    store.promote("2", since=NOW, by="reader")
    assert store.current() == store.folder("2")
    with pytest.raises(ModelRefused, match="already in service"):
        store.promote("2", since=NOW, by="reader")
    assert store.rollback(since=NOW, by="reader") == "1"
    assert ModelStore(store.root).current() == store.folder("1")
    assert [entry.version for entry in store.history()] == ["1", "2", "1"]
    assert not list(store.root.glob(".draft*"))


def test_a_second_rollback_goes_further_back_and_never_forward(released, second, tmp_path):
    third = tmp_path / "third"
    write_small_model(third, version="3", seed=5)
    store = ModelStore(tmp_path / "models")
    for folder, version in ((released[0], "1"), (second, "2"), (third, "3")):
        store.install(folder)
        store.promote(version, since=NOW, by="reader")
    assert [store.rollback(since=NOW, by="reader") for _ in range(2)] == ["2", "1"]
    with pytest.raises(ModelRefused, match="no earlier model"):
        store.rollback(since=NOW, by="reader")
    store.promote("3", since=NOW, by="reader")
    assert store.earlier() == "1"
    with pytest.raises(ModelRefused, match="demonstration"):
        roll_back_version(store, since=NOW, by="reader", allow_demonstration=False)
    assert roll_back_version(store, since=NOW, by="reader", allow_demonstration=True) == "1"


def test_the_store_refuses_what_it_does_not_have_or_what_is_damaged(released, second, tmp_path):
    store = ModelStore(tmp_path / "models")
    store.install(released[0])
    for version in ("9", "../1", "", ".draft"):
        with pytest.raises(ModelRefused, match="is not installed"):
            store.promote(version, since=NOW, by="reader")
    store.promote("1", since=NOW, by="reader")
    with pytest.raises(ModelRefused, match="no earlier model"):
        store.rollback(since=NOW, by="reader")
    changed = shutil.copytree(second, tmp_path / "changed")
    change_card(changed, 'version = "2"', 'version = "1"')
    with pytest.raises(ModelRefused, match="another model of version 1"):
        store.install(changed)
    (store.root / "1" / "card.toml").write_text("changed")
    with pytest.raises(ModelRefused, match=r"card\.toml"):
        store.promote("1", since=NOW, by="reader")
    (store.root / "current.json").write_text("[]")
    with pytest.raises(ModelRefused, match="is damaged"):
        store.current()
