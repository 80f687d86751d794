"""A model's weights and sizes, told to C."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

from ..linear import Int8
from ..memory import DeltaRead
from . import structs
from .structs import LANES

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..attention import Attention
    from ..config import StackConfig
    from ..model import ReactiveTransformer
    from .structs import Kept


def describe_layer(
    keep: Kept,
    out: structs.Layer,
    layer: nn.Module,
    kv: tuple[Tensor, Tensor],
    *,
    memory: bool = True,
) -> None:
    """Fill in one layer, with its keys and values of all rows; where its memory is comes later.

    Without ``memory`` the layer reads none, also if it could.
    """
    attention, ff = layer.attention, layer.ff
    out.attention_norm = keep(layer.attention_norm.weight)
    out.qkv = keep.product(*_joined(attention))
    out.out = keep.product(attention.out_proj.weight, attention.out_proj.int8)
    out.k, out.v = keep(kv[0]), keep(kv[1])
    out.ff_norm = keep(layer.ff_norm.weight)
    out.gate_up = keep.product(ff.gate_up.weight, ff.gate_up.int8)
    out.down = keep.product(ff.down.weight, ff.down.int8)
    out.ff_dim = ff.down.in_features
    read = getattr(layer, "memory_read", None)
    if read is None or not memory:
        return
    out.memory_norm = keep(layer.memory_norm.weight)
    if isinstance(read, DeltaRead):
        query, result = read.q_proj, read.out_proj
        out.read, out.read_heads, out.read_kv_heads = (
            structs.READ_DELTA, read.num_heads, read.num_heads,
        )  # fmt: skip
        out.read_dim = result.in_features // read.num_heads
    else:
        inner = read.attention
        query, result = inner.q_proj, inner.out_proj
        out.read, out.read_heads, out.read_kv_heads = (
            structs.READ_SOFTMAX, inner.num_query_heads, inner.num_kv_heads,
        )  # fmt: skip
        out.read_dim = inner.head_dim
    out.read_q = keep.product(query.weight, query.int8)
    out.read_out = keep.product(result.weight, result.int8)


def describe_stack(
    keep: Kept,
    config: StackConfig,
    layers: ctypes.Array[structs.Layer],
    embedding_VD: Tensor,
    rope: Tensor | None,
    max_len: int,
) -> structs.Decoder:
    """What is the same for all layers of a stack. It has no head yet."""
    products = [getattr(layer, name) for layer in layers for name in structs.PRODUCTS]
    widest = max(max(product.inputs, product.outputs) for product in products)
    return structs.Decoder(
        layers=ctypes.addressof(layers),
        embedding=keep(embedding_VD.detach().contiguous()),
        cos=None if rope is None else keep(rope[0].contiguous()),
        sin=None if rope is None else keep(rope[1].contiguous()),
        num_layers=len(layers),
        dim=embedding_VD.shape[1],
        heads=config.attention.num_query_heads,
        kv_heads=config.attention.num_kv_heads,
        head_dim=config.head_dim,
        max_len=max_len,
        width=-(-widest // LANES) * LANES,
        eps=epsilon(config.norm_eps),
    )


def describe_head(
    keep: Kept, out: structs.Decoder, model: ReactiveTransformer, bias: Tensor
) -> None:
    """From hidden states to logits, to which ``bias`` [V] is added."""
    head, norm = model.head, model.final_norm
    weights = (
        (model.embedding.weight, model.embedding_int8) if head is None else (head.weight, head.int8)
    )
    out.final_norm = None if norm is None else keep(norm.weight)
    out.head = keep.product(*weights)
    out.bias = keep(bias)


def epsilon(eps: float | None) -> float:
    """Of a norm in float32."""
    return torch.finfo(torch.float32).eps if eps is None else eps


def _joined(attention: Attention) -> tuple[Tensor, Int8 | None]:
    """The weights of queries, keys and values as one, and the same in eight bits if they are."""
    maps = attention.q_proj, attention.k_proj, attention.v_proj
    joined = torch.cat([part.weight for part in maps])
    shorts = [part.int8 for part in maps]
    if None in shorts:
        return joined, None
    return joined, Int8(*(torch.cat(parts) for parts in zip(*shorts, strict=True)))
