"""Attention within cubic windows with a learned bias for each relative position: what MaxViT and Swin share."""

import torch
from torch import nn
from torch.nn import functional

EXPANSION = 4


class WindowAttention(nn.Module):
    """Pre-norm attention with a learned bias for each relative position, then a perceptron."""

    def __init__(self, channels: int, heads: int, window: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.bias = nn.Parameter(torch.zeros((2 * window - 1) ** 3, self.heads))
        self.register_buffer("index", _relative_index(window), persistent=False)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, EXPANSION * channels),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(EXPANSION * channels, channels),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Returns tokens of the same shape.

        Args:
            tokens: (cases * windows, window^3, channels).
            mask: (windows, window^3, window^3) added to the scores; None for none.
        """
        n, t, channels = tokens.shape
        qkv = (
            self.qkv(self.norm(tokens))
            .view(n, t, 3, self.heads, channels // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        bias = self.bias[self.get_buffer("index")].view(1, t, t, self.heads).permute(0, 3, 1, 2)
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(n // mask.shape[0], 1, 1, 1)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=bias)
        tokens = tokens + self.project(mixed.transpose(1, 2).reshape(n, t, channels))
        perceived: torch.Tensor = self.perceptron(tokens)
        return tokens + perceived


def split_windows(x: torch.Tensor, window: int) -> torch.Tensor:
    """Returns tokens (n * windows, window^3, channels) of a volume (n, side, side, side, channels)."""
    n, side, channels = x.shape[0], x.shape[1], x.shape[-1]
    count = side // window
    cut = x.reshape(n, count, window, count, window, count, window, channels)
    return cut.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(n * count**3, window**3, channels)


def join_windows(tokens: torch.Tensor, window: int, n: int) -> torch.Tensor:
    """Returns the volume (n, side, side, side, channels) that :func:`split_windows` cut."""
    channels = tokens.shape[-1]
    count = round((tokens.shape[0] // n) ** (1 / 3))
    cut = tokens.reshape(n, count, count, count, window, window, window, channels)
    side = count * window
    return cut.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(n, side, side, side, channels)


def _relative_index(window: int) -> torch.Tensor:
    """Row of the bias table for each pair of places in a window, (window^6,)."""
    axis = torch.arange(window)
    places = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).flatten(1)
    offsets = (places[:, :, None] - places[:, None, :]) + window - 1
    span = 2 * window - 1
    return ((offsets[0] * span + offsets[1]) * span + offsets[2]).flatten()
