"""A model on a GPU that has every part the engine's kernels know, and memories for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from rxtmodel import ReactiveTransformer, RxTAlpha
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.layout import arrange


def model_of(
    dtype: torch.dtype = torch.bfloat16, *, ff_dim: int = 192, **fields: Any
) -> ReactiveTransformer:
    torch.manual_seed(0)
    config = RxTAlpha(
        vocab_size=1_000, embed_dim=128, num_layers=3, num_heads=4, query_heads=4, kv_heads=2,
        ff_dim=ff_dim, encoder_ff_dim=192, num_slots=80, max_seq_len=128, variant="self-interlayer",
        experts=None,
    )  # fmt: skip
    memory = dataclasses.replace(config.memory, **{"gate": "elementwise", **fields})
    model = ReactiveTransformer(dataclasses.replace(config, memory=memory))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    model = arrange(model.to("cuda", dtype).eval().requires_grad_(False))
    model.use_backend("triton")
    return model


def memories_of(model: ReactiveTransformer, count: int) -> list[MemoryVersion]:
    generator = torch.Generator("cuda").manual_seed(1)
    shape = model.config.memory_shape
    return [
        MemoryVersion(torch.randn(shape, device="cuda", generator=generator)) for _ in range(count)
    ]
