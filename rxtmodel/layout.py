"""Arranging the weights of a model that answers and is not trained any more.

Values, shapes and names stay as they are; only where the numbers lie in memory changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .errors import ConfigError
from .linear import Int8, Linear

if TYPE_CHECKING:
    from .attention import Attention
    from .model import ReactiveTransformer


def arrange(model: ReactiveTransformer) -> ReactiveTransformer:
    """Lay out frozen weights for products with few rows, as decoding has them.

    The decoder's query, key and value projections come to lie in one matrix, of which they stay
    views, so that ``Attention`` can multiply with all at once. On a CPU, wide matrices are stored
    by columns: a product with one row then adds scaled rows of consecutive numbers, which BLAS
    does up to twice as fast as one dot product for each output.
    """
    # New tensors of the same kind: a tensor of inference mode cannot stand in for another.
    with torch.inference_mode(model.embedding.weight.is_inference()), torch.no_grad():
        for layer in model.causal_layers():
            _join(layer.attention)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                _by_columns(module.weight)
        if model.head is None:  # the embedding is the head; looking ids up loses far less
            _by_columns(model.embedding.weight)
    return model


def quantise(model: ReactiveTransformer) -> ReactiveTransformer:
    """Have tokens decoded on a CPU by weights of eight bits, a scale for each output.

    Only products of a single token of each row in the decoder's layers and the head: prompts,
    encoder and memory keep all their bits, so memories stay compatible. The weights stay beside
    their short form, a quarter of their size, and must not change after. Experts, and maps from
    widths that are no multiple of 32, are left as they are.

    Raises ConfigError for a model that is not in float32 on a CPU.
    """
    weight = model.embedding.weight
    if not weight.is_cpu or weight.dtype != torch.float32:
        raise ConfigError(
            "weights of eight bits are for decoding in float32 on a CPU, the model is in "
            f"{weight.dtype} on {weight.device}"
        )
    with torch.no_grad():
        for layer in model.causal_layers():
            for module in layer.modules():
                if isinstance(module, Linear):
                    module.int8 = Int8.of(module.weight)
            if layer.attention.joined is not None:
                layer.attention.joined_int8 = Int8.of(layer.attention.joined)
        if isinstance(model.head, Linear):
            model.head.int8 = Int8.of(model.head.weight)
        else:
            model.embedding_int8 = Int8.of(weight)
    return model


def _join(attention: Attention) -> None:
    weights = [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
    joined = torch.cat([weight.data for weight in weights])
    _by_columns(joined)
    sizes = [len(weight) for weight in weights]
    for weight, rows in zip(weights, joined.split(sizes), strict=True):
        weight.data = rows
    attention.joined = joined


def _by_columns(weight: Tensor) -> None:
    """Store ``weight`` [out, in] by columns where that is faster."""
    wide = weight.shape[0] >= weight.shape[1]
    if wide and weight.device.type == "cpu" and weight.is_contiguous():
        weight.data = weight.data.t().contiguous().t()
