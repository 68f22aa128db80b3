"""ResNet50 in two or three dimensions: the slice encoder of Network 3 and a comparison network."""

from typing import Literal

import torch
from torch import nn

from engines.networks.heads import Heads, RiskNetwork, scale_channels, scale_repeats
from engines.networks.settings import NetworkSettings

LAYERS = (3, 4, 6, 3)
PLANES = (64, 128, 256, 512)
EXPANSION = 4


class ResNet50(nn.Module):
    """Stem, four stages of bottlenecks, global average pooling (He et al., CVPR 2016; stride in the 3x3, version 1.5)."""

    def __init__(
        self, in_channels: int, width: float, depth: float = 1.0, *, dimensions: Literal[2, 3]
    ) -> None:
        super().__init__()
        channels = scale_channels(PLANES[0], width)
        self.stem = nn.Sequential(
            _convolution(dimensions, in_channels, channels, 7, stride=2),
            _norm(dimensions, channels),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1) if dimensions == 2 else nn.MaxPool3d(3, 2, 1),
        )
        self.stages = nn.ModuleList()
        for index, (repeats, full) in enumerate(zip(LAYERS, PLANES, strict=True)):
            planes = scale_channels(full, width)
            blocks: list[nn.Module] = []
            for repeat in range(scale_repeats(repeats, depth)):
                stride = 2 if repeat == 0 and index > 0 else 1
                blocks.append(Bottleneck(channels, planes, stride=stride, dimensions=dimensions))
                channels = planes * EXPANSION
            self.stages.append(nn.Sequential(*blocks))
        self.features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns pooled features (n, 2048 at full size) of inputs (n, channels, [z,] y, x)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return x.flatten(2).mean(dim=2)


class Bottleneck(nn.Module):
    """1, 3, 1 convolutions beside a shortcut."""

    def __init__(self, channels: int, planes: int, *, stride: int, dimensions: Literal[2, 3]) -> None:
        super().__init__()
        out_channels = planes * EXPANSION
        self.convolutions = nn.Sequential(
            _convolution(dimensions, channels, planes, 1),
            _norm(dimensions, planes),
            nn.ReLU(inplace=True),
            _convolution(dimensions, planes, planes, 3, stride=stride),
            _norm(dimensions, planes),
            nn.ReLU(inplace=True),
            _convolution(dimensions, planes, out_channels, 1),
            _norm(dimensions, out_channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out_channels:
            self.shortcut = nn.Sequential(
                _convolution(dimensions, channels, out_channels, 1, stride=stride),
                _norm(dimensions, out_channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features (n, 4 planes, ...) of features (n, channels, ...)."""
        y: torch.Tensor = self.convolutions(x)
        return torch.relu(y + self.shortcut(x))


class ResNet50Network(RiskNetwork):
    """3D ResNet50 with the four heads (supplement, Table 2)."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        self.body = ResNet50(len(settings.phases), settings.width, settings.depth, dimensions=3)
        self.dropout = nn.Dropout(settings.dropout or 0.0)
        self.heads = Heads(self.body.features)

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the pooled features (n, 2048 at full size)."""
        features: torch.Tensor = self.dropout(self.body(inputs))
        return features

    @property
    def readable_layer(self) -> nn.Module:
        """The second stage, 16^3 at full size."""
        return self.body.stages[1]


def _convolution(
    dimensions: Literal[2, 3], channels: int, out_channels: int, kernel: int, stride: int = 1
) -> nn.Module:
    kind = nn.Conv2d if dimensions == 2 else nn.Conv3d
    return kind(channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False)


def _norm(dimensions: Literal[2, 3], channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if dimensions == 2 else nn.BatchNorm3d(channels)
