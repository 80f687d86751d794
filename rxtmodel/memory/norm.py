"""Norms of the slots of a memory, in the published forms."""

# Shape suffixes: L layers, B batch, S slots, D model width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..norms import LAYER_NORM_EPS
from ..stacked import StackedRMSNorm

if TYPE_CHECKING:
    from ..config import MemoryConfig

_EPS = 1e-6


class GatedMemoryNorm(nn.Module):
    """``g * y + (1 - g) * x`` with ``g = sigmoid(gate)``; y by kind, r the root mean square of x:

    - ``rms``: ``y = x / sqrt(r + eps) * scale``. The root is taken twice: so it was published.
    - ``adaptive``: in training r is a running mean over everything, else that of each slot.
    - ``positional``: r is a running mean for each slot, in training and after; scale and gate are
      each slot's own.
    - ``layer``: ``y = LayerNorm(x) * scale``.

    Shapes: [L, B, S, D] -> the same.
    """

    ema: Tensor | None

    def __init__(self, config: MemoryConfig, num_layers: int, embed_dim: int) -> None:
        super().__init__()
        self.kind, self.decay = config.norm, config.norm_decay
        positional = self.kind == "positional"
        slots, layers = config.num_slots, num_layers
        gate = (layers, slots, 1) if positional else (layers, 1)
        self.gate = nn.Parameter(torch.full(gate, config.norm_gate_init))
        by_slot = positional and not config.norm_per_dim_scale
        self.scale = nn.Parameter(
            torch.ones((layers, slots, 1) if by_slot else (layers, embed_dim))
        )
        if positional:
            nn.init.normal_(self.scale, 1.0, 0.1)
        ema = None
        if self.kind == "adaptive":
            ema = torch.ones(layers, 1)
        elif positional:
            ema = torch.ones(layers, slots, 1)
        self.register_buffer("ema", ema)
        layer = self.kind == "layer"
        self.weight = nn.Parameter(torch.ones(layers, embed_dim)) if layer else None
        self.bias = nn.Parameter(torch.zeros(layers, embed_dim)) if layer else None

    def forward(self, x_LBSD: Tensor) -> Tensor:
        if self.kind == "layer":
            y = F.layer_norm(x_LBSD, x_LBSD.shape[-1:], eps=LAYER_NORM_EPS)
            y = y * self.weight[:, None, None] + self.bias[:, None, None]
        else:
            y = x_LBSD / (self._root(x_LBSD) + _EPS).sqrt()
        gate = self._spread(self.gate).sigmoid()
        return gate * (y * self._spread(self.scale)) + (1 - gate) * x_LBSD

    def _root(self, x_LBSD: Tensor) -> Tensor:
        root_LBS1 = x_LBSD.square().mean(-1, keepdim=True).sqrt()
        if self.ema is None:
            return root_LBS1
        if self.training:
            own = root_LBS1.detach().mean(1)
            own = own if self.kind == "positional" else own.mean(1)
            if len(self.ema) == 1:  # one norm for what every layer sees
                own = own.mean(0, keepdim=True)
            with torch.no_grad():
                self.ema.lerp_(own, 1 - self.decay)
        elif self.kind == "adaptive":
            return root_LBS1
        return self._spread(self.ema.clone())

    @staticmethod
    def _spread(part: Tensor) -> Tensor:
        """A parameter of each layer, [L, S, 1] or [L, D or 1], over batch and slots."""
        return part[:, None] if part.dim() == 3 else part[:, None, None]


def build_memory_norm(
    config: MemoryConfig, num_layers: int, embed_dim: int, eps: float | None
) -> nn.Module:
    """The norm of the slots of ``num_layers`` layers."""
    if config.norm == "classic-rms":
        return StackedRMSNorm(num_layers, embed_dim, eps)
    return GatedMemoryNorm(config, num_layers, embed_dim)
