"""Which models ``FusedStep`` can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..feed_forward import FeedForward
from ..memory import MemoryCrossAttention

if TYPE_CHECKING:
    from ..attention import Attention
    from ..model import ReactiveTransformer

_WIDTHS = (16, 32, 64, 128)
_MAX_VOCAB = 1 << 16
_MAX_WIDTH = 1 << 10


def why_not(model: ReactiveTransformer) -> str | None:
    """Why ``FusedStep`` cannot run this model; None when it can."""
    config, layers = model.config, list(model.causal_layers())
    if model.embedding.weight.device.type != "cuda":
        return "the model is not on a CUDA device"
    if model.embedding.weight.dtype not in (torch.bfloat16, torch.float16):
        return f"weights are {model.embedding.weight.dtype}, not bfloat16 or float16"
    if config.vocab_size > _MAX_VOCAB:
        return f"the vocabulary has more than {_MAX_VOCAB} tokens"
    if config.embed_dim > _MAX_WIDTH:
        return f"the model is wider than {_MAX_WIDTH}"
    if len(layers) != config.num_layers:
        return "some layers read no memory"
    for layer in layers:
        if not isinstance(layer.memory_read, MemoryCrossAttention):  # type: ignore[union-attr]
            return "the memory is not read by softmax attention"
        if not isinstance(layer.ff, FeedForward) or layer.ff.gate_up is None:
            return "a feed-forward is not dense and gated"
        if config.activation != "silu":
            return f"the feed-forward's activation is {config.activation}"
        if not isinstance(layer.attention_norm, nn.RMSNorm):
            return "a norm is not RMSNorm"
        for attention in (layer.attention, layer.memory_read.attention):  # type: ignore[union-attr]
            if reason := _unlike(attention):
                return reason
    try:
        from .. import kernels  # noqa: F401
        from ..kernels import linear  # noqa: F401
    except ImportError as error:
        return f"the package triton is missing ({error})"
    return None


def _unlike(attention: Attention) -> str | None:
    if attention.gate_proj is not None or attention.q_norm is not None:
        return "attention has an output gate or normalised heads"
    if attention.copies > 1:
        return "attention has more kv heads than query heads"
    if attention.head_dim not in _WIDTHS:
        return f"heads are {attention.head_dim} wide, not one of {_WIDTHS}"
    ratio = attention.num_query_heads // attention.num_kv_heads
    return None if ratio & (ratio - 1) == 0 else f"{ratio} query heads share a kv head"
