"""Pre-norm transformer layers, shared by Network 3 and the vision transformer."""

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head self-attention; the scores are divided by the root of the head's dimension before the softmax.

    Source: Vaswani et al., NeurIPS 2017.
    """

    def __init__(self, hidden: int, heads: int, *, dropout: float, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=qkv_bias)
        self.project = nn.Linear(hidden, hidden)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns tokens (n, t, hidden) of tokens (n, t, hidden)."""
        n, t, hidden = tokens.shape
        qkv = self.qkv(tokens).view(n, t, 3, self.heads, hidden // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(
            qkv[0], qkv[1], qkv[2], dropout_p=self.dropout if self.training else 0.0
        )
        projected: torch.Tensor = self.project(mixed.transpose(1, 2).reshape(n, t, hidden))
        return projected


class TransformerLayer(nn.Module):
    """Attention and a two-layer perceptron, each behind a layer norm and beside a shortcut."""

    def __init__(
        self, hidden: int, heads: int, feed_forward: int, *, dropout: float, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden)
        self.attention = Attention(hidden, heads, dropout=dropout, qkv_bias=qkv_bias)
        self.attention_dropout = nn.Dropout(dropout)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(hidden),
            nn.Linear(hidden, feed_forward),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feed_forward, hidden),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns tokens (n, t, hidden) of tokens (n, t, hidden)."""
        tokens = tokens + self.attention_dropout(self.attention(self.attention_norm(tokens)))
        perceived: torch.Tensor = self.perceptron(tokens)
        return tokens + perceived
