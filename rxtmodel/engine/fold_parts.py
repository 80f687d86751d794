"""What memory updates by kernels of our own are given: gates, matrices, and where things lie."""

# Shape suffixes: L layers, B memories, D width, G kv heads, H head width.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..layers import DecoderLayer
    from ..memory.stacked import StackedAttention
    from ..model import ReactiveTransformer
    from .pool import MemoryPool

UNIT = 16
"""Bytes in which places are counted."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A residual gate as kernels take it."""

    kind: int
    tanh: bool
    numbers: Tensor
    strides: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Read:
    """What the decoder's layers make of a memory, of all of them at once."""

    norm: Tensor
    slot_ids: Tensor | None
    weight: Tensor
    slab: Tensor
    at: Tensor

    @classmethod
    def of(cls, model: ReactiveTransformer, pool: MemoryPool) -> Read:
        reads = [cast("DecoderLayer", layer).memory_read for layer in model.decoder]
        keys = [torch.cat((r.attention.k_proj.weight, r.attention.v_proj.weight)) for r in reads]
        ids = None if reads[0].slot_ids is None else torch.stack([r.slot_ids for r in reads])
        slab = pool.layers[0][0]
        at = [[place(part, slab) for part in layer] for layer in pool.layers]
        return cls(
            torch.stack([r.norm.weight for r in reads]),
            ids,
            torch.stack(keys).transpose(1, 2).contiguous(),
            slab,
            torch.tensor(at, device=slab.device),
        )


def joined(attention: StackedAttention) -> Tensor:
    """Keys and values of all layers in one matrix each, [L, D, 2 G H]."""
    return torch.cat((attention.k_proj.weight, attention.v_proj.weight), dim=2)


def place(tensor: Tensor, base: Tensor) -> int:
    return (tensor.data_ptr() - base.data_ptr()) // UNIT


def aligned(memory: Tensor) -> Tensor:
    if memory.is_contiguous() and memory.data_ptr() % UNIT == 0:
        return memory
    return memory.clone(memory_format=torch.contiguous_format)
