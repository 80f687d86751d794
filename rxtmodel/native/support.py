"""Which models the C files can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..feed_forward import FeedForward
from ..memory import DeltaRead, DeltaWrite, MemoryCrossAttention
from .structs import LANES

if TYPE_CHECKING:
    from ..attention import Attention
    from ..model import ReactiveTransformer

_LARGEST = 64 << 20
"""Bytes of a stack's weights. Larger ones come from main memory, where PyTorch, on all threads,
is as quick; and they lie in memory twice."""
_MOST_LAYERS = 256
"""Of a stack, for which threads have places to say how far they are."""


def why_not(model: ReactiveTransformer) -> str | None:
    """Why ``NativeDecoder`` cannot run this model; None when it can."""
    layers = list(model.causal_layers())
    parts = [model.embedding, *layers, *([model.head] if model.head else [])]
    if reason := _unlike_all(model, "decoder", parts) or _too_many("decoder", layers):
        return reason
    if _other_norm(model.final_norm):
        return "the last norm is not RMSNorm"
    reasons = (reason for layer in layers if (reason := _unlike(layer)))
    return next(reasons, None)


def why_not_encode(model: ReactiveTransformer) -> str | None:
    """Why ``NativeEncoder`` cannot; None when it can."""
    layers = list(model.encoder)
    parts = [model.encoder_embedding or model.embedding, *layers]
    if reason := _unlike_all(model, "encoder", parts) or _too_many("encoder", layers):
        return reason
    reasons = (reason for layer in layers if (reason := _unlike(layer)))
    return next(reasons, None)


def why_not_fold(model: ReactiveTransformer) -> str | None:
    """Why ``NativeDeltaWrite`` cannot; None when it can."""
    write = model.memory_write
    if not isinstance(write, DeltaWrite):
        return "memory is not written by the delta rule"
    if reason := _unlike_all(model, "memory attention", [write]):
        return reason
    slots, width = model.config.memory.num_slots, model.config.embed_dim // write.num_heads
    return _unlike_memory(slots, width)


def _unlike_all(model: ReactiveTransformer, name: str, parts: list[nn.Module]) -> str | None:
    """Why no layer of these can be run."""
    weights = [weight for part in parts for weight in part.parameters()]
    first = weights[0]
    if any(not weight.is_cpu or weight.dtype != torch.float32 for weight in weights):
        return f"weights are {first.dtype} on {first.device}, not float32 on a CPU"
    if any(weight.requires_grad for weight in weights):
        return "weights may still be trained"
    if (size := sum(weight.nbytes for weight in weights)) > _LARGEST:
        return f"the {name} has {size:,} bytes of weights, more than {_LARGEST:,}"
    if model.config.embed_dim % LANES:
        return f"the model is {model.config.embed_dim} wide, which is no multiple of {LANES}"
    return None


def _too_many(name: str, layers: list[nn.Module]) -> str | None:
    count = len(layers)
    return (
        f"the {name} has {count} layers, more than {_MOST_LAYERS}" if count > _MOST_LAYERS else None
    )


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
        heads = read.num_heads
        own = _unlike_memory(read.q_proj.out_features // heads, read.out_proj.in_features // heads)
        if own:
            return own
    return _unlike_attention(layer.attention)


def _unlike_memory(slots: int, width: int) -> str | None:
    if slots % LANES or width % LANES:
        return f"memory heads of {slots} slots, {width} wide, are no multiples of {LANES}"
    return None


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
