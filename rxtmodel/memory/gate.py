"""Residual gates: how much of an update replaces what a slot holds."""

# Shape suffixes: L layers, B batch, S slots, D model width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..stacked import StackedLinear

if TYPE_CHECKING:
    from ..config import MemoryConfig


class ResidualGate(nn.Module):
    """Blend a memory update into the memory it was computed from.

    With ``s = old + update`` and g by kind: static ``act(w)``; elementwise ``act(w * status(s))``;
    linear ``act(W status(s) + b)``, W mixing slots; channel ``sigmoid(W [old; update] + b)``, both
    normalised, one gate for each slot and channel. ``status`` of a slot is the mean of its channels
    or a learned product with them. The blend is ``g * update + (1 - g) * old`` for sigmoid and
    ``(1 + g) * update + (1 - g) * old`` for tanh; "none" gives ``update + old``, "replace" the
    update. With one gate for a layer, w is one number, W has one row, and elementwise sees the mean
    over slots and channels.

    Shapes: old_LBSD, update_LBSD -> [L, B, S, D].

    Source: RxT, https://arxiv.org/abs/2510.03561; "channel" is ours.
    """

    def __init__(self, config: MemoryConfig, num_layers: int, embed_dim: int) -> None:
        super().__init__()
        self.kind, self.tanh = config.gate, config.gate_activation == "tanh"
        self.per_slot, slots = config.gate_per_slot, config.num_slots
        sees_slots = self.kind == "linear" or (self.kind == "elementwise" and self.per_slot)
        learned = sees_slots and config.gate_status == "linear"
        self.status = StackedLinear(num_layers, embed_dim, 1, bias=True) if learned else None
        if self.kind in ("static", "elementwise"):
            shape = (num_layers, slots, 1) if self.per_slot else (num_layers, 1)
            self.weight = nn.Parameter(torch.full(shape, config.gate_init))
        elif self.kind == "linear":
            outputs = slots if self.per_slot else 1
            self.mix = StackedLinear(num_layers, slots, outputs, bias=True)
        elif self.kind == "channel":
            self.mix = StackedLinear(num_layers, 2 * embed_dim, embed_dim, bias=True)
            nn.init.constant_(self.mix.bias, config.gate_init)
            nn.init.normal_(self.mix.weight, std=0.02)

    def forward(self, old_LBSD: Tensor, update_LBSD: Tensor) -> Tensor:
        update_LBSD = update_LBSD.to(old_LBSD.dtype)
        if self.kind == "none":
            return old_LBSD + update_LBSD
        if self.kind == "replace":
            return update_LBSD
        if self.kind == "channel":
            width = (old_LBSD.shape[-1],)
            both = torch.cat((F.rms_norm(old_LBSD, width), F.rms_norm(update_LBSD, width)), dim=-1)
            return torch.lerp(old_LBSD, update_LBSD, self.mix(both).sigmoid())
        gate = self._published_logits(old_LBSD + update_LBSD).to(old_LBSD.dtype)
        if self.tanh:
            gate = gate.tanh()
            return (1 + gate) * update_LBSD + (1 - gate) * old_LBSD
        return torch.lerp(old_LBSD, update_LBSD, gate.sigmoid())

    def _published_logits(self, both_LBSD: Tensor) -> Tensor:
        """Before the activation, [L, B, S, D]."""
        if self.kind == "linear":
            return self.mix(self._status(both_LBSD))[..., None].expand_as(both_LBSD)
        weight = self.weight[:, None] if self.per_slot else self.weight[:, None, None]
        if self.kind == "static":
            return weight.expand_as(both_LBSD)
        if self.per_slot:
            return (weight[..., 0] * self._status(both_LBSD))[..., None].expand_as(both_LBSD)
        return (weight * both_LBSD.mean((2, 3), keepdim=True)).expand_as(both_LBSD)

    def _status(self, both_LBSD: Tensor) -> Tensor:
        """What the gate sees of each slot, [L, B, S]."""
        return both_LBSD.mean(dim=-1) if self.status is None else self.status(both_LBSD)[..., 0]
