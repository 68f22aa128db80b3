"""DenseNet121 in three dimensions, a comparison network."""

import torch
from torch import nn

from engines.networks.heads import Heads, RiskNetwork, scale_channels, scale_repeats
from engines.networks.settings import NetworkSettings, require_side

GROWTH = 32
STEM_CHANNELS = 64
BOTTLENECK = 4
BLOCKS = (6, 12, 24, 16)


class DenseNet121(RiskNetwork):
    """Four dense blocks with transitions between them (Huang et al., CVPR 2017) and the four heads (supplement, Table 2)."""

    def __init__(self, settings: NetworkSettings) -> None:
        require_side(settings, "densenet121", 32)
        super().__init__(settings)
        growth = scale_channels(GROWTH, settings.width, divisor=4)
        channels = scale_channels(STEM_CHANNELS, settings.width)
        self.stem = nn.Sequential(
            nn.Conv3d(len(settings.phases), channels, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(3, 2, 1),
        )
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        for index, repeats in enumerate(BLOCKS):
            layers: list[nn.Module] = []
            for _ in range(scale_repeats(repeats, settings.depth)):
                layers.append(DenseLayer(channels, growth))
                channels += growth
            self.blocks.append(nn.Sequential(*layers))
            last = index == len(BLOCKS) - 1
            self.transitions.append(nn.Identity() if last else _transition(channels))
            channels = channels if last else channels // 2
        self.norm = nn.Sequential(nn.BatchNorm3d(channels), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(settings.dropout or 0.0)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight)
        self.heads = Heads(channels)

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the pooled features (n, 1024 at full size)."""
        x: torch.Tensor = self.stem(inputs)
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            x = transition(block(x))
        pooled: torch.Tensor = self.dropout(self.norm(x).mean(dim=(2, 3, 4)))
        return pooled

    @property
    def readable_layer(self) -> nn.Module:
        """The second dense block, 16^3 at full size."""
        return self.blocks[1]


class DenseLayer(nn.Module):
    """Norm, ReLU, 1^3 convolution, norm, ReLU, 3^3 convolution; the result is appended to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm3d(channels),
            nn.ReLU(inplace=True),
            nn.Conv3d(channels, BOTTLENECK * growth, 1, bias=False),
            nn.BatchNorm3d(BOTTLENECK * growth),
            nn.ReLU(inplace=True),
            nn.Conv3d(BOTTLENECK * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features (n, channels + growth, ...)."""
        return torch.cat([x, self.layers(x)], dim=1)


def _transition(channels: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm3d(channels),
        nn.ReLU(inplace=True),
        nn.Conv3d(channels, channels // 2, 1, bias=False),
        nn.AvgPool3d(2, 2),
    )
