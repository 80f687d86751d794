"""First values: of the weights of a model that is to be trained, and of its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .attention import Attention
from .feed_forward import FeedForward

if TYPE_CHECKING:
    from .config import RxtConfig


def init_weights(model: nn.Module, num_layers: int) -> None:
    """Draw linear maps and embeddings; what ends in the residual stream is scaled by depth.

    Only layers that a stack holds are scaled; parts of a memory attention keep their own values.
    """
    model.apply(_draw)
    for module in model.modules():
        if isinstance(module, Attention):
            module.open_gate()
    for stack in model.children():
        if isinstance(stack, nn.ModuleList):
            for layer in stack:
                _scale_residual(layer.attention.out_proj, num_layers)
                if isinstance(layer.ff, FeedForward):
                    _scale_residual(layer.ff.down, num_layers)


def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


def _scale_residual(linear: nn.Linear, num_layers: int) -> None:
    """Keep the residual stream's variance independent of depth."""
    with torch.no_grad():
        linear.weight.mul_((2 * num_layers) ** -0.5)


def initial_memory(config: RxtConfig) -> Tensor:
    """The memory [L, S, D] in which nothing was said; the same for everyone."""
    shape, kind = config.memory_shape, config.memory.initial
    if config.memory.variant == "delta" or kind == "zeros":
        return torch.zeros(shape)
    if kind == "ones":
        return torch.ones(shape)
    generator = torch.Generator().manual_seed(0)
    if kind == "standard":
        return torch.randn(shape, generator=generator)
    if kind == "normal":
        return torch.randn(shape, generator=generator).mul_(0.01)
    return torch.rand(shape, generator=generator).mul_(0.01)
