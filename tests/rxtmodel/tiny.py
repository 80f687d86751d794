"""Models so small that plain loops can follow them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from rxtmodel import AttentionConfig, MemoryConfig, ReactiveTransformer, RxtConfig

VARIANTS = ("simple", "self", "interlayer", "self-interlayer", "grouped-self-interlayer", "delta")
VOCAB, LAYERS, SLOTS, WIDTH, HEAD = 24, 4, 3, 8, 4
EVERY_OPTION = {"slot_ids": True, "null_key": True, "gate": "channel"}
"""Options beside the published forms."""


def tiny_config(variant: str = "delta", *, memory: dict[str, Any] | None = None, **fields: Any):
    """Two heads of width four; four layers, so that groups of layers differ from all of them."""
    groups = 2 if variant == "grouped-self-interlayer" else 1
    settings = {"num_slots": SLOTS, "num_heads": 2, "num_groups": groups, **(memory or {})}
    defaults = {
        "vocab_size": VOCAB,
        "embed_dim": WIDTH,
        "num_layers": LAYERS,
        "head_dim": HEAD,
        "attention": AttentionConfig(num_query_heads=2, num_kv_heads=1),
        "ff_dim": 12,
        "encoder_ff_dim": 10,
        "max_seq_len": 40,
    }
    return RxtConfig(memory=MemoryConfig(variant=variant, **settings), **{**defaults, **fields})


def tiny_model(variant: str = "delta", *, seed: int = 0, **settings: Any) -> ReactiveTransformer:
    """A model with every weight random: none is left at a neutral value that hides its use."""
    torch.manual_seed(seed)
    model = ReactiveTransformer(tiny_config(variant, **settings))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model.eval()


def shallow(config: RxtConfig, layers: int = 2) -> RxtConfig:
    return dataclasses.replace(config, num_layers=layers)


def random_ids(*shape: int, seed: int = 1) -> Tensor:
    """Ids without special ones."""
    return torch.randint(11, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def random_memory(model: ReactiveTransformer, batch: int, seed: int = 2) -> Tensor:
    """Memories [L, B, S, D] that look like nothing in particular."""
    layers, slots, width = model.config.memory_shape
    generator = torch.Generator().manual_seed(seed)
    shape = (layers, batch, slots, width)
    return torch.randn(shape, generator=generator).to(model.memory_init.dtype)
