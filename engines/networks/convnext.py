"""ConvNeXt-T in three dimensions, a comparison network."""

import torch
from torch import nn

from engines.networks.efficientnet import drop_path
from engines.networks.heads import Heads, RiskNetwork, scale_channels, scale_repeats
from engines.networks.settings import NetworkSettings, require_side

CHANNELS = (96, 192, 384, 768)
REPEATS = (3, 3, 9, 3)
KERNEL = 7
EXPANSION = 4
LAYER_SCALE = 1e-6
DROP_PATH = 0.1
NORM_EPSILON = 1e-6


class ConvNeXt(RiskNetwork):
    """ConvNeXt-T with 3D kernels (Liu et al., CVPR 2022, Table 9) and the four heads (supplement, Table 2)."""

    def __init__(self, settings: NetworkSettings) -> None:
        require_side(settings, "convnext", 32)
        super().__init__(settings)
        widths = [scale_channels(channels, settings.width) for channels in CHANNELS]
        repeats = [scale_repeats(count, settings.depth) for count in REPEATS]
        rates = torch.linspace(0, DROP_PATH, sum(repeats), device="cpu").tolist()
        self.downs = nn.ModuleList()
        self.stages = nn.ModuleList()
        before = len(settings.phases)
        for index, (channels, count) in enumerate(zip(widths, repeats, strict=True)):
            if index == 0:
                down = nn.Sequential(nn.Conv3d(before, channels, 4, stride=4), ChannelNorm(channels))
            else:
                down = nn.Sequential(ChannelNorm(before), nn.Conv3d(before, channels, 2, stride=2))
            self.downs.append(down)
            self.stages.append(nn.Sequential(*(ConvNeXtBlock(channels, rates.pop(0)) for _ in range(count))))
            before = channels
        self.norm = nn.LayerNorm(before, eps=NORM_EPSILON)
        self.dropout = nn.Dropout(settings.dropout or 0.0)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.heads = Heads(before)

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the pooled, normalised features (n, 768 at full size)."""
        x = inputs
        for down, stage in zip(self.downs, self.stages, strict=True):
            x = stage(down(x))
        pooled: torch.Tensor = self.dropout(self.norm(x.mean(dim=(2, 3, 4))))
        return pooled

    @property
    def readable_layer(self) -> nn.Module:
        """The second stage, 16^3 at full size."""
        return self.stages[1]


class ConvNeXtBlock(nn.Module):
    """Depthwise 7^3 convolution, layer norm, perceptron over channels, scaled shortcut."""

    def __init__(self, channels: int, drop_rate: float) -> None:
        super().__init__()
        self.filter = nn.Conv3d(channels, channels, KERNEL, padding=KERNEL // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=NORM_EPSILON)
        self.perceptron = nn.Sequential(
            nn.Linear(channels, EXPANSION * channels), nn.GELU(), nn.Linear(EXPANSION * channels, channels)
        )
        self.scale = nn.Parameter(torch.full((channels,), LAYER_SCALE))
        self.drop_rate = drop_rate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns features of the same shape (n, channels, z, y, x)."""
        y = self.norm(self.filter(x).movedim(1, -1))
        y = (self.scale * self.perceptron(y)).movedim(-1, 1)
        return x + drop_path(y, self.drop_rate, self.training)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (n, channels, z, y, x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPSILON)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns normalised features of the same shape."""
        normed: torch.Tensor = self.norm(x.movedim(1, -1))
        return normed.movedim(-1, 1)
