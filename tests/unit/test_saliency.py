"""Activation maps: by hand on a linear network, behind a normalisation, and how they behave on the three networks."""

import numpy as np
import pytest
import torch
from torch import nn

from engines.endpoint import Endpoint
from engines.errors import InvalidInput
from engines.networks.heads import Heads, RiskNetwork
from engines.networks.registry import build_network, miniature_settings
from engines.networks.settings import ENSEMBLE, NetworkSettings
from engines.saliency import Direction, explain_risk, measure_mass

torch.set_num_threads(1)


class Linear(RiskNetwork):
    """OS risk = 2 * mean of channel 0 - 1 * mean of channel 1."""

    def __init__(self):
        super().__init__(NetworkSettings(side=16))
        self.layer = nn.Identity()
        self.heads = Heads(3)
        with torch.no_grad():
            self.heads.os.weight.copy_(torch.tensor([[2.0, -1.0, 0.0]]))

    def extract(self, inputs):
        return self.layer(inputs).mean(dim=(2, 3, 4))

    @property
    def readable_layer(self):
        return self.layer


class Normalised(Linear):
    """OS risk = 2 * share of channel 0 that stands a deviation above its mean."""

    def extract(self, inputs):
        normed = nn.functional.instance_norm(self.layer(inputs))
        return nn.functional.relu(normed - 1).mean(dim=(2, 3, 4)) * torch.tensor([1.0, 0.0, 0.0])


def test_the_map_is_the_weighted_activation_worked_by_hand():
    inputs = np.zeros((3, 16, 16, 16), dtype=np.float16)
    inputs[0, 2:4, 2:4, 2:4] = 1.0
    inputs[1, 8:10, 8:10, 8:10] = 1.0
    network = Linear()
    raises = explain_risk(network, inputs, Endpoint.OS)
    lowers = explain_risk(network, inputs, Endpoint.OS, direction=Direction.LOWERS)
    both = explain_risk(network, inputs, Endpoint.OS, direction=Direction.BOTH)
    assert raises.values[2, 2, 2] == 1.0
    assert raises.values[8, 8, 8] == 0.0
    assert raises.peak == pytest.approx(2 / 16**3)
    assert lowers.values[8, 8, 8] == 1.0
    assert lowers.peak == pytest.approx(1 / 16**3)
    assert both.values[8, 8, 8] == pytest.approx(0.5)
    assert raises.log_risk == pytest.approx((2 - 1) * 8 / 16**3)
    lesion = np.zeros((16, 16, 16), dtype=bool)
    lesion[2:4, 2:4, 2:4] = True
    assert measure_mass(raises, lesion) == 1.0


def test_the_map_finds_the_evidence_behind_an_instance_normalisation_whose_average_gradient_is_nothing():
    inputs = np.random.default_rng(0).uniform(0, 0.1, (3, 16, 16, 16)).astype(np.float32)
    lesion = np.zeros((16, 16, 16), dtype=bool)
    lesion[4:8, 4:8, 4:8] = True
    inputs[0][lesion] += 0.8
    network = Normalised()
    leaf = torch.from_numpy(inputs[None]).requires_grad_()
    (slope,) = torch.autograd.grad(network(leaf).os_log_risk.sum(), leaf)
    averaged = slope[0, 0].mean().abs() / slope[0, 0].abs().mean()
    assert averaged < 1e-4  # plain Grad-CAM multiplies with this
    found = explain_risk(network, inputs, Endpoint.OS)
    assert measure_mass(found, lesion) > 0.5
    assert measure_mass(found, ~lesion) < 0.05


def test_nothing_in_the_direction_is_an_empty_map_not_noise():
    inputs = np.zeros((3, 16, 16, 16), dtype=np.float16)
    inputs[1] = 0.5
    empty = explain_risk(Linear(), inputs, Endpoint.OS)
    assert empty.peak == 0.0
    assert not empty.values.any()


@pytest.mark.parametrize("name", ENSEMBLE)
@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_the_three_networks_explain_both_endpoints_on_the_input_grid(name, endpoint):
    torch.manual_seed(0)
    network = build_network(name, miniature_settings(name))
    inputs = torch.rand(4, 3, 32, 32, 32)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = None
    network(inputs)
    network.train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = explain_risk(network, inputs[0].numpy(), endpoint, direction=Direction.BOTH)
    assert found.values.shape == (32, 32, 32)
    assert found.values.dtype == np.float32
    assert 0 <= found.values.min() <= found.values.max() == 1.0
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    again = explain_risk(network, inputs[0].numpy(), endpoint, direction=Direction.BOTH)
    np.testing.assert_array_equal(found.values, again.values)


def test_readable_layers_are_those_of_the_method_at_full_size():
    sides = {}
    with torch.device("meta"):
        for name in ENSEMBLE:
            network = build_network(name, NetworkSettings())
            network.readable_layer.register_forward_hook(
                lambda _m, _i, out, name=name: sides.update({name: out.shape[-1]})
            )
            network(torch.empty(2, 3, 128, 128, 128))
    assert list(sides.values()) == [16, 32, 128]


def test_a_layer_without_a_volume_and_a_foreign_region_are_refused():
    network = build_network("network1", miniature_settings(ENSEMBLE[0]))
    inputs = np.zeros((3, 32, 32, 32), dtype=np.float16)
    with pytest.raises(InvalidInput, match="one volume"):
        explain_risk(network, inputs, Endpoint.OS, layer=network.heads.os)
    found = explain_risk(network, inputs, Endpoint.OS)
    with pytest.raises(InvalidInput, match="expected"):
        measure_mass(found, np.ones((3, 3, 3), dtype=bool))
    with pytest.raises(InvalidInput, match="empty"):
        measure_mass(found, np.zeros((32, 32, 32), dtype=bool))


def test_a_map_that_is_not_finite_is_refused_and_the_mode_of_the_caller_comes_back():
    network = Linear()
    with torch.no_grad():
        network.heads.os.weight.fill_(torch.inf)
    with pytest.raises(InvalidInput, match="not finite"):
        explain_risk(network, np.zeros((3, 16, 16, 16), dtype=np.float16), Endpoint.OS)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        explain_risk(Linear(), np.zeros((3, 16, 16, 16), dtype=np.float16), Endpoint.OS)
        assert not torch.is_grad_enabled()
