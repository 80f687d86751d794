"""Layers, pre-norm: without a memory, and with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from .attention import Attention
from .experts import Balance, Experts
from .feed_forward import FeedForward, build_dense
from .memory import build_read
from .norms import build_norm

if TYPE_CHECKING:
    from .cache import LayerCache
    from .config import RxtConfig, StackConfig


def _self_attention(config: StackConfig, embed_dim: int) -> Attention:
    return Attention.of(
        config.attention,
        embed_dim,
        config.head_dim,
        norm_eps=config.norm_eps,
        dropout=config.attention_dropout,
    )


class PlainLayer(nn.Module):
    """Self-attention and feed-forward: an encoder's layer, or a causal one that reads no memory.

    Args:
        dense_dim: width of a dense feed-forward; None: experts where ``config`` has them.

    Shapes: [B, T, D] -> [B, T, D].
    """

    def __init__(
        self, config: StackConfig, embed_dim: int, *, dense_dim: int | None = None
    ) -> None:
        super().__init__()
        dim, eps = embed_dim, config.norm_eps
        self.attention_norm = build_norm(config.norm, dim, eps)
        self.attention = _self_attention(config, dim)
        self.ff_norm = build_norm(config.norm, dim, eps)
        self.ff = _feed_forward(config, dim, dense_dim)

    def forward(
        self,
        x: Tensor,
        *,
        rope: Tensor | None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: LayerCache | None = None,
        balance: Balance | None = None,
    ) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, rope=rope, mask=mask, causal=causal, cache=cache)
        return x + _feed(self.ff, self.ff_norm(x), balance)


class DecoderLayer(nn.Module):
    """Causal self-attention, memory cross-attention, feed-forward. Shapes: [B, T, D] -> [B, T, D].

    ``memory`` is what ``memory_read.project`` gave for this layer, or None to run without memory.
    """

    def __init__(self, config: RxtConfig) -> None:
        super().__init__()
        dim, eps = config.embed_dim, config.norm_eps
        self.attention_norm = build_norm(config.norm, dim, eps)
        self.attention = _self_attention(config, dim)
        self.memory_norm = build_norm(config.norm, dim, eps)
        self.memory_read = build_read(config)
        self.ff_norm = build_norm(config.norm, dim, eps)
        self.ff = _feed_forward(config, dim, None)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, ...] | None,
        *,
        rope: Tensor | None,
        mask: Tensor | None = None,
        causal: bool = True,
        cache: LayerCache | None = None,
        balance: Balance | None = None,
    ) -> Tensor:
        normed = self.attention_norm(x)
        x = x + self.attention(normed, rope=rope, mask=mask, causal=causal, cache=cache)
        if memory is not None:
            x = x + self.memory_read(self.memory_norm(x), memory, rope=rope)
        return x + _feed(self.ff, self.ff_norm(x), balance)


def _feed_forward(config: StackConfig, dim: int, dense_dim: int | None) -> FeedForward | Experts:
    if config.experts is not None and dense_dim is None:
        return Experts(config, dim)
    return build_dense(config, dim, dense_dim or config.ff_dim)


def _feed(ff: FeedForward | Experts, x: Tensor, balance: Balance | None) -> Tensor:
    return ff(x, balance) if isinstance(ff, Experts) else ff(x)
