"""Network 1: EfficientNet-B1 in three dimensions, mobile inverted bottlenecks with squeeze-excitation."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from engines.networks.heads import Heads, RiskNetwork, scale_channels, scale_repeats
from engines.networks.settings import NetworkSettings

B1_DEPTH = 1.1
"""Depth coefficient of B1 relative to B0 (Tan & Le, ICML 2019)."""

DROPOUT = 0.2
DROP_CONNECT = 0.2
NORM_EPSILON = 1e-3
STEM_CHANNELS = 32
STEM_STRIDE = 2
"""First convolution: 32 filters, stride 2 (supplement, section 4)."""
TOP_CHANNELS = 1280
SQUEEZE_RATIO = 0.25
SMALLEST_READABLE = 8


class Stage(NamedTuple):
    """One of the seven stages at B0's size (Tan & Le, Table 1)."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class EfficientNet(RiskNetwork):
    """EfficientNet-B1 with the four heads: 7,463,596 parameters at full size.

    Source: supplement, section 4, Network 1; Tan & Le, EfficientNet, ICML 2019.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        norm = partial(nn.BatchNorm3d, eps=NORM_EPSILON, momentum=settings.norm_momentum)
        channels = scale_channels(STEM_CHANNELS, settings.width)
        self.stem = nn.Sequential(
            same_convolution(len(settings.phases), channels, 3, stride=STEM_STRIDE),
            norm(channels),
            nn.SiLU(inplace=True),
        )
        repeats = [scale_repeats(stage.repeats, B1_DEPTH * settings.depth) for stage in STAGES]
        self.sides = stage_sides(settings.side, settings.coarsest_side)
        before = math.ceil(settings.side / STEM_STRIDE)
        block, blocks = 0, sum(repeats)
        self.stages = nn.ModuleList()
        for stage, count, side in zip(STAGES, repeats, self.sides, strict=True):
            stride, before = stage.stride if side < before else 1, side
            out_channels = scale_channels(stage.channels, settings.width)
            layers: list[nn.Module] = []
            for repeat in range(count):
                layers.append(
                    InvertedBottleneck(
                        channels,
                        out_channels,
                        kernel=stage.kernel,
                        stride=stride if repeat == 0 else 1,
                        expansion=stage.expansion,
                        drop_connect=DROP_CONNECT * block / blocks,
                        norm=norm,
                    )
                )
                channels = out_channels
                block += 1
            self.stages.append(nn.Sequential(*layers))
        features = scale_channels(TOP_CHANNELS, settings.width)
        self.top = nn.Sequential(
            same_convolution(channels, features, 1), norm(features), nn.SiLU(inplace=True)
        )
        self.dropout = nn.Dropout(DROPOUT if settings.dropout is None else settings.dropout)
        self.apply(_initialise)
        self.heads = Heads(features)

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the pooled features (n, 1280 at full size)."""
        x: torch.Tensor = self.stem(inputs)
        for stage in self.stages:
            x = stage(x)
        pooled: torch.Tensor = self.dropout(self.top(x).mean(dim=(2, 3, 4)))
        return pooled

    @property
    def readable_layer(self) -> nn.Module:
        """Stage 3, 16^3 at full size (method, section 8); stage 2 where stage 3 has fewer than 8 voxels a side."""
        return self.stages[2 if self.sides[2] >= SMALLEST_READABLE else 1]


def stage_sides(side: int, coarsest_side: int) -> tuple[int, ...]:
    """Returns the voxels along each axis that the seven stages give; one that would give fewer than asked does not halve.

    Args:
        side: of the network's input, voxels.
        coarsest_side: fewest voxels that a stage may come to; 1 leaves the strides of B0 as they are.
    """
    left = math.ceil(side / STEM_STRIDE)
    sides: list[int] = []
    for stage in STAGES:
        halved = math.ceil(left / stage.stride)
        left = halved if halved >= coarsest_side else left
        sides.append(left)
    return tuple(sides)


class InvertedBottleneck(nn.Module):
    """Expand by a 1^3 convolution, filter each channel, squeeze and excite, project; a shortcut where the shape allows it.

    Source: Sandler et al., MobileNetV2, CVPR 2018; Hu et al., squeeze-and-excitation, CVPR 2018.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        drop_connect: float,
        norm: Callable[[int], nn.Module],
    ) -> None:
        super().__init__()
        inner = channels * expansion
        expand: list[nn.Module] = []
        if expansion != 1:
            expand = [
                same_convolution(channels, inner, 1),
                norm(inner),
                nn.SiLU(inplace=True),
            ]
        self.expand = nn.Sequential(*expand)
        self.filter = nn.Sequential(
            same_convolution(inner, inner, kernel, stride=stride, groups=inner),
            norm(inner),
            nn.SiLU(inplace=True),
        )
        squeezed = max(1, int(channels * SQUEEZE_RATIO))
        self.excite = nn.Sequential(
            nn.AdaptiveAvgPool3d(1),
            nn.Conv3d(inner, squeezed, 1),
            nn.SiLU(inplace=True),
            nn.Conv3d(squeezed, inner, 1),
            nn.Sigmoid(),
        )
        self.project = nn.Sequential(
            same_convolution(inner, out_channels, 1),
            norm(out_channels),
        )
        self.shortcut = stride == 1 and channels == out_channels
        self.drop_connect = drop_connect

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features (n, out_channels, ...) of features (n, channels, ...)."""
        y: torch.Tensor = self.filter(self.expand(x))
        y = self.project(y * self.excite(y))
        if self.shortcut:
            y = x + drop_path(y, self.drop_connect, self.training)
        return y


class SamePad3d(nn.Module):
    """Pads so that a convolution gives ceil(side / stride) voxels, as TensorFlow's "same" does.

    Where the padding is odd, the extra voxel lies after the data.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns ``x`` (n, c, z, y, x) with zeros around it."""
        pads: list[int] = []
        for axis in (4, 3, 2):
            size = x.shape[axis]
            total = max((math.ceil(size / self.stride) - 1) * self.stride + self.kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.pad(x, pads)


def same_convolution(
    channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Module:
    """Returns a bias-free convolution whose output has ceil(side / stride) voxels along each axis."""
    if stride == 1:
        return nn.Conv3d(channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False)
    convolution = nn.Conv3d(channels, out_channels, kernel, stride=stride, groups=groups, bias=False)
    return nn.Sequential(SamePad3d(kernel, stride), convolution)


def drop_path(x: torch.Tensor, probability: float, training: bool) -> torch.Tensor:
    """Returns ``x`` with whole cases set to zero at ``probability`` while training, the others scaled up to keep the mean.

    Source: Huang et al., stochastic depth, ECCV 2016.
    """
    if not training or probability == 0:
        return x
    keep = 1 - probability
    shape = (x.shape[0],) + (1,) * (x.ndim - 1)
    mask = torch.floor(keep + torch.rand(shape, dtype=x.dtype, device=x.device))
    return x / keep * mask


def _initialise(module: nn.Module) -> None:
    """Draws the weights as the reference implementation of EfficientNet does."""
    if isinstance(module, nn.Conv3d):
        fan_out = math.prod(module.kernel_size) * module.out_channels
        nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
