"""The committed demonstration model: small, free of pickles, honest about what it is, and refused unless allowed."""

import pytest

from engines.configuration import find_conf
from engines.endpoint import Endpoint
from engines.errors import InvalidInput, ModelRefused
from engines.mmf import ModelName
from engines.models.store import load_model
from engines.networks.weights import read_network
from engines.phantom.cohort import draw_cohort
from train.commands.demo_models import describe_concordance, refuse_other_content

MOST_BYTES = 4_000_000
KINDS = {".json", ".toml", ".safetensors"}


@pytest.fixture(scope="module")
def folder():
    return find_conf("models/demo")


@pytest.fixture(scope="module")
def model(folder):
    return load_model(folder, allow_demonstration=True)


def test_it_is_small_and_holds_no_pickle(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.suffix for path in files} == KINDS


def test_it_is_refused_unless_allowed_and_says_why(folder, model):
    with pytest.raises(ModelRefused, match="demonstration model, trained on phantoms"):
        load_model(folder, allow_demonstration=False)
    assert model.card.demonstration
    assert "phantoms (no patients)" in model.card.training.trained_on


def test_it_has_what_a_report_needs(model):
    patient = draw_cohort(1, seed=123, measured=False)[0]
    log_risks = {endpoint: dict.fromkeys(("network1", "network2", "network3"), 0.0) for endpoint in Endpoint}
    scores = model.assess(log_risks, patient.clinical)
    for found in scores.endpoints:
        assert found.risk.model == ModelName.MMF
        assert found.risk.not_estimable == ()
        assert len(found.risk.contributions) == 14
        assert model.reference.of(found.endpoint, ModelName.MMF).patients == model.card.training.patients
    assert model.input_shape == (3, 32, 32, 32)
    assert model.card.c_index_sentence().count("testing, 200 of cohort phantoms") == 1, (
        "said once for its rows"
    )


def test_the_card_tells_how_well_any_model_could_do(model):
    lines = describe_concordance(model.card)
    assert len(lines) == len(model.card.concordance)
    assert any("truth" in line for line in lines)


@pytest.mark.parametrize("endpoint", Endpoint)
@pytest.mark.parametrize("network", ["Network 1", "Network 2", "Network 3"])
def test_each_network_has_learned_something(model, network, endpoint):
    """On phantoms that nothing was fitted on, 95 % limits that leave out chance."""
    found = [
        entry
        for entry in model.card.concordance
        if (entry.endpoint, entry.model) == (endpoint, network) and entry.rows.startswith("testing")
    ]
    assert [entry.low > 0.5 for entry in found] == [True]


def test_network_1_keeps_room_and_the_reference_tells_new_inputs(folder, model):
    _, network = read_network(folder / "networks/network1-os.safetensors")
    assert network.settings.coarsest_side == 4
    assert model.reference.novelty is not None


def test_the_command_replaces_nothing_but_a_demonstration_model(folder, tmp_path):
    refuse_other_content(folder)
    refuse_other_content(tmp_path / "absent")
    (tmp_path / "letter.txt").write_text("dear colleague")
    with pytest.raises(InvalidInput, match="nothing was changed"):
        refuse_other_content(tmp_path)
