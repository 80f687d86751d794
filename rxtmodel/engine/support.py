"""Which models ``FusedStep``, ``FusedEncoder`` and ``FusedFold`` can run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..feed_forward import FeedForward
from ..memory import MemoryAttention, MemoryCrossAttention
from .driver import through_mps
from .persistent import why_not_planned

if TYPE_CHECKING:
    from ..attention import Attention
    from ..memory.stacked import StackedAttention
    from ..model import ReactiveTransformer

_WIDTHS = (16, 32, 64, 128)
_MAX_VOCAB = 1 << 16
_MAX_WIDTH = 1 << 10


def why_not(model: ReactiveTransformer) -> str | None:
    """Why ``FusedStep`` cannot run this model; None when it can."""
    config, layers = model.config, list(model.causal_layers())
    if reason := _elsewhere(model):
        return reason
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
            ratio = attention.num_query_heads // attention.num_kv_heads
            if not _is_power(ratio):
                return f"{ratio} query heads share a kv head"
    return None


def why_not_persistent(model: ReactiveTransformer) -> str | None:
    """Why ``PersistentStep`` cannot run this model, which ``FusedStep`` can; None when it can."""
    config, device = model.config, model.embedding.weight.device
    major, minor = torch.cuda.get_device_capability(device)
    if major != 9:
        return f"its kernel is for devices of compute capability 9, this one has {major}.{minor}"
    if through_mps(device.index or 0):
        # Its blocks wait for each other. With those of a second one between them, for ever.
        return "other processes may run one beside it (MPS)"
    try:
        from ..kernels import cuda  # noqa: F401
    except ImportError as error:
        return f"the package cuda-bindings is missing ({error})"
    if config.embed_dim % 64 or config.ff_dim % 16:
        return f"widths are {config.embed_dim} and {config.ff_dim}, no multiples of 64 and 16"
    layer = model.decoder[0]
    for attention in (layer.attention, layer.memory_read.attention):  # type: ignore[union-attr]
        # Others would need no other code, but nobody has run them yet.
        if attention.head_dim != 32:
            return f"heads are {attention.head_dim} wide, not 32"
        if attention.num_query_heads != 2 * attention.num_kv_heads:
            return "not two query heads share a kv head"
    return why_not_planned(model)


def why_not_encode(model: ReactiveTransformer) -> str | None:
    """Why ``FusedEncoder`` cannot run this model; None when it can."""
    if reason := _elsewhere(model):
        return reason
    for layer in model.encoder:
        if not isinstance(layer.ff, FeedForward) or layer.ff.gate_up is None:
            return "the encoder's feed-forward is not dense and gated"
        if not isinstance(layer.attention_norm, nn.RMSNorm):
            return "the encoder's norm is not RMSNorm"
        if reason := _unlike(layer.attention):
            return reason
    activation = model.config.encoder_stack.activation
    return None if activation == "silu" else f"the encoder's activation is {activation}"


def why_not_fold(model: ReactiveTransformer) -> str | None:
    """Why ``FusedFold`` cannot run this model; None when it can."""
    if reason := _elsewhere(model):
        return reason
    config, write = model.config.memory, model.memory_write
    if not isinstance(write, MemoryAttention):
        return "memories are written by the delta rule"
    if config.norm != "classic-rms":
        return f"slots are normalised in the form {config.norm}"
    if config.gate == "channel" or config.gate_status != "mean":
        return "a gate sees single channels"
    if model.config.norm != "rms":
        return "what is read is not normalised by RMSNorm"
    attentions = [write.attention]
    if write.variant != "simple":
        attentions.append(write.pre_attention)
    for attention in attentions:
        if attention.null_key is not None:
            return "there is a null key"
        if reason := _unlike(attention):
            return reason
    read = model.decoder[0].memory_read.attention  # type: ignore[union-attr]
    if not _is_power(read.num_kv_heads):
        return f"a memory is read with {read.num_kv_heads} kv heads"
    return _unlike(read)


def _elsewhere(model: ReactiveTransformer) -> str | None:
    """Whether kernels cannot run at all."""
    weight, width = model.embedding.weight, model.config.embed_dim
    if weight.device.type != "cuda":
        return "the model is not on a CUDA device"
    if weight.dtype not in (torch.bfloat16, torch.float16):
        return f"weights are {weight.dtype}, not bfloat16 or float16"
    if width % 8:
        return f"the model's width is {width}, no multiple of 8"
    try:
        from .. import kernels  # noqa: F401
        from ..kernels import linear  # noqa: F401
    except ImportError as error:
        return f"the package triton is missing ({error})"
    return None


def _unlike(attention: Attention | StackedAttention) -> str | None:
    if attention.gate_proj is not None or attention.q_norm is not None:
        return "attention has an output gate or normalised heads"
    if attention.copies > 1:
        return "attention has more kv heads than query heads"
    if attention.head_dim not in _WIDTHS:
        return f"heads are {attention.head_dim} wide, not one of {_WIDTHS}"
    return None


def _is_power(number: int) -> bool:
    return number & (number - 1) == 0
