"""One attention for all head counts: MHA, GQA, MQA, SQA and reversed, self or cross."""

# Shape suffixes: B batch, T query tokens, K keys, D model width, N query heads, G kv heads,
# H head width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .backends.sdpa import sdpa
from .feed_forward import ACTIVATIONS
from .linear import Int8, Linear, linear, linear_of
from .rope import rotate

if TYPE_CHECKING:
    from .backends import Kernel
    from .cache import LayerCache
    from .config import AttentionConfig
    from .rope import Rotate

_OPEN = 1.0, 0.01
"""Mean and deviation of a new output gate's weights, as published."""


class Attention(nn.Module):
    """Softmax attention with ``num_query_heads`` and ``num_kv_heads`` of ``head_dim``.

    Fewer query heads than ``embed_dim / head_dim`` make it sparse-query attention: the products
    shrink in proportion.

    Args:
        embed_dim: D, width of input and output.
        num_query_heads, num_kv_heads: N and G. Query head n reads kv head n // (N / G); with more
            kv heads than query heads, kv head g is read by query head g mod N.
        output_gate: activation of the gate ``act(W x)`` on what was attended to, or "none".
        qk_norm: RMSNorm over each head of queries and keys, before RoPE.

    Source: SQA, https://arxiv.org/abs/2510.01817.
    """

    def __init__(
        self,
        embed_dim: int,
        num_query_heads: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        output_bias: bool = False,
        output_gate: str = "none",
        qk_norm: bool = False,
        norm_eps: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_query_heads, self.num_kv_heads = num_query_heads, num_kv_heads
        self.head_dim, self.dropout = head_dim, dropout
        self.copies = max(1, num_kv_heads // num_query_heads)
        """Times that each query head is used; more than once in the reversed form."""
        self.kernel: Kernel = sdpa
        self.rotate: Rotate = rotate
        inner = max(num_query_heads, num_kv_heads) * head_dim
        self.q_proj = Linear(embed_dim, num_query_heads * head_dim, bias=False)
        self.k_proj = Linear(embed_dim, num_kv_heads * head_dim, bias=False)
        self.v_proj = Linear(embed_dim, num_kv_heads * head_dim, bias=False)
        self.out_proj = Linear(inner, embed_dim, bias=output_bias)
        self.gate_proj: nn.Linear | None = None
        if output_gate != "none":
            self.gate_proj = Linear(embed_dim, inner, bias=False)
            self.gate_act = ACTIVATIONS[output_gate]
        self.q_norm = nn.RMSNorm(head_dim, eps=norm_eps) if qk_norm else None
        self.k_norm = nn.RMSNorm(head_dim, eps=norm_eps) if qk_norm else None
        self.joined: Tensor | None = None
        """The three weights as one, of which they are views; see ``layout.arrange``."""
        self.joined_int8: Int8 | None = None

    @classmethod
    def of(
        cls,
        config: AttentionConfig,
        embed_dim: int,
        head_dim: int,
        *,
        norm_eps: float | None = None,
        dropout: float = 0.0,
    ) -> Attention:
        """The attention of a configuration."""
        return cls(
            embed_dim,
            config.num_query_heads,
            config.num_kv_heads,
            head_dim,
            output_bias=config.output_bias,
            output_gate=config.output_gate,
            qk_norm=config.qk_norm,
            norm_eps=norm_eps,
            dropout=dropout,
        )

    def open_gate(self) -> None:
        """First values of the output gate, as published."""
        if self.gate_proj is not None:
            nn.init.normal_(self.gate_proj.weight, *_OPEN)

    def project_kv(self, kv_BKD: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, K, H] of what is attended to."""
        batch, length, _ = kv_BKD.shape
        shape = (batch, length, self.num_kv_heads, self.head_dim)
        k_BGKH = self.k_proj(kv_BKD).view(shape).transpose(1, 2)
        v_BGKH = self.v_proj(kv_BKD).view(shape).transpose(1, 2)
        if self.k_norm is not None:
            k_BGKH = self.k_norm(k_BGKH)
        return (k_BGKH if rope is None else self.rotate(k_BGKH, rope)), v_BGKH

    def attend(
        self,
        x_BTD: Tensor,
        kv: tuple[Tensor, Tensor],
        *,
        rope: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Attend from ``x_BTD`` to projected keys and values. ``mask``: True where attended."""
        batch, length, _ = x_BTD.shape
        q_BNTH = self.q_proj(x_BTD).view(batch, length, self.num_query_heads, self.head_dim)
        q_BNTH = q_BNTH.transpose(1, 2)
        if self.q_norm is not None:
            q_BNTH = self.q_norm(q_BNTH)
        if rope is not None:
            q_BNTH = self.rotate(q_BNTH, rope)
        return self._mix(x_BTD, q_BNTH, kv, mask, causal)

    def forward(
        self,
        x_BTD: Tensor,
        *,
        rope: Tensor | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Self-attention; with ``cache``, new keys and values are appended, all are attended to."""
        if cache is None:
            kv = self.project_kv(x_BTD, rope)
            return self.attend(x_BTD, kv, rope=rope, mask=mask, causal=causal)
        batch, length, _ = x_BTD.shape
        # Queries, keys and values in one product, queries and keys turned together: a decoded token
        # is bound by the number of operators as much as by their work.
        parts = self._project(x_BTD).view(batch, length, -1, self.head_dim).transpose(1, 2)
        turned = self.num_query_heads + self.num_kv_heads
        qk, v_BGTH = parts[:, :turned], parts[:, turned:]
        if self.q_norm is not None:
            q, k = qk.split((self.num_query_heads, self.num_kv_heads), dim=1)
            qk = torch.cat((self.q_norm(q), self.k_norm(k)), dim=1)
        if rope is not None:
            qk = self.rotate(qk, rope)
        kv = cache.append(qk[:, self.num_query_heads :], v_BGTH)
        return self._mix(x_BTD, qk[:, : self.num_query_heads], kv, mask, causal)

    def _mix(
        self,
        x_BTD: Tensor,
        q_BNTH: Tensor,
        kv: tuple[Tensor, Tensor],
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        if self.copies > 1:
            q_BNTH = q_BNTH.repeat(1, self.copies, 1, 1)
        dropout = self.dropout if self.training else 0.0
        out_BNTH = self.kernel(q_BNTH, *kv, mask=mask, causal=causal, dropout=dropout)
        out = out_BNTH.transpose(1, 2).flatten(2)
        if self.gate_proj is not None:
            out = out * self.gate_act(self.gate_proj(x_BTD))
        return self.out_proj(out)

    def _project(self, x_BTD: Tensor) -> Tensor:
        """Queries, keys and values [B, T, (N + G + G) H]."""
        weights = (self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        if self.joined is not None and _in_rows(weights, self.joined):
            return linear_of(x_BTD, self.joined, self.joined_int8)
        return torch.cat([linear(x_BTD, weight) for weight in weights], dim=-1)


def _in_rows(weights: tuple[Tensor, ...], joined: Tensor) -> bool:
    """Whether frozen ``weights`` are the rows of ``joined``: then it cannot hold other values."""
    place, row = joined.data_ptr(), joined.stride(0) * joined.element_size()
    for weight in weights:
        if weight.requires_grad or weight.data_ptr() != place:
            return False
        place += row * len(weight)
    return True
