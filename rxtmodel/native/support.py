"""Which models ``NativeDecoder`` can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..feed_forward import FeedForward
from ..memory import DeltaRead, MemoryCrossAttention
from .structs import LANES

if TYPE_CHECKING:
    from ..attention import Attention
    from ..model import ReactiveTransformer

_LARGEST = 64 << 20
"""Bytes of the decoder's weights. Larger ones come from main memory, where PyTorch, on all threads,
is as quick; and they lie in memory twice."""


def why_not(model: ReactiveTransformer) -> str | None:
    """Why ``NativeDecoder`` cannot run this model; None when it can."""
    config, weight = model.config, model.embedding.weight
    if not weight.is_cpu or weight.dtype != torch.float32:
        return f"weights are {weight.dtype} on {weight.device}, not float32 on a CPU"
    decoder = [model.embedding, *model.causal_layers(), model.head]
    weights = [w for part in decoder if part is not None for w in part.parameters()]
    if any(w.requires_grad for w in weights):
        return "weights may still be trained"
    if (size := sum(w.nbytes for w in weights)) > _LARGEST:
        return f"the decoder has {size:,} bytes of weights, more than {_LARGEST:,}"
    if config.embed_dim % LANES:
        return f"the model is {config.embed_dim} wide, which is no multiple of {LANES}"
    if _other_norm(model.final_norm):
        return "the last norm is not RMSNorm"
    reasons = (reason for layer in model.causal_layers() if (reason := _unlike(layer)))
    return next(reasons, None)


def _unlike(layer: nn.Module) -> str | None:
    """Why a layer cannot be run."""
    if not isinstance(layer.ff, FeedForward) or layer.ff.gate_up is None:
        return "a feed-forward is not dense and gated"
    ff = layer.ff
    if ff.act is not nn.functional.silu or ff.down.bias is not None:
        return "a feed-forward has biases, or an activation other than silu"
    if ff.down.in_features % LANES:
        return f"a feed-forward is {ff.down.in_features} wide, no multiple of {LANES}"
    read = getattr(layer, "memory_read", None)
    norms = [layer.attention_norm, layer.ff_norm, *([layer.memory_norm] if read else [])]
    if any(map(_other_norm, norms)):
        return "a norm is not RMSNorm"
    if isinstance(read, MemoryCrossAttention):
        return _unlike_attention(layer.attention) or _unlike_attention(read.attention)
    if isinstance(read, DeltaRead):
        slots = read.q_proj.out_features // read.num_heads
        width = read.out_proj.in_features // read.num_heads
        if slots % LANES or width % LANES:
            return f"memory heads of {slots} slots, {width} wide, are no multiples of {LANES}"
    return _unlike_attention(layer.attention)


def _unlike_attention(attention: Attention) -> str | None:
    if attention.gate_proj is not None or attention.q_norm is not None:
        return "attention has an output gate or normalised heads"
    if attention.copies > 1 or attention.out_proj.bias is not None:
        return "attention has a bias, or more kv heads than query heads"
    if attention.head_dim % LANES:
        return f"heads are {attention.head_dim} wide, which is no multiple of {LANES}"
    return None


def _other_norm(norm: nn.Module | None) -> bool:
    return norm is not None and not isinstance(norm, nn.RMSNorm)
