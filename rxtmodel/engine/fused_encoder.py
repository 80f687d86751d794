"""Encoding of interactions with kernels of our own between PyTorch's products, on a GPU."""

# Shape suffixes: L layers, B interactions, T tokens, D width, N heads, H head width.

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .shapes import power_of_two

if TYPE_CHECKING:
    from ..feed_forward import FeedForward
    from ..layers import PlainLayer
    from ..model import ReactiveTransformer

_PRODUCT = 2048
"""Elements of a tile that one program takes through a norm."""


class FusedEncoder:
    """``model.encode`` in eight kernels for a layer. ``support.why_not_encode`` must have found no
    reason against it. Holds a copy of the matrices of queries, keys and values as one.

    What a row gets does not depend on the other rows of its batch.
    """

    def __init__(self, model: ReactiveTransformer) -> None:
        from ..kernels import encode, sequences, wide

        self._kernels, self._attend = encode, sequences.attend_first
        self._gate_up = wide.gate_up
        self.model, self._layers = model, [cast("PlainLayer", layer) for layer in model.encoder]
        self._eps = model.config.encoder_stack.norm_eps or torch.finfo(torch.float32).eps
        self._joined = [
            torch.cat([p.weight.data for p in (own.q_proj, own.k_proj, own.v_proj)])
            for own in (layer.attention for layer in self._layers)
        ]
        self._rope = model.rope if model.encoder_rope is None else model.encoder_rope
        self._turned = not model.config.encoder_stack.nope

    def __call__(self, ids_BT: Tensor, lengths_B: Tensor, out_LBTD: Tensor) -> None:
        """Every layer's output, of the first ``lengths_B`` tokens of each row."""
        model, lengths_B = self.model, lengths_B.int()
        x = (model.encoder_embedding or model.embedding)(ids_BT).flatten(0, 1)
        out = out_LBTD.flatten(1, 2)
        normed = self._norm(x, None, x, self._layers[0].attention_norm.weight)
        for index, layer in enumerate(self._layers):
            mixed = self._mix(index, layer, normed, ids_BT.shape, lengths_B)
            between = torch.empty_like(x)
            normed = self._norm(x, mixed, between, layer.ff_norm.weight)
            fed = self._feed(cast("FeedForward", layer.ff), normed)
            after = self._layers[index + 1 :][:1]
            x, before = out[index], between
            normed = self._norm(before, fed, x, *(later.attention_norm.weight for later in after))

    def _mix(
        self, index: int, layer: PlainLayer, normed: Tensor, shape: torch.Size, lengths_B: Tensor
    ) -> Tensor:
        own, (batch, length) = layer.attention, shape
        joined = F.linear(normed, self._joined[index])
        queries, keys, head = own.num_query_heads, own.num_kv_heads, own.head_dim
        if self._turned:
            turned = (queries + keys) * head
            self._kernels.turn(joined, self._rope, joined, length, turned, head)
        parts = joined.view(batch, length, -1, head).transpose(1, 2)
        q, k, v = parts.split((queries, keys, keys), dim=1)
        mixed = self._attend(q, k, v, lengths_B).transpose(1, 2).reshape(batch * length, -1)
        return F.linear(mixed, own.out_proj.weight, own.out_proj.bias)

    def _feed(self, ff: FeedForward, normed: Tensor) -> Tensor:
        assert ff.gate_up is not None
        inner = self._gate_up(normed, ff.gate_up.weight, ff.gate_up.bias)
        return F.linear(inner, ff.down.weight, ff.down.bias)

    def _norm(
        self, x: Tensor, y: Tensor | None, into: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """``x + y`` to ``into``; normalised, returned."""
        count, width = x.shape
        out = torch.empty_like(x) if weight is not None else x
        tile = max(1, _PRODUCT // power_of_two(width))
        self._kernels.add_norm[(-(-count // tile),)](
            x, x if y is None else y, into, x if weight is None else weight, out, count, self._eps,
            D=width, ADD=y is not None, NORM=weight is not None, R=tile,
            DP=power_of_two(width), num_warps=4,
        )  # fmt: skip
        return out
