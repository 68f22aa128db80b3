"""The four heads every network ends in: OS and PFS log-risk, age, nine binary labels; and the network's common face."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import nn

from engines.errors import InvalidInput
from engines.networks.settings import NetworkSettings

LABELS = (
    "sex",
    "child_pugh",
    "hbv",
    "pvtt",
    "lung_metastasis",
    "bone_metastasis",
    "up_to_seven",
    "lymph_node_metastasis",
    "bclc",
)
"""The nine auxiliary labels in the order of the head's outputs (method, section 3, from the authors' code)."""

AGE_LOG_SCALE = 4.75
"""Divisor of ln(age in years): the age target is ln(age) / 4.75, below 1 up to 115 years (the authors' code)."""

START_STD = 0.01
"""Spread of the heads' first weights: a network starts by calling all risks nearly equal (OURS)."""
START_AGE = math.log(60) / AGE_LOG_SCALE
"""The age head starts at 60 years (OURS)."""


class NetworkOutput(NamedTuple):
    """What a network says of n cases.

    Attributes:
        os_log_risk: (n,), log hazard ratio of death, any scale.
        pfs_log_risk: (n,), log hazard ratio of progression or death, any scale.
        age: (n,), in (0, 1), estimate of ln(age in years) / 4.75.
        labels: (n, 9), logits of ``LABELS``.
        reconstruction: (n, 1, z, y, x), the input rebuilt by the autoencoder; None for networks without one.
    """

    os_log_risk: torch.Tensor
    pfs_log_risk: torch.Tensor
    age: torch.Tensor
    labels: torch.Tensor
    reconstruction: torch.Tensor | None = None


class Heads(nn.Module):
    """Four linear heads on one feature vector: 1 + 1 + 1 + 9 outputs."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.os = nn.Linear(features, 1)
        self.pfs = nn.Linear(features, 1)
        self.age = nn.Linear(features, 1)
        self.labels = nn.Linear(features, len(LABELS))
        for head in (self.os, self.pfs, self.age, self.labels):
            nn.init.normal_(head.weight, std=START_STD)
            nn.init.zeros_(head.bias)
        nn.init.constant_(self.age.bias, math.log(START_AGE / (1 - START_AGE)))

    def forward(self, features: torch.Tensor) -> NetworkOutput:
        """Returns the four outputs for features (n, f)."""
        return NetworkOutput(
            os_log_risk=self.os(features).squeeze(1),
            pfs_log_risk=self.pfs(features).squeeze(1),
            age=torch.sigmoid(self.age(features)).squeeze(1),
            labels=self.labels(features),
        )


class RiskNetwork(nn.Module, ABC):
    """A network that takes (n, phases, side, side, side) and ends in the four heads."""

    settings: NetworkSettings
    heads: Heads

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings

    @abstractmethod
    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the feature vector (n, f) that the heads read."""

    @property
    @abstractmethod
    def readable_layer(self) -> nn.Module:
        """The layer whose activations (n, channels, z, y, x) make the clearest activation map."""

    def forward(self, inputs: torch.Tensor) -> NetworkOutput:
        """Returns the outputs for n inputs.

        Args:
            inputs: (n, phases, side, side, side), scaled to [0, 1].

        Raises:
            InvalidInput: the shape is another than the settings say.
        """
        self.check_inputs(inputs)
        output: NetworkOutput = self.heads(self.extract(inputs))
        return output

    def check_inputs(self, inputs: torch.Tensor) -> None:
        """Refuses inputs of another shape than (n, phases, side, side, side).

        Raises:
            InvalidInput: says what was got and what was expected.
        """
        expected = self.settings.input_shape
        if inputs.ndim != 5 or tuple(inputs.shape[1:]) != expected:
            phases = ", ".join(phase.value for phase in self.settings.phases)
            raise InvalidInput(
                f"network input has shape {tuple(inputs.shape)}; expected (n, {expected}) with channels {phases}"
            )


def age_target(age_years: torch.Tensor) -> torch.Tensor:
    """Returns ln(age) / 4.75, the target of the age head.

    Args:
        age_years: (n,), years, > 0; NaN where not known.
    """
    return torch.log(age_years) / AGE_LOG_SCALE


def age_years(age: torch.Tensor) -> torch.Tensor:
    """Returns the age in years that the age head's output (n,) stands for."""
    return torch.exp(age * AGE_LOG_SCALE)


def scale_channels(channels: int, width: float, divisor: int = 8) -> int:
    """Returns ``channels * width`` rounded to a multiple of ``divisor``, at least ``divisor`` and at least 90 % of it.

    Source: Tan & Le, EfficientNet, ICML 2019 (reference implementation, round_filters).
    """
    scaled = channels * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded


def scale_repeats(repeats: int, depth: float) -> int:
    """Returns ``repeats * depth`` rounded up, at least 1."""
    return max(1, math.ceil(repeats * depth))
