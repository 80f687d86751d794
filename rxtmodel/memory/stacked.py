"""Layers of memory attention do not depend on each other: one batched product serves them all."""

# Shape suffixes: L layers, B batch, S slots or queries, T tokens or keys, D model width.

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rope import rotate


class StackedLinear(nn.Module):
    """``num_layers`` independent linear maps, [L, ..., in] -> [L, ..., out]."""

    def __init__(self, num_layers: int, in_dim: int, out_dim: int, *, bias: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_layers, in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(num_layers, out_dim)) if bias else None
        nn.init.normal_(self.weight, std=1 / math.sqrt(in_dim))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(x.shape[0], -1, x.shape[-1])
        out = torch.bmm(flat, self.weight.to(flat.dtype))
        if self.bias is not None:
            out = out + self.bias[:, None].to(out.dtype)
        return out.view(*x.shape[:-1], -1)


class StackedRMSNorm(nn.Module):
    """Root-mean-square norm over D with a scale for each layer, [L, ..., D]."""

    def __init__(self, num_layers: int, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_layers, dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.view(self.weight.shape[0], *(1,) * (x.dim() - 2), -1)
        return F.rms_norm(x, (x.shape[-1],), eps=self.eps) * scale.to(x.dtype)


class StackedAttention(nn.Module):
    """Multi-head attention of every layer's slots over that layer's keys.

    Args:
        null_key: one learned key with zero value, so that a query can attend to nothing.

    Shapes: q_LBSD, kv_LBTD -> [L, B, S, D]; mask_BT is True where a key exists.
    """

    def __init__(
        self, num_layers: int, embed_dim: int, num_heads: int, *, null_key: bool = False
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = StackedLinear(num_layers, embed_dim, embed_dim)
        self.k_proj = StackedLinear(num_layers, embed_dim, embed_dim)
        self.v_proj = StackedLinear(num_layers, embed_dim, embed_dim)
        self.out_proj = StackedLinear(num_layers, embed_dim, embed_dim)
        head_dim = embed_dim // num_heads
        self.null_key = (
            nn.Parameter(torch.zeros(num_layers, num_heads, head_dim)) if null_key else None
        )

    def forward(
        self,
        q_LBSD: Tensor,
        kv_LBTD: Tensor,
        *,
        rope_k: Tensor | None = None,
        mask_BT: Tensor | None = None,
    ) -> Tensor:
        layers, batch, length, width = kv_LBTD.shape
        q = self._heads(self.q_proj(q_LBSD))
        k, v = self._heads(self.k_proj(kv_LBTD)), self._heads(self.v_proj(kv_LBTD))
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
        out = F.scaled_dot_product_attention(
            q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), attn_mask=mask
        )
        out = out.transpose(1, 2).reshape(layers, batch, -1, width)
        return self.out_proj(out)

    def _heads(self, x_LBTD: Tensor) -> Tensor:
        return x_LBTD.unflatten(-1, (self.num_heads, -1)).transpose(2, 3)
