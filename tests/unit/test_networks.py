"""The three networks: exact sizes, shapes, refusals, gradients, weights on disk."""

import hashlib
import json
from itertools import pairwise

import pytest
import torch

from engines.errors import InvalidInput, ModelRefused
from engines.networks.heads import LABELS, age_target, age_years
from engines.networks.registry import build_network, count_parameters, miniature_settings, parse_network
from engines.networks.semi_supervised import head_kernels
from engines.networks.settings import ENSEMBLE, NetworkName, NetworkSettings, SliceEncoder, read_settings
from engines.networks.weights import (
    HEADER_KEY,
    initialise_slice_encoder,
    read_network,
    read_weights,
    write_weights,
)
from engines.phase import Phase

torch.set_num_threads(1)


def small(name, **changes):
    side = 32 if name is NetworkName.NETWORK2 else 16
    table = {**miniature_settings(name).table(), "side": side, **changes}
    return read_settings(table)


@pytest.mark.parametrize(
    ("name", "feed_forward", "parameters"),
    [
        (NetworkName.NETWORK1, 768, 7_463_596),
        (NetworkName.NETWORK2, 768, 20_337_728),
        (NetworkName.NETWORK3, 768, 44_214_188),
        (NetworkName.NETWORK3, 3072, 86_709_164),
    ],
)
def test_full_size_has_the_parameters_of_the_paper(name, feed_forward, parameters):
    with torch.device("meta"):
        network = build_network(name, NetworkSettings(feed_forward=feed_forward))
    assert count_parameters(network) == parameters


def test_autoencoder_of_network_2_has_its_stated_parameters():
    with torch.device("meta"):
        network = build_network(NetworkName.NETWORK2, NetworkSettings())
    assert count_parameters(network.autoencoder) == 13_501_232


@pytest.mark.parametrize("name", ENSEMBLE)
def test_full_size_shapes_at_128_cubed(name):
    with torch.device("meta"):
        network = build_network(name, NetworkSettings())
        output = network(torch.empty(2, 3, 128, 128, 128))
    assert output.os_log_risk.shape == output.pfs_log_risk.shape == output.age.shape == (2,)
    assert output.labels.shape == (2, len(LABELS)) == (2, 9)
    if name is NetworkName.NETWORK2:
        assert output.reconstruction.shape == (2, 1, 128, 128, 128)
    else:
        assert output.reconstruction is None


def test_network_3_has_388_tokens():
    with torch.device("meta"):
        network = build_network(NetworkName.NETWORK3, NetworkSettings())
        assert network.number_of_tokens == 388
        assert network.embed(torch.empty(1, 32, 128, 128, 128)).shape == (1, 388, 768)


def test_head_of_network_2_is_the_papers_at_128_and_reaches_one_voxel_elsewhere():
    assert head_kernels(128) == [(2, 2), (2, 2), (2, 1), (1, 1)]
    for side in range(16, 257, 16):
        left = side // 16
        for kernel, stride in head_kernels(side):
            left = (left - kernel) // stride + 1
        assert left == 1


@pytest.mark.parametrize("side", [0, 8, 100, 120, 129])
def test_a_side_that_is_no_multiple_of_16_is_refused_with_the_reason(side):
    with pytest.raises(InvalidInput, match="multiple of 16, because"):
        NetworkSettings(side=side)


def test_wrong_channels_and_wrong_sides_are_refused():
    network = build_network("network1", small(NetworkName.NETWORK1))
    for shape in [(1, 2, 16, 16, 16), (1, 3, 32, 32, 32), (3, 16, 16, 16)]:
        with pytest.raises(InvalidInput, match="expected"):
            network(torch.zeros(shape))


def watch_sides(network):
    """What each stage of Network 1 gives, voxels along an axis, seen in a forward pass."""
    seen = []
    for stage in network.stages:
        stage.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[-1]))
    with torch.no_grad():
        network.eval()(torch.empty(1, *network.settings.input_shape))
    return seen


@pytest.mark.parametrize(
    ("side", "coarsest", "sides"),
    [
        (128, 1, [64, 32, 16, 8, 8, 4, 4]),
        (128, 4, [64, 32, 16, 8, 8, 4, 4]),
        (32, 1, [16, 8, 4, 2, 2, 1, 1]),
        (32, 4, [16, 8, 4, 4, 4, 4, 4]),
        (32, 8, [16, 8, 8, 8, 8, 8, 8]),
        (48, 4, [24, 12, 6, 6, 6, 6, 6]),
        (16, 8, [8, 8, 8, 8, 8, 8, 8]),
    ],
)
def test_network_1_keeps_its_coarsest_side_with_the_same_parameters(side, coarsest, sides):
    with torch.device("meta"):
        network = build_network(NetworkName.NETWORK1, NetworkSettings(side=side, coarsest_side=coarsest))
        assert watch_sides(network) == sides == list(network.sides)
    assert count_parameters(network) == 7_463_596


