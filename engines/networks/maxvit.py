"""MaxViT-T in three dimensions, a comparison network: convolution, attention within blocks, attention across a grid."""

import torch
from torch import nn

from engines.networks.efficientnet import InvertedBottleneck
from engines.networks.heads import Heads, RiskNetwork, scale_channels, scale_repeats
from engines.networks.settings import NetworkSettings, require_side
from engines.networks.window_attention import WindowAttention, join_windows, split_windows

STEM_CHANNELS = 64
CHANNELS = (64, 128, 256, 512)
REPEATS = (2, 2, 5, 2)
HEAD_SIZE = 32
WINDOW = 4
"""Voxels along a window's and a grid's side. The paper's 7 divides 224; 4 divides every stage of 128 and of 32 that has 4."""
EXPANSION = 4


class MaxViT(RiskNetwork):
    """MaxViT-T with 3D kernels and windows (Tu et al., ECCV 2022, Table 1) and the four heads (supplement, Table 2)."""

    def __init__(self, settings: NetworkSettings) -> None:
        require_side(settings, "maxvit", 32)
        super().__init__(settings)
        dropout = settings.dropout or 0.0
        channels = scale_channels(STEM_CHANNELS, settings.width)
        self.stem = nn.Sequential(
            nn.Conv3d(len(settings.phases), channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm3d(channels),
            nn.GELU(),
            nn.Conv3d(channels, channels, 3, padding=1),
        )
        side = settings.side // 2
        self.stages = nn.ModuleList()
        for full, repeats in zip(CHANNELS, REPEATS, strict=True):
            out_channels = scale_channels(full, settings.width, divisor=8)
            side = side // 2
            blocks: list[nn.Module] = []
            for repeat in range(scale_repeats(repeats, settings.depth)):
                stride = 2 if repeat == 0 else 1
                blocks.append(MaxViTBlock(channels, out_channels, stride=stride, side=side, dropout=dropout))
                channels = out_channels
            self.stages.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(channels)
        self.heads = Heads(channels)

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the pooled, normalised features (n, 512 at full size)."""
        x: torch.Tensor = self.stem(inputs)
        for stage in self.stages:
            x = stage(x)
        features: torch.Tensor = self.norm(x.mean(dim=(2, 3, 4)))
        return features

    @property
    def readable_layer(self) -> nn.Module:
        """The second stage, 16^3 at full size."""
        return self.stages[1]


class MaxViTBlock(nn.Module):
    """An inverted bottleneck, attention within windows, attention across the grid of windows."""

    def __init__(self, channels: int, out_channels: int, *, stride: int, side: int, dropout: float) -> None:
        super().__init__()
        self.convolution = InvertedBottleneck(
            channels,
            out_channels,
            kernel=3,
            stride=stride,
            expansion=EXPANSION,
            drop_connect=0.0,
            norm=nn.BatchNorm3d,
        )
        window = next(size for size in range(min(WINDOW, side), 0, -1) if side % size == 0)
        self.window = window
        heads = max(1, out_channels // HEAD_SIZE)
        self.within = WindowAttention(out_channels, heads, window, dropout)
        self.across = WindowAttention(out_channels, heads, window, dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features (n, out_channels, z, y, x), halved where the stride is 2."""
        x = self.convolution(x)
        n, side = x.shape[0], x.shape[2]
        x = x.movedim(1, -1)
        x = join_windows(self.within(split_windows(x, self.window)), self.window, n)
        # seen from afar the grid is a volume of side / window blocks of strided voxels: swap the two cuts of each axis
        x = _swap_cuts(x, self.window)
        x = join_windows(self.across(split_windows(x, self.window)), self.window, n)
        return _swap_cuts(x, side // self.window).movedim(-1, 1)


def _swap_cuts(x: torch.Tensor, parts: int) -> torch.Tensor:
    """Reorders each axis of (n, z, y, x, channels) so that voxels side / ``parts`` apart become neighbours."""
    n, side, channels = x.shape[0], x.shape[1], x.shape[-1]
    cut = x.reshape(n, parts, side // parts, parts, side // parts, parts, side // parts, channels)
    return cut.permute(0, 2, 1, 4, 3, 6, 5, 7).reshape(x.shape)
