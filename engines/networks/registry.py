"""The networks by name: build one, at full size or as a miniature, and count its parameters."""

from dataclasses import replace
from importlib import import_module

from torch import nn

from engines.errors import InvalidInput
from engines.networks.heads import LABELS, RiskNetwork
from engines.networks.settings import NetworkName, NetworkSettings

_CLASSES = {
    NetworkName.NETWORK1: ("engines.networks.efficientnet", "EfficientNet"),
    NetworkName.NETWORK2: ("engines.networks.semi_supervised", "SemiSupervised"),
    NetworkName.NETWORK3: ("engines.networks.multi_plane", "MultiPlaneTransformer"),
    NetworkName.RESNET50: ("engines.networks.resnet", "ResNet50Network"),
    NetworkName.DENSENET121: ("engines.networks.densenet", "DenseNet121"),
    NetworkName.CONVNEXT: ("engines.networks.convnext", "ConvNeXt"),
    NetworkName.VIT: ("engines.networks.vision_transformer", "VisionTransformer"),
    NetworkName.SWIN_UNETR: ("engines.networks.swin", "SwinEncoder"),
    NetworkName.MAXVIT: ("engines.networks.maxvit", "MaxViT"),
    NetworkName.UNSUPERVISED: ("engines.networks.semi_supervised", "Unsupervised"),
}
"""Module and class of each network; a module is imported when its network is built, never before."""

HEAD_NAMES = ("os", "pfs", "age", "labels")
"""The heads of every network, outputs 1, 1, 1 and 9."""

_MINIATURE = NetworkSettings(side=32, width=0.25, depth=0.5, norm_momentum=0.1, coarsest_side=4)
_MINIATURES = {
    NetworkName.NETWORK2: replace(_MINIATURE, width=0.125),
    NetworkName.NETWORK3: replace(_MINIATURE, width=0.125, depth=0.25),
    NetworkName.UNSUPERVISED: replace(_MINIATURE, width=0.25),
    NetworkName.RESNET50: replace(_MINIATURE, width=0.125),
    NetworkName.VIT: replace(_MINIATURE, width=0.125, depth=0.25),
    NetworkName.SWIN_UNETR: replace(_MINIATURE, width=0.25, depth=1.0),
    NetworkName.CONVNEXT: replace(_MINIATURE, width=0.125, depth=0.34),
    NetworkName.MAXVIT: replace(_MINIATURE, width=0.25, depth=0.2),
}


def parse_network(word: str) -> NetworkName:
    """Returns the network a person named.

    Raises:
        InvalidInput: no network has this name.
    """
    try:
        return NetworkName(word.strip().lower().replace("-", "_"))
    except ValueError:
        known = ", ".join(name.value for name in NetworkName)
        raise InvalidInput(f"'{word}' is not a network; expected one of {known}") from None


def full_settings(name: NetworkName) -> NetworkSettings:
    """Returns the size of the paper: side 128, width and depth 1."""
    del name  # every network's full size is the default; the argument keeps the two functions alike
    return NetworkSettings()


def miniature_settings(name: NetworkName) -> NetworkSettings:
    """Returns a size that trains in seconds to minutes on a CPU at side 32; the same code as the full size."""
    return _MINIATURES.get(name, _MINIATURE)


def build_network(name: NetworkName | str, settings: NetworkSettings) -> RiskNetwork:
    """Returns a freshly initialised network in training mode (torch's seed decides the weights).

    Args:
        name: one of :class:`NetworkName`.
        settings: its size.

    Raises:
        InvalidInput: the name is unknown, or the network cannot have this size.
    """
    known = name if isinstance(name, NetworkName) else parse_network(name)
    module, attribute = _CLASSES[known]
    built = getattr(import_module(module), attribute)(settings)
    if not isinstance(built, RiskNetwork):
        raise InvalidInput(f"{module}.{attribute} is not a risk network")
    return built


def count_parameters(network: nn.Module) -> int:
    """Returns the number of trainable numbers in the network."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def number_of_outputs() -> dict[str, int]:
    """Returns the outputs of each head."""
    return dict(zip(HEAD_NAMES, (1, 1, 1, len(LABELS)), strict=True))
