"""MONAI's networks as independent witnesses: the same weights must give the same numbers."""

import pytest
import torch

from engines.networks.registry import build_network, count_parameters
from engines.networks.settings import NetworkName, NetworkSettings

torch.set_num_threads(1)


def copy_in_order(source, target):
    theirs, ours = list(source.state_dict().values()), target.state_dict()
    assert [tuple(t.shape) for t in theirs] == [tuple(t.shape) for t in ours.values()]
    with torch.no_grad():
        for tensor, value in zip(ours.values(), theirs, strict=True):
            tensor.copy_(value)


def warm(network, inputs):
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            module.momentum = None
    with torch.no_grad():
        for _ in range(3):
            network(inputs)
    network.eval()


def test_network_1_body_equals_monais_efficientnet_b1():
    from monai.networks.nets.efficientnet import EfficientNet

    blocks = [
        "r1_k3_s11_e1_i32_o16_se0.25",
        "r2_k3_s22_e6_i16_o24_se0.25",
        "r2_k5_s22_e6_i24_o40_se0.25",
        "r3_k3_s22_e6_i40_o80_se0.25",
        "r3_k5_s11_e6_i80_o112_se0.25",
        "r4_k5_s22_e6_i112_o192_se0.25",
        "r1_k3_s11_e6_i192_o320_se0.25",
    ]
    torch.manual_seed(0)
    theirs = EfficientNet(blocks, 3, 3, 12, 1.0, 1.1, 0.2, 64)
    inputs = torch.rand(2, 3, 64, 64, 64) * torch.tensor([0.4, 1.0]).view(2, 1, 1, 1, 1)
    warm(theirs, inputs)
    ours = build_network("network1", NetworkSettings(side=64)).eval()
    for source, target in [
        (theirs._conv_stem, ours.stem[0]),
        (theirs._bn0, ours.stem[1]),
        (theirs._blocks, ours.stages),
        (theirs._conv_head, ours.top[0]),
        (theirs._bn1, ours.top[1]),
    ]:
        copy_in_order(source, target)
    with torch.no_grad():
        expected = torch.nn.functional.silu(
            theirs._bn1(
                theirs._conv_head(
                    theirs._blocks(
                        theirs._swish(theirs._bn0(theirs._conv_stem(theirs._conv_stem_padding(inputs))))
                    )
                )
            )
        ).mean((2, 3, 4))
        torch.testing.assert_close(ours.extract(inputs), expected, rtol=1e-4, atol=1e-5)
    assert expected.std() > 1e-3


def test_network_2_autoencoder_equals_monais():
    from monai.networks.nets.autoencoder import AutoEncoder

    torch.manual_seed(0)
    theirs = AutoEncoder(
        3,
        3,
        1,
        (32, 64, 128, 256),
        (2, 2, 2, 2),
        num_res_units=2,
        inter_channels=[256, 256],
        inter_dilations=[2, 2],
        num_inter_units=2,
        dropout=0.25,
    ).eval()
    ours = build_network("network2", NetworkSettings(side=32)).eval()
    for (name, source), (_, target) in zip(
        [("encode", theirs.encode), ("between", theirs.intermediate), ("decode", theirs.decode)],
        [
            ("encode", ours.autoencoder.encoder),
            ("between", ours.autoencoder.between),
            ("decode", ours.autoencoder.decoder),
        ],
        strict=True,
    ):
        del name
        copy_in_order(source, target)
    inputs = torch.rand(2, 3, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.reconstruct(inputs), theirs(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [NetworkName.RESNET50, NetworkName.DENSENET121])
def test_comparison_networks_have_as_many_parameters_as_monais(name):
    from monai.networks.nets.densenet import DenseNet121
    from monai.networks.nets.resnet import resnet50

    with torch.device("meta"):
        ours = build_network(name, NetworkSettings())
        theirs = (
            resnet50(spatial_dims=3, n_input_channels=3, num_classes=12, bias_downsample=False)
            if name is NetworkName.RESNET50
            else DenseNet121(spatial_dims=3, in_channels=3, out_channels=12)
        )
    assert count_parameters(ours) == sum(parameter.numel() for parameter in theirs.parameters())


def test_the_encoder_of_swinunetr_has_as_many_parameters_as_monais():
    from monai.networks.nets.swin_unetr import SwinTransformer

    with torch.device("meta"):
        ours = build_network(NetworkName.SWIN_UNETR, NetworkSettings())
    theirs = SwinTransformer(3, 48, (7, 7, 7), (2, 2, 2), (2, 2, 2, 2), (3, 6, 12, 24), spatial_dims=3)
    added = count_parameters(ours.norm) + count_parameters(ours.heads)
    assert count_parameters(ours) - added == sum(parameter.numel() for parameter in theirs.parameters())
