"""The convolutional autoencoder without skips of Network 2: residual units down, two dilated units between, residual units up."""

from itertools import pairwise

import torch
from torch import nn

CHANNELS = (32, 64, 128, 256)
"""Filters of the four encoder blocks (supplement, section 4)."""
KERNEL = 3
BETWEEN_UNITS = 2
BETWEEN_DILATION = 2
CONVOLUTIONS_A_UNIT = 2


class Autoencoder(nn.Module):
    """Encoder (side / 16), bottleneck and decoder to one channel: 13,501,232 parameters at full size.

    Source: supplement, section 4, Network 2; the blocks are those of MONAI's AutoEncoder with num_res_units 2,
    inter_channels (256, 256), inter_dilations (2, 2), num_inter_units 2 (the authors' code).
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        sizes = (in_channels, *channels)
        self.encoder = nn.ModuleList(
            ResidualUnit(before, after, stride=2, dropout=dropout) for before, after in pairwise(sizes)
        )
        self.between = nn.Sequential(
            *(
                ResidualUnit(channels[-1], channels[-1], dilation=BETWEEN_DILATION, dropout=dropout)
                for _ in range(BETWEEN_UNITS)
            )
        )
        # as in MONAI, the first decoder block already has the second-deepest number of channels
        up = (channels[-1], *channels[-2::-1], 1)
        self.decoder = nn.Sequential(
            *(
                UpBlock(before, after, dropout=dropout, last=index == len(channels) - 1)
                for index, (before, after) in enumerate(pairwise(up))
            )
        )

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the bottleneck (n, 256, side / 16, side / 16, side / 16) of inputs (n, phases, side, side, side)."""
        for block in self.encoder:
            x = block(x)
        bottleneck: torch.Tensor = self.between(x)
        return bottleneck

    def decode(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Returns the reconstruction (n, 1, side, side, side)."""
        reconstruction: torch.Tensor = self.decoder(bottleneck)
        return reconstruction


class ResidualUnit(nn.Module):
    """Two convolutions, each with instance norm, dropout and PReLU, beside a shortcut (He et al., CVPR 2016)."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        dropout: float,
        convolutions: int = CONVOLUTIONS_A_UNIT,
        plain_end: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(convolutions):
            layers.append(
                nn.Conv3d(
                    channels if index == 0 else out_channels,
                    out_channels,
                    KERNEL,
                    stride=stride if index == 0 else 1,
                    padding=dilation,
                    dilation=dilation,
                )
            )
            if not (plain_end and index == convolutions - 1):
                layers += _norm_dropout_activation(out_channels, dropout)
        self.convolutions = nn.Sequential(*layers)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Conv3d(channels, out_channels, KERNEL, stride=stride, padding=1)
        elif channels != out_channels:
            self.shortcut = nn.Conv3d(channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features (n, out_channels, ...) of features (n, channels, ...)."""
        y: torch.Tensor = self.convolutions(x)
        beside: torch.Tensor = self.shortcut(x)
        return y + beside


class UpBlock(nn.Module):
    """A transposed convolution that doubles the side, then a residual unit of one convolution; the last one ends plain."""

    def __init__(self, channels: int, out_channels: int, *, dropout: float, last: bool) -> None:
        super().__init__()
        self.up = nn.Sequential(
            nn.ConvTranspose3d(channels, out_channels, KERNEL, stride=2, padding=1, output_padding=1),
            *_norm_dropout_activation(out_channels, dropout),
        )
        self.unit = ResidualUnit(out_channels, out_channels, dropout=dropout, convolutions=1, plain_end=last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features (n, out_channels, 2 z, 2 y, 2 x) of features (n, channels, z, y, x)."""
        y: torch.Tensor = self.unit(self.up(x))
        return y


def _norm_dropout_activation(channels: int, dropout: float) -> list[nn.Module]:
    """The three layers after a convolution, in the supplement's order."""
    return [nn.InstanceNorm3d(channels), nn.Dropout(dropout), nn.PReLU()]