def test_a_coarsest_side_of_1_keeps_the_papers_strides():
    table = {**miniature_settings(NetworkName.NETWORK1).table(), "coarsest_side": 1}
    torch.manual_seed(6)
    network = build_network(NetworkName.NETWORK1, read_settings(table))
    strides = [
        module.stride[0]
        for stage in network.stages
        for module in stage[0].filter.modules()
        if isinstance(module, torch.nn.Conv3d)
    ]
    assert strides == [1, 2, 2, 2, 1, 2, 1]


def test_weights_older_than_a_setting_are_read_with_its_default(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(7)
    settings = small(NetworkName.NETWORK1, coarsest_side=1)
    network = build_network(NetworkName.NETWORK1, settings).eval()
    table = {key: value for key, value in settings.table().items() if key != "coarsest_side"}
    header = {HEADER_KEY: json.dumps({"name": "network1", "settings": table})}
    save_file(network.state_dict(), tmp_path / "old.safetensors", metadata=header)
    _, again = read_network(tmp_path / "old.safetensors")
    inputs = torch.rand(2, *settings.input_shape)
    assert again.settings == settings
    assert torch.equal(network(inputs).os_log_risk, again(inputs).os_log_risk)
    other = build_network(NetworkName.NETWORK1, small(NetworkName.NETWORK1, coarsest_side=2))
    with pytest.raises(ModelRefused, match="coarsest_side"):
        read_weights(tmp_path / "old.safetensors", NetworkName.NETWORK1, other)


def test_bad_settings_are_refused_by_name():
    for changes in [
        {"width": 0.0},
        {"depth": -1},
        {"dropout": 1.0},
        {"feed_forward": 0},
        {"norm_momentum": 0.0},
        {"coarsest_side": 0},
        {"coarsest_side": 65},
        {"coarsest_side": 4.0},
        {"side": "128"},
        {"side": True},
        {"phases": []},
        {"phases": ["ARTERIAL", "ARTERIAL"]},
        {"phases": ["PRE_CONTRAST"]},
        {"phases": ["NOON"]},
        {"phases": "ARTERIAL"},
        {"slice_encoder": "vgg"},
    ]:
        with pytest.raises(InvalidInput, match=next(iter(changes)).replace("_", ".")):
            read_settings(changes)
    with pytest.raises(InvalidInput, match="unknown network settings"):
        read_settings({"heads": 3})
    with pytest.raises(InvalidInput, match="is not a network"):
        parse_network("network4")


def test_settings_survive_a_model_card():
    settings = NetworkSettings(
        phases=(Phase.ARTERIAL, Phase.DELAYED),
        side=64,
        dropout=0.1,
        slice_encoder=SliceEncoder.RESNET50,
        coarsest_side=8,
    )
    assert read_settings(settings.table()) == settings
    assert read_settings({}) == NetworkSettings()


@pytest.mark.parametrize("name", ENSEMBLE)
def test_a_phase_subset_means_fewer_channels(name):
    network = build_network(name, small(name, phases=["ARTERIAL", "DELAYED"])).eval()
    assert network(torch.rand(2, *network.settings.input_shape)).os_log_risk.shape == (2,)


def biases_before_a_normalisation(network):
    """What the normalisation takes away again, whatever it is."""
    norms = (torch.nn.BatchNorm3d, torch.nn.InstanceNorm3d)
    return {
        f"{path}.{before}.bias"
        for path, module in network.named_modules()
        if isinstance(module, torch.nn.Sequential)
        for (before, _), (_, after) in pairwise(module.named_children())
        if isinstance(after, norms)
    }


@pytest.mark.parametrize("name", ENSEMBLE)
def test_every_gradient_is_finite_and_not_zero_except_biases_before_a_normalisation(name):
    torch.manual_seed(0)
    network = build_network(name, small(name, side=32, dropout=0.0))
    output = network(torch.rand(4, 3, 32, 32, 32))
    weights = torch.tensor([1.0, -2.0, 3.0, 0.5])
    loss = (
        (output.os_log_risk - output.pfs_log_risk.tanh() + output.age + output.labels.square().sum(1))
        * weights
    ).sum()
    if output.reconstruction is not None:
        loss = loss + (output.reconstruction**2).mean()
    loss.backward()
    silent = []
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        if parameter.grad.abs().max() == 0:
            silent.append(key)
    assert set(silent) <= biases_before_a_normalisation(network)


@pytest.mark.parametrize("name", ENSEMBLE)
def test_evaluation_is_deterministic_and_independent_of_the_batch(name):
    torch.manual_seed(1)
    network = build_network(name, small(name))
    inputs = torch.rand(4, *network.settings.input_shape) * torch.tensor([0.2, 0.5, 0.8, 1.0]).view(
        4, 1, 1, 1, 1
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = None  # the mean over all batches
    for _ in range(3):
        network(inputs)  # an EfficientNet with unset running statistics answers about 0 to everything
    network.eval()
    with torch.no_grad():
        together, again, alone = network(inputs), network(inputs), network(inputs[:1])
    assert torch.equal(together.os_log_risk, again.os_log_risk)
    torch.testing.assert_close(together.os_log_risk[:1], alone.os_log_risk, rtol=1e-4, atol=1e-5)
    assert together.os_log_risk.std() > 1e-4


def test_network_2_refuses_a_training_batch_of_one_and_evaluates_it():
    network = build_network("network2", small(NetworkName.NETWORK2))
    with pytest.raises(InvalidInput, match="at least 2 cases"):
        network(torch.rand(1, 3, 32, 32, 32))
    assert network.eval()(torch.rand(1, 3, 32, 32, 32)).reconstruction is None


def test_network_2_refuses_a_bottleneck_of_one_voxel():
    with pytest.raises(InvalidInput, match="at least 32"):
        build_network("network2", small(NetworkName.NETWORK2, side=16))


def test_network_3_sees_where_a_slice_lies():
    torch.manual_seed(2)
    network = build_network("network3", small(NetworkName.NETWORK3)).eval()
    inputs = torch.rand(1, 3, 16, 16, 16)
    mirrored = inputs.flip(2)
    with torch.no_grad():
        assert abs(float(network(inputs).os_log_risk - network(mirrored).os_log_risk)) > 1e-6


def test_slices_pooled_at_once_equal_the_stack_of_slices():
    torch.manual_seed(3)
    network = build_network("network3", small(NetworkName.NETWORK3))
    features = torch.rand(2, 4, 16, 16, 16)
    for axis in (2, 3, 4):
        stack = torch.stack([features.select(axis, i) * features.select(axis, i) for i in range(16)], dim=1)
        torch.testing.assert_close(network._encode_slices(features, axis), stack.flatten(3).mean(3))


def test_age_target_is_the_authors_scale():
    years = torch.tensor([18.0, 60.0, 99.0])
    assert torch.all(age_target(years) < 1)
    torch.testing.assert_close(age_years(age_target(years)), years)


@pytest.mark.parametrize("name", ENSEMBLE)
def test_weights_come_back_bit_for_bit_and_the_same_weights_are_the_same_bytes(tmp_path, name):
    torch.manual_seed(4)
    network = build_network(name, small(name)).eval()
    digest = write_weights(tmp_path / "a.safetensors", name, network)
    assert digest == write_weights(tmp_path / "b.safetensors", name, network)
    assert digest == hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    found, again = read_network(tmp_path / "a.safetensors", sha256=digest)
    inputs = torch.rand(2, *network.settings.input_shape)
    assert found is name
    assert torch.equal(network(inputs).pfs_log_risk, again(inputs).pfs_log_risk)


def test_half_precision_weights_keep_the_running_statistics_whole(tmp_path):
    torch.manual_seed(5)
    network = build_network("network1", small(NetworkName.NETWORK1)).eval()
    network.stem[1].running_var.fill_(1e-9)
    write_weights(tmp_path / "half.safetensors", NetworkName.NETWORK1, network, half=True)
    write_weights(tmp_path / "whole.safetensors", NetworkName.NETWORK1, network)
    _, again = read_network(tmp_path / "half.safetensors")
    assert float(again.stem[1].running_var[0]) == pytest.approx(1e-9)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.65 * (
        tmp_path / "whole.safetensors"
    ).stat().st_size


def test_weights_of_another_network_another_size_or_another_hash_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    write_weights(path, NetworkName.NETWORK1, build_network("network1", small(NetworkName.NETWORK1)))
    with pytest.raises(ModelRefused, match="SHA-256"):
        read_network(path, sha256="0" * 64)
    with pytest.raises(ModelRefused, match="network1"):
        read_weights(path, NetworkName.NETWORK2, build_network("network2", small(NetworkName.NETWORK2)))
    with pytest.raises(ModelRefused, match="expected"):
        read_weights(
            path, NetworkName.NETWORK1, build_network("network1", small(NetworkName.NETWORK1, side=32))
        )
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelRefused, match="safetensors"):
        read_network(path)


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = build_network("network1", small(NetworkName.NETWORK1))
    with torch.no_grad():
        network.heads.os.weight[0, 0] = float("nan")
    write_weights(tmp_path / "w.safetensors", NetworkName.NETWORK1, network)
    with pytest.raises(ModelRefused, match=r"heads\.os\.weight"):
        read_network(tmp_path / "w.safetensors")


def test_local_imagenet_weights_fill_the_slice_encoder(tmp_path):
    from safetensors.torch import save_file

    from engines.networks.weights import _torchvision_key

    settings = small(NetworkName.NETWORK3, slice_encoder="resnet50")
    network = build_network("network3", settings)
    theirs = {
        _torchvision_key(k): torch.rand_like(v.float()) for k, v in network.slice_encoder.state_dict().items()
    }
    theirs["conv1.weight"] = torch.rand(theirs["conv1.weight"].shape[0], 3, 7, 7)
    assert {"layer1.0.downsample.1.weight", "layer4.2.conv3.weight", "bn1.running_var"} <= set(theirs)
    save_file(theirs, tmp_path / "resnet50.safetensors")
    initialise_slice_encoder(network, tmp_path / "resnet50.safetensors")
    assert torch.equal(
        network.slice_encoder.stages[3][2].convolutions[6].weight, theirs["layer4.2.conv3.weight"]
    )
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 3, 16, 16, 16)).os_log_risk.shape == (1,)
    with pytest.raises(ModelRefused, match="slice_encoder = resnet50"):
        initialise_slice_encoder(
            build_network("network1", small(NetworkName.NETWORK1)), tmp_path / "resnet50.safetensors"
        )


