"""Residual gates: how much of an update replaces what a slot holds."""

# Shape suffixes: L layers, B batch, S slots, D model width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .stacked import StackedLinear

if TYPE_CHECKING:
    from ..config import MemoryConfig


class ResidualGate(nn.Module):
    """Blend a memory update into the memory it was computed from.

    With ``s = old + update`` and g by kind: static ``act(w)``; elementwise ``act(w * mean_D(s))``;
    linear ``act(W mean_D(s) + b)``, W mixing slots; channel ``sigmoid(W [old; update] + b)``, both
    normalised, one gate for each slot and channel. The blend is ``g * update + (1 - g) * old`` for
    sigmoid and ``(1 + g) * update + (1 - g) * old`` for tanh; "none" gives ``update + old``.

    Shapes: old_LBSD, update_LBSD -> [L, B, S, D].

    Source: RxT, https://arxiv.org/abs/2510.03561; "channel" is ours.
    """

    def __init__(self, config: MemoryConfig, num_layers: int, embed_dim: int) -> None:
        super().__init__()
        self.kind, self.tanh = config.gate, config.gate_activation == "tanh"
        slots = config.num_slots
        if self.kind in ("static", "elementwise"):
            self.weight = nn.Parameter(torch.full((num_layers, slots, 1), config.gate_init))
        elif self.kind == "linear":
            self.mix = StackedLinear(num_layers, slots, slots, bias=True)
        elif self.kind == "channel":
            self.mix = StackedLinear(num_layers, 2 * embed_dim, embed_dim, bias=True)
            nn.init.constant_(self.mix.bias, config.gate_init)
            nn.init.normal_(self.mix.weight, std=0.02)

    def forward(self, old_LBSD: Tensor, update_LBSD: Tensor) -> Tensor:
        if self.kind == "none":
            return old_LBSD + update_LBSD
        if self.kind == "channel":
            width = (old_LBSD.shape[-1],)
            both = torch.cat((F.rms_norm(old_LBSD, width), F.rms_norm(update_LBSD, width)), dim=-1)
            return torch.lerp(old_LBSD, update_LBSD, self.mix(both).sigmoid())
        gate = self._published_logits(old_LBSD + update_LBSD)
        if self.tanh:
            gate = gate.tanh()
            return (1 + gate) * update_LBSD + (1 - gate) * old_LBSD
        return torch.lerp(old_LBSD, update_LBSD, gate.sigmoid())

    def _published_logits(self, both_LBSD: Tensor) -> Tensor:
        if self.kind == "static":
            return self.weight[:, None].expand_as(both_LBSD)
        status_LBS = both_LBSD.mean(dim=-1)
        if self.kind == "elementwise":
            return (self.weight[:, None, :, 0] * status_LBS)[..., None].expand_as(both_LBSD)
        return self.mix(status_LBS)[..., None].expand_as(both_LBSD)
