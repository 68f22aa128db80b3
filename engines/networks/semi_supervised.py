"""Network 2: an autoencoder whose bottleneck feeds a convolutional DeepSurv head; and the unsupervised rival on the same autoencoder."""

from abc import abstractmethod

import torch
from torch import nn

from engines.errors import InvalidInput
from engines.networks.autoencoder import CHANNELS, Autoencoder
from engines.networks.heads import Heads, NetworkOutput, RiskNetwork, scale_channels
from engines.networks.settings import NetworkSettings

DROPOUT = 0.25
SMALLEST_SIDE = 32
HEAD_CHANNELS = (256, 512, 1024, 1024)
"""Filters of the DeepSurv head (supplement, section 4; the fourth, a 1^3 convolution, from the authors' code)."""


class _AutoencoderNetwork(RiskNetwork):
    """A risk network on an autoencoder's bottleneck, which also gives the reconstruction."""

    autoencoder: Autoencoder

    def __init__(self, settings: NetworkSettings) -> None:
        if settings.side < SMALLEST_SIDE:
            raise InvalidInput(
                f"side is {settings.side} voxels; the autoencoder needs at least {SMALLEST_SIDE}: its instance "
                "normalisation has nothing to normalise in a bottleneck of one voxel"
            )
        super().__init__(settings)
        self.dropout = DROPOUT if settings.dropout is None else settings.dropout
        self.channels = tuple(scale_channels(channels, settings.width) for channels in CHANNELS)
        self.autoencoder = Autoencoder(len(settings.phases), self.channels, self.dropout)

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the feature vector of the bottleneck."""
        return self.summarise(self.autoencoder.encode(inputs))

    @abstractmethod
    def summarise(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Returns the feature vector (n, f) that the heads read from the bottleneck (n, c, s, s, s)."""

    def reconstruct(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the reconstruction (n, 1, side, side, side) alone: what the unsupervised phase trains."""
        self.check_inputs(inputs)
        return self.autoencoder.decode(self.autoencoder.encode(inputs))

    def forward(self, inputs: torch.Tensor) -> NetworkOutput:
        """Returns the four outputs, and while training the reconstruction too.

        Args:
            inputs: (n, phases, side, side, side), scaled to [0, 1]; n >= 2 while training, because the batch
                normalisation at 1^3 voxels has nothing to normalise in a single case.

        Raises:
            InvalidInput: another shape, or a training batch of one case.
        """
        self.check_inputs(inputs)
        bottleneck = self.autoencoder.encode(inputs)
        output: NetworkOutput = self.heads(self.summarise(bottleneck))
        if self.training:
            return output._replace(reconstruction=self.autoencoder.decode(bottleneck))
        return output

    @property
    def readable_layer(self) -> nn.Module:
        """The second encoder block (method, section 8)."""
        return self.autoencoder.encoder[1]


class SemiSupervised(_AutoencoderNetwork):
    """Network 2: 20,337,728 parameters at full size.

    The head's four convolutions bring the bottleneck to one voxel. At side 128 they are the paper's (8-4-2-1). Rule
    for other sides: each of the first two halves the side (kernel 2, stride 2) where it is even and above 2 and is a
    1^3 convolution otherwise; the third spans what is left; the fourth is always 1^3.

    Source: supplement, section 4, Network 2; Katzman et al., DeepSurv, BMC Med Res Methodol 2018.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        layers: list[nn.Module] = []
        channels = self.channels[-1]
        for (kernel, stride), full in zip(head_kernels(settings.side), HEAD_CHANNELS, strict=True):
            out_channels = scale_channels(full, settings.width)
            layers += [
                nn.Conv3d(channels, out_channels, kernel, stride=stride),
                nn.BatchNorm3d(out_channels),
                nn.PReLU(),
                nn.Dropout(self.dropout),
            ]
            channels = out_channels
        self.deep_surv = nn.Sequential(*layers)
        self.heads = Heads(channels)

    def summarise(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Returns the DeepSurv head's features (n, 1024 at full size)."""
        if self.training and bottleneck.shape[0] < 2:
            raise InvalidInput(
                "Network 2 needs at least 2 cases in a training batch, got 1: its head normalises over the batch"
            )
        features: torch.Tensor = self.deep_surv(bottleneck)
        return features.flatten(1)


class Unsupervised(_AutoencoderNetwork):
    """The rival of Network 2: the mean bottleneck of an autoencoder that never saw an outcome, under a linear (Cox) head.

    Its risk heads are set from a ridge Cox regression; its age and label heads stay at zero and say nothing.

    Source: supplement, Table 2, "Unsupervised".
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        self.heads = Heads(self.channels[-1])
        for parameter in self.heads.parameters():
            nn.init.zeros_(parameter)

    def summarise(self, bottleneck: torch.Tensor) -> torch.Tensor:
        """Returns the mean of each of the bottleneck's channels (n, 256 at full size)."""
        return bottleneck.mean(dim=(2, 3, 4))


def head_kernels(side: int) -> list[tuple[int, int]]:
    """Returns (kernel, stride) of the DeepSurv head's four convolutions for inputs of this side.

    Args:
        side: voxels, a multiple of 16.
    """
    left = side // 16
    kernels: list[tuple[int, int]] = []
    for _ in range(2):
        halves = left > 2 and left % 2 == 0
        kernels.append((2, 2) if halves else (1, 1))
        left = left // 2 if halves else left
    return [*kernels, (left, 1), (1, 1)]
