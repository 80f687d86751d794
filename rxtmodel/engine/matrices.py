"""What a decoder's steps multiply with: matrices with the norm before them in their numbers."""

# Shape suffixes: N outputs, K inner width, V vocabulary, D width.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..feed_forward import FeedForward

if TYPE_CHECKING:
    from ..layers import DecoderLayer
    from ..model import ReactiveTransformer


@dataclass(frozen=True)
class LayerMatrices:
    """Of one layer, each [N, K]: queries, keys and values of its own attention; queries of its
    reading of memory; gate and up. The others are the model's own."""

    own: Tensor
    own_out: nn.Linear
    read: Tensor
    read_out: nn.Linear
    gate_up: Tensor
    gate_up_bias: Tensor | None
    down: nn.Linear

    @classmethod
    def of(cls, layer: DecoderLayer) -> LayerMatrices:
        own, read, ff = layer.attention, layer.memory_read.attention, layer.ff
        joined = torch.cat([p.weight.data for p in (own.q_proj, own.k_proj, own.v_proj)])
        assert isinstance(ff, FeedForward) and ff.gate_up is not None
        return cls(
            own=_behind(layer.attention_norm, joined),
            own_out=own.out_proj,
            read=_behind(layer.memory_norm, read.q_proj.weight),
            read_out=read.out_proj,
            gate_up=_behind(layer.ff_norm, ff.gate_up.weight),
            gate_up_bias=ff.gate_up.bias,
            down=ff.down,
        )

    def in_order(self) -> list[Tensor]:
        """As a step takes them."""
        return [
            self.own, self.own_out.weight, self.read, self.read_out.weight, self.gate_up,
            self.down.weight,
        ]  # fmt: skip

    def biases(self) -> list[Tensor]:
        """In float32 and in the same order, zeros where there is none; queries have none."""
        given = (self.own_out.bias, self.read_out.bias, self.gate_up_bias, self.down.bias)
        widths = (self.own_out, self.read_out, None, self.down)
        return [
            self.gate_up.new_zeros(
                len(self.gate_up) if linear is None else linear.out_features, dtype=torch.float32
            )
            if bias is None
            else bias.float()
            for bias, linear in zip(given, widths, strict=True)
        ]


def head_of(model: ReactiveTransformer) -> Tensor:
    """The head's matrix [V, D], the last norm's weight in it."""
    weight = model.embedding.weight if model.head is None else model.head.weight
    return weight if model.final_norm is None else _behind(model.final_norm, weight)


def _behind(norm: nn.Module, weight: Tensor) -> Tensor:
    return (weight.float() * norm.weight.float()).to(weight.dtype).contiguous()
