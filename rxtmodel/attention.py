"""One attention for all head counts: MHA, GQA, MQA, SQA, self or cross."""

# Shape suffixes: B batch, T query tokens, K keys, D model width, N query heads, G kv heads,
# H head width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .rope import rotate

if TYPE_CHECKING:
    from .cache import LayerCache


class Attention(nn.Module):
    """Scaled dot-product attention with ``num_query_heads`` and ``num_kv_heads`` of ``head_dim``.

    Fewer query heads than ``embed_dim / head_dim`` make it sparse-query attention: the products
    shrink in proportion.

    Args:
        embed_dim: D, width of input and output.
        num_query_heads, num_kv_heads: N and G; query head n reads kv head n // (N / G).

    Source: SQA, https://arxiv.org/abs/2510.01817.
    """

    def __init__(
        self, embed_dim: int, num_query_heads: int, num_kv_heads: int, head_dim: int
    ) -> None:
        super().__init__()
        self.num_query_heads, self.num_kv_heads = num_query_heads, num_kv_heads
        self.head_dim = head_dim
        self.q_proj = nn.Linear(embed_dim, num_query_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(embed_dim, num_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(embed_dim, num_kv_heads * head_dim, bias=False)
        self.out_proj = nn.Linear(num_query_heads * head_dim, embed_dim, bias=False)
        self.joined: Tensor | None = None
        """The three weights as one, of which they are views; see ``layout.arrange``."""

    def project_kv(self, kv_BKD: Tensor, rope: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, K, H] of what is attended to."""
        batch, length, _ = kv_BKD.shape
        shape = (batch, length, self.num_kv_heads, self.head_dim)
        k_BGKH = self.k_proj(kv_BKD).view(shape).transpose(1, 2)
        v_BGKH = self.v_proj(kv_BKD).view(shape).transpose(1, 2)
        return (k_BGKH if rope is None else rotate(k_BGKH, rope)), v_BGKH

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
        if rope is not None:
            q_BNTH = rotate(q_BNTH, rope)
        return self._mix(q_BNTH, kv, mask, causal)

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
        if rope is not None:
            qk = rotate(qk, rope)
        kv = cache.append(qk[:, self.num_query_heads :], v_BGTH)
        return self._mix(qk[:, : self.num_query_heads], kv, mask, causal)

    def _mix(
        self, q_BNTH: Tensor, kv: tuple[Tensor, Tensor], mask: Tensor | None, causal: bool
    ) -> Tensor:
        k_BGKH, v_BGKH = kv
        out_BNTH = F.scaled_dot_product_attention(
            q_BNTH,
            k_BGKH,
            v_BGKH,
            attn_mask=mask,
            is_causal=causal,
            enable_gqa=self.num_query_heads != self.num_kv_heads,
        )
        return self.out_proj(out_BNTH.transpose(1, 2).flatten(2))

    def _project(self, x_BTD: Tensor) -> Tensor:
        """Queries, keys and values [B, T, (N + G + G) H]."""
        weights = (self.q_proj.weight, self.k_proj.weight, self.v_proj.weight)
        if self.joined is not None and _in_rows(weights, self.joined):
            return F.linear(x_BTD, self.joined)
        return torch.cat([F.linear(x_BTD, weight) for weight in weights], dim=-1)


def _in_rows(weights: tuple[Tensor, ...], joined: Tensor) -> bool:
    """Whether frozen ``weights`` are the rows of ``joined``: then it cannot hold other values."""
    place, row = joined.data_ptr(), joined.stride(0) * joined.element_size()
    for weight in weights:
        if weight.requires_grad or weight.data_ptr() != place:
            return False
        place += row * len(weight)
    return True
