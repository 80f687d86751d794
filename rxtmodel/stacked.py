"""Maps that do not depend on each other: one batched product serves them all."""

# Shape suffixes: L layers or experts, D model width.

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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

    def __init__(self, num_layers: int, dim: int, eps: float | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_layers, dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight.view(self.weight.shape[0], *(1,) * (x.dim() - 2), -1)
        return F.rms_norm(x, (x.shape[-1],), eps=self.eps) * scale.to(x.dtype)
