"""Reading of queries by the kernels of steps, eight for a layer."""

# Shape suffixes: B queries, T tokens of each, N tokens in all, H head width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .fused_layers import FusedLayers, Scratch, Tokens
from .shapes import shape_of_queries

if TYPE_CHECKING:
    from torch import Tensor

    from ..attention import Attention
    from .pool import MemoryPool
    from .rows import DeviceRows


class FusedRead:
    """As ``PlainStep.read``, for models that ``FusedStep`` can run."""

    def __init__(self, layers: FusedLayers, rows: DeviceRows, pool: MemoryPool) -> None:
        from ..kernels.sequences import attend_causal, attend_first

        self._causal, self._first = attend_causal, attend_first
        self.layers, self.rows, self.pool = layers, rows, pool

    def __call__(self, ids_BT: Tensor, index_B: Tensor, slots_B: Tensor) -> None:
        """Keys and values of queries into their rows."""
        layers, model, (batch, length) = self.layers, self.layers.model, ids_BT.shape
        count, device = batch * length, ids_BT.device
        places_N = torch.arange(count, device=device, dtype=torch.int32)
        index_B, slots_B = index_B.contiguous(), slots_B.contiguous()  # columns of what is given
        # Flattening alone may leave a view of one number where there is one query.
        order_N = index_B.int()[:, None].expand(batch, length).contiguous().flatten()
        tokens = Tokens(
            Scratch.of(model, count), order_N, places_N % length, count, each=True,
            shape=shape_of_queries,
        )  # fmt: skip
        layers.embed(tokens, places_N, ids_BT.flatten())
        for index, layer in enumerate(model.decoder):
            own, read = layer.attention, layer.memory_read.attention  # type: ignore[union-attr]
            k, v = self.rows.k[index], self.rows.v[index]
            layers.project(tokens, index, k, v, own=True)
            if index + 1 == len(model.decoder):
                return  # what comes after the last keys and values is for nobody
            k, v = k[:, :, :length], v[:, :, :length]
            mixed = self._causal(self._queries(tokens, own, batch), k, v, index_B)
            layers.add(tokens, mixed.transpose(1, 2), own.out_proj)
            layers.project(tokens, index, k, v, own=False)
            k, v = self.pool.layers[index]
            mixed = self._first(self._queries(tokens, read, batch), k, v, None, slots_B)
            layers.add(tokens, mixed.transpose(1, 2), read.out_proj)
            layers.feed(tokens, index)

    @staticmethod
    def _queries(tokens: Tokens, attention: Attention, batch: int) -> Tensor:
        """[B, N, T, H]. They lie in the scratch memory as if it were no wider than they are."""
        heads, count = attention.num_query_heads, len(tokens.order_N)
        lying = tokens.scratch.q.flatten()[: count * heads * attention.head_dim]
        return lying.view(batch, count // batch, heads, attention.head_dim).transpose(1, 2)
