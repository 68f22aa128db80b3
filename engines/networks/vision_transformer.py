"""ViT-B in three dimensions, a comparison network."""

import torch
from torch import nn

from engines.networks.heads import Heads, RiskNetwork, scale_channels, scale_repeats
from engines.networks.settings import NetworkSettings
from engines.networks.transformer import TransformerLayer

HIDDEN = 768
FEED_FORWARD = 3072
LAYERS = 12
HEADS = 12
PATCHES_A_SIDE = 8
"""A patch is an eighth of the side: the usual 16^3 at 128^3, and as many tokens in a miniature."""


class VisionTransformer(RiskNetwork):
    """Patches, learned positions, a CLS token, 12 layers (Dosovitskiy et al., ICLR 2021) and the four heads."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        hidden = scale_channels(HIDDEN, settings.width, divisor=HEADS)
        dropout = settings.dropout or 0.0
        patch = settings.side // PATCHES_A_SIDE
        self.patches = nn.Conv3d(len(settings.phases), hidden, patch, stride=patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, hidden))
        self.position = nn.Parameter(torch.empty(1, PATCHES_A_SIDE**3 + 1, hidden))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.dropout = nn.Dropout(dropout)
        feed_forward = FEED_FORWARD * hidden // HIDDEN
        self.layers = nn.Sequential(
            *(
                TransformerLayer(hidden, HEADS, feed_forward, dropout=dropout, qkv_bias=True)
                for _ in range(scale_repeats(LAYERS, settings.depth))
            )
        )
        self.norm = nn.LayerNorm(hidden)
        self.heads = Heads(hidden)

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the CLS vector (n, 768 at full size)."""
        patches = self.patches(inputs).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(patches.shape[0], -1, -1), patches], dim=1) + self.position
        tokens = self.layers(self.dropout(tokens))
        vector: torch.Tensor = self.norm(tokens[:, 0])
        return vector

    @property
    def readable_layer(self) -> nn.Module:
        """The patch embedding, 8^3."""
        return self.patches
