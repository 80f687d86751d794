"""Encoder and decoder layers, pre-norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from .attention import Attention
from .feed_forward import FeedForward
from .memory import build_read

if TYPE_CHECKING:
    from .cache import LayerCache
    from .config import RxtConfig


def _self_attention(config: RxtConfig) -> Attention:
    heads = config.attention
    return Attention(config.embed_dim, heads.num_query_heads, heads.num_kv_heads, config.head_dim)


class EncoderLayer(nn.Module):
    """Bidirectional self-attention and feed-forward. Shapes: [B, T, D] -> [B, T, D]."""

    def __init__(self, config: RxtConfig) -> None:
        super().__init__()
        dim, eps = config.embed_dim, config.norm_eps
        self.attention_norm = nn.RMSNorm(dim, eps=eps)
        self.attention = _self_attention(config)
        self.ff_norm = nn.RMSNorm(dim, eps=eps)
        self.ff = FeedForward(dim, config.encoder_ff_dim or config.ff_dim)

    def forward(self, x: Tensor, *, rope: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), rope=rope, mask=mask)
        return x + self.ff(self.ff_norm(x))


class DecoderLayer(nn.Module):
    """Causal self-attention, memory cross-attention, feed-forward. Shapes: [B, T, D] -> [B, T, D].

    ``memory`` is what ``memory_read.project`` gave for this layer, or None to run without memory.
    """

    def __init__(self, config: RxtConfig) -> None:
        super().__init__()
        dim, eps = config.embed_dim, config.norm_eps
        self.attention_norm = nn.RMSNorm(dim, eps=eps)
        self.attention = _self_attention(config)
        self.memory_norm = nn.RMSNorm(dim, eps=eps)
        self.memory_read = build_read(config)
        self.ff_norm = nn.RMSNorm(dim, eps=eps)
        self.ff = FeedForward(dim, config.ff_dim)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, ...] | None,
        *,
        rope: Tensor,
        mask: Tensor | None = None,
        causal: bool = True,
        cache: LayerCache | None = None,
    ) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, rope=rope, mask=mask, causal=causal, cache=cache)
        if memory is not None:
            x = x + self.memory_read(self.memory_norm(x), memory, rope=rope)
        return x + self.ff(self.ff_norm(x))
