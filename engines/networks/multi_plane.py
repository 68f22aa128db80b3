"""Network 3: two 3D convolutions, one token for each slice of three planes, and a transformer over the tokens."""

import torch
from torch import nn

from engines.networks.heads import Heads, RiskNetwork, scale_channels, scale_repeats
from engines.networks.resnet import ResNet50
from engines.networks.settings import NetworkSettings, SliceEncoder
from engines.networks.transformer import TransformerLayer

PLANES = 3
"""Axial, coronal, sagittal: slices along z, y, x."""
FILTERS = 32
KERNEL = 5
PROJECTION = 1536
"""Hidden size of the two-layer projection (the authors' code: 32 -> 1536 -> 768)."""
HIDDEN = 768
"""Size of a token; the supplement's 756 is a misprint, 756 has no 8 heads of equal size."""
LAYERS = 12
HEADS = 8
DROPOUT = 0.15
NUMBER_OF_SPECIAL_TOKENS = 4
"""CLS before the axial slices and SEP after each plane: CLS | z | SEP | y | SEP | x | SEP."""
TOKEN_STD = 0.02


class MultiPlaneTransformer(RiskNetwork):
    """Network 3: 44,214,188 parameters at full size (86,709,164 with feed-forward 3072), 388 tokens.

    A slice interacts with its own position in the volume by element-wise multiplication, that is with itself: its
    features are squared before they are pooled, which has no parameter of its own. With ``slice_encoder = gap`` the
    mean over the slice is taken at once, without building the stack of slices.

    Source: supplement, section 4, Network 3; Jang & Hwang, M3T, CVPR 2022; normalisation after the convolutions,
    projection sizes and dropout from the authors' code.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__(settings)
        filters = scale_channels(FILTERS, settings.width, divisor=4)
        hidden = scale_channels(HIDDEN, settings.width, divisor=HEADS)
        dropout = DROPOUT if settings.dropout is None else settings.dropout
        padding = KERNEL // 2
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.Conv3d(channels, filters, KERNEL, padding=padding),
                nn.BatchNorm3d(filters),
                nn.ReLU(inplace=True),
            )
            for channels in (len(settings.phases), filters)
        )
        self.slice_encoder: ResNet50 | None = None
        encoded = filters
        if settings.slice_encoder is SliceEncoder.RESNET50:
            self.slice_encoder = ResNet50(filters, settings.width, dimensions=2)
            encoded = self.slice_encoder.features
        projection = scale_channels(PROJECTION, settings.width)
        self.project = nn.Sequential(
            nn.Linear(encoded, projection), nn.ReLU(inplace=True), nn.Linear(projection, hidden)
        )
        self.cls = nn.Parameter(torch.empty(1, 1, hidden))
        self.sep = nn.Parameter(torch.empty(1, 1, hidden))
        self.plane = nn.Parameter(torch.empty(PLANES, hidden))
        self.position = nn.Parameter(torch.empty(1, self.number_of_tokens, hidden))
        self.token_dropout = nn.Dropout(dropout)
        feed_forward = max(1, round(settings.feed_forward * hidden / HIDDEN))
        self.layers = nn.Sequential(
            *(
                TransformerLayer(hidden, HEADS, feed_forward, dropout=dropout)
                for _ in range(scale_repeats(LAYERS, settings.depth))
            )
        )
        self.heads = Heads(hidden)
        for token in (self.cls, self.sep, self.plane, self.position):
            nn.init.trunc_normal_(token, std=TOKEN_STD)

    @property
    def number_of_tokens(self) -> int:
        """Length of the transformer's sequence: 388 at side 128."""
        return PLANES * self.settings.side + NUMBER_OF_SPECIAL_TOKENS

    def extract(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the CLS vector (n, 768 at full size)."""
        features = inputs
        for convolution in self.convolutions:
            features = convolution(features)
        tokens = self.layers(self.embed(features))
        vector: torch.Tensor = tokens[:, 0]
        return vector

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """Returns the token sequence (n, 3 side + 4, hidden) of 3D features (n, c, z, y, x)."""
        n = features.shape[0]
        sequence = [self.cls.expand(n, -1, -1)]
        for plane in range(PLANES):
            tokens = self.project(self._encode_slices(features, axis=plane + 2))
            sequence += [tokens + self.plane[plane], self.sep.expand(n, -1, -1)]
        embedded: torch.Tensor = self.token_dropout(torch.cat(sequence, dim=1) + self.position)
        return embedded

    @property
    def readable_layer(self) -> nn.Module:
        """The second 3D convolution (method, section 8)."""
        return self.convolutions[1]

    def _encode_slices(self, features: torch.Tensor, axis: int) -> torch.Tensor:
        """One vector a slice, (n, side, f), for the slices across ``axis`` (2, 3 or 4)."""
        squared = features * features
        if self.slice_encoder is None:
            in_plane = [other for other in (2, 3, 4) if other != axis]
            return squared.mean(dim=in_plane).transpose(1, 2)
        n, side = features.shape[0], features.shape[axis]
        slices = squared.movedim(axis, 1).flatten(0, 1)
        encoded: torch.Tensor = self.slice_encoder(slices)
        return encoded.view(n, side, -1)