RIVALS = [name for name in NetworkName if name not in ENSEMBLE]


@pytest.mark.parametrize("name", RIVALS)
def test_every_comparison_network_has_the_same_face_at_full_size_and_small(name):
    with torch.device("meta"):
        assert count_parameters(build_network(name, NetworkSettings())) > 5_000_000
    torch.manual_seed(0)
    network = build_network(name, miniature_settings(name))
    output = network(torch.rand(2, 3, 32, 32, 32))
    assert output.os_log_risk.shape == (2,)
    assert output.labels.shape == (2, 9)
    assert count_parameters(network) < 2_000_000
    activation = {}
    network.readable_layer.register_forward_hook(lambda _m, _i, out: activation.update(out=out))
    with torch.no_grad():
        network.eval()(torch.rand(1, 3, 32, 32, 32))
    assert activation["out"].ndim == 5


@pytest.mark.parametrize("name", ["densenet121", "convnext", "maxvit", "swin_unetr"])
def test_networks_with_five_halvings_refuse_a_side_of_16_and_its_odd_multiples(name):
    for side in (16, 48):
        with pytest.raises(InvalidInput, match="halves its input 5 times"):
            build_network(name, NetworkSettings(side=side, width=0.125, depth=0.1))


def test_maxvit_cuts_blocks_and_grids_and_puts_every_voxel_back():
    from engines.networks.maxvit import MaxViTBlock

    block = MaxViTBlock(8, 8, stride=1, side=8, dropout=0.0).eval()
    block.convolution = torch.nn.Identity()
    seen = []

    def watch(_module, arguments):
        seen.append(arguments[0].detach().clone())

    for attention in (block.within, block.across):
        attention.forward = lambda tokens: tokens
        attention.register_forward_pre_hook(watch)
    voxels = torch.arange(512.0).view(1, 1, 8, 8, 8).expand(1, 8, 8, 8, 8).contiguous()
    assert torch.equal(block(voxels), voxels)
    assert seen[0][0, :2, 0].tolist() == [0, 1]
    assert seen[1][0, :2, 0].tolist() == [0, 2]


def test_swins_shifted_windows_keep_apart_what_the_shift_brought_together():
    from engines.networks.swin import SwinLayer

    torch.manual_seed(0)
    layer = SwinLayer(12, 3, 14, shifted=True, dropout=0.0).eval()
    assert layer.shift == 3
    volume = torch.rand(1, 14, 14, 14, 12)
    changed = volume.clone()
    changed[0, 13, 13, 13] = torch.rand(12)
    with torch.no_grad():
        difference = (layer(changed) - layer(volume)).abs().amax(-1)[0]
    assert difference[13, 13, 13] > 0
    assert difference[:3].max() == 0, "the far side of the volume is no neighbour"
    assert difference[10:, 10:, 10:].min() > 0, "the shifted window is one"
