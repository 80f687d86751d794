"""Attention of all layers of a memory at once."""

# Shape suffixes: L layers, B batch, S slots or queries, T tokens or keys, D model width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..backends.sdpa import sdpa
from ..feed_forward import ACTIVATIONS
from ..rope import rotate
from ..stacked import StackedLinear, StackedRMSNorm

if TYPE_CHECKING:
    from ..backends import Kernel
    from ..config import AttentionConfig


class StackedAttention(nn.Module):
    """Multi-head attention of every layer's slots over that layer's keys.

    Args:
        config: head counts, as those of ``Attention``.
        null_key: one learned key with zero value, so that a query can attend to nothing.

    Shapes: q_LBSD, kv_LBTD -> [L, B, S, D]; mask_BT is True where a key exists.
    """

    def __init__(
        self,
        num_layers: int,
        embed_dim: int,
        config: AttentionConfig,
        head_dim: int,
        *,
        null_key: bool = False,
        norm_eps: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.head_dim, self.dropout = head_dim, dropout
        self.copies = max(1, config.num_kv_heads // config.num_query_heads)
        self.kernel: Kernel = sdpa
        layers, inner = num_layers, config.num_output_heads * head_dim
        self.q_proj = StackedLinear(layers, embed_dim, config.num_query_heads * head_dim)
        self.k_proj = StackedLinear(layers, embed_dim, config.num_kv_heads * head_dim)
        self.v_proj = StackedLinear(layers, embed_dim, config.num_kv_heads * head_dim)
        self.out_proj = StackedLinear(layers, inner, embed_dim, bias=config.output_bias)
        self.gate_proj: StackedLinear | None = None
        if config.output_gate != "none":
            self.gate_proj = StackedLinear(layers, embed_dim, inner)
            self.gate_act = ACTIVATIONS[config.output_gate]
            nn.init.normal_(self.gate_proj.weight, 1.0, 0.01)
        self.q_norm = StackedRMSNorm(layers, head_dim, norm_eps) if config.qk_norm else None
        self.k_norm = StackedRMSNorm(layers, head_dim, norm_eps) if config.qk_norm else None
        self.null_key = (
            nn.Parameter(torch.zeros(layers, config.num_kv_heads, head_dim)) if null_key else None
        )

    def forward(
        self,
        q_LBSD: Tensor,
        kv_LBTD: Tensor,
        *,
        rope_k: Tensor | None = None,
        mask_BT: Tensor | None = None,
    ) -> Tensor:
        layers, batch, length, _ = kv_LBTD.shape
        q = self._heads(self.q_proj(q_LBSD))
        k, v = self._heads(self.k_proj(kv_LBTD)), self._heads(self.v_proj(kv_LBTD))
        if self.q_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rope_k is not None:
            k = rotate(k, rope_k)
        mask = None
        if mask_BT is not None:
            mask = mask_BT[None, :, None, None, :].expand(layers, batch, 1, 1, length)
        if self.null_key is not None:
            null = self.null_key[:, None, :, None].to(k.dtype).expand(layers, batch, -1, 1, -1)
            k, v = torch.cat((k, null), dim=3), torch.cat((v, torch.zeros_like(null)), dim=3)
            if mask is not None:
                mask = F.pad(mask, (0, 1), value=True)
        if mask is not None:
            mask = mask.reshape(layers * batch, 1, 1, -1)
        if self.copies > 1:
            q = q.repeat(1, 1, self.copies, 1, 1)
        dropout = self.dropout if self.training else 0.0
        out = self.kernel(
            q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), mask=mask, dropout=dropout
        )
        out = out.transpose(1, 2).flatten(2).unflatten(0, (layers, batch))
        if self.gate_proj is not None:
            out = out * self.gate_act(self.gate_proj(q_LBSD))
        return self.out_proj(out)

    def _heads(self, x_LBTD: Tensor) -> Tensor:
        return x_LBTD.unflatten(-1, (-1, self.head_dim)).transpose(2, 3)
