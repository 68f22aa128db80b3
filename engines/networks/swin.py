"""The encoder of SwinUNETR, a comparison network: attention within windows that shift by half from layer to layer."""

import torch
from torch import nn
from torch.nn import functional

from engines.networks.heads import Heads, RiskNetwork, scale_channels, scale_repeats
from engines.networks.settings import NetworkSettings, require_side
from engines.networks.window_attention import WindowAttention, join_windows, split_windows

EMBEDDING = 48
DEPTHS = (2, 2, 2, 2)
ATTENTION_HEADS = (3, 6, 12, 24)
PATCH = 2
WINDOW = 7
MASKED = -100.0
"""Added to the score of two voxels that a cyclic shift brought together by accident."""


class SwinEncoder(RiskNetwork):
    """Shifted-window transformer with the sizes of SwinUNETR, pooled, and the four heads (supplement, Table 2).

    Source: Hatamizadeh et al., Swin UNETR, 2022; Liu et al., Swin transformer, ICCV 2021.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        require_side(settings, "swin_unetr", 32)
        super().__init__(settings)
        channels = scale_channels(EMBEDDING, settings.width, divisor=12)
        side = settings.side // PATCH
        dropout = settings.dropout or 0.0
        self.patches = nn.Conv3d(len(settings.phases), channels, PATCH, stride=PATCH)
        self.stages = nn.ModuleList()
        for repeats, heads in zip(DEPTHS, ATTENTION_HEADS, strict=True):
            count = 2 * scale_repeats(repeats // 2, settings.depth)
            layers: list[nn.Module] = [
                SwinLayer(channels, heads, side, shifted=index % 2 == 1, dropout=dropout)
                for index in range(count)
            ]
            layers.append(PatchMerging(channels))
            self.stages.append(nn.Sequential(*layers))
            channels, side = 2 * channels, side // 2
        self.norm = nn.LayerNorm(channels)
        self.heads = Heads(channels)

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the pooled, normalised last stage (n, 768 at full size)."""
        x = self.patches(inputs).movedim(1, -1)
        for stage in self.stages:
            x = stage(x)
        features: torch.Tensor = self.norm(x.mean(dim=(1, 2, 3)))
        return features

    @property
    def readable_layer(self) -> nn.Module:
        """The patch embedding, 64^3 at full size."""
        return self.patches


class SwinLayer(nn.Module):
    """Attention within windows of a volume (n, z, y, x, channels), shifted by half a window in every second layer."""

    def __init__(self, channels: int, heads: int, side: int, *, shifted: bool, dropout: float) -> None:
        super().__init__()
        self.window = min(WINDOW, side)
        self.padded = -(-side // self.window) * self.window
        self.shift = self.window // 2 if shifted and side > self.window else 0
        self.attention = WindowAttention(channels, heads, self.window, dropout)
        self.register_buffer("mask", self._mask() if self.shift else None, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features of the same shape."""
        n, side = x.shape[0], x.shape[1]
        missing = self.padded - side
        x = functional.pad(x, (0, 0) + (0, missing) * 3) if missing else x
        x = torch.roll(x, (-self.shift,) * 3, (1, 2, 3)) if self.shift else x
        mask = self.get_buffer("mask") if self.shift else None
        x = join_windows(self.attention(split_windows(x, self.window), mask), self.window, n)
        x = torch.roll(x, (self.shift,) * 3, (1, 2, 3)) if self.shift else x
        return x[:, :side, :side, :side]

    def _mask(self) -> torch.Tensor:
        """What keeps voxels apart that only the cyclic shift brought into one window, (windows, tokens, tokens)."""
        edges = (0, self.padded - self.window, self.padded - self.shift, self.padded)
        region = torch.zeros(self.padded)
        for index in range(3):
            region[edges[index] : edges[index + 1]] = index
        regions = region[:, None, None] * 9 + region[None, :, None] * 3 + region[None, None, :]
        tokens = split_windows(regions[None, ..., None], self.window).squeeze(-1)
        return (tokens[:, None, :] != tokens[:, :, None]).float() * MASKED


class PatchMerging(nn.Module):
    """Eight neighbouring voxels become one with twice the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8 * channels)
        self.reduce = nn.Linear(8 * channels, 2 * channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features (n, z / 2, y / 2, x / 2, 2 channels) of features (n, z, y, x, channels)."""
        n, side, channels = x.shape[0], x.shape[1], x.shape[-1]
        half = side // 2
        cut = x.reshape(n, half, 2, half, 2, half, 2, channels).permute(0, 1, 3, 5, 2, 4, 6, 7)
        merged: torch.Tensor = self.reduce(self.norm(cut.reshape(n, half, half, half, 8 * channels)))
        return merged
