"""Tiny models of every published form."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from rxtmodel import (
    AttentionConfig,
    ExpertsConfig,
    ReactiveTransformer,
    RxTAlpha,
    RxTBeta,
    RxtConfig,
)

VOCAB = 24


def tiny_alpha(**fields: Any) -> RxtConfig:
    defaults = {"vocab_size": VOCAB, "embed_dim": 16, "num_layers": 4, "num_heads": 4,
                "query_heads": 2, "kv_heads": 1, "ff_dim": 6, "num_experts": 4,
                "encoder_ff_dim": 10, "num_slots": 3, "max_seq_len": 32}  # fmt: skip
    return RxTAlpha(**{**defaults, **fields})


def tiny_beta(**fields: Any) -> RxtConfig:
    defaults = {"vocab_size": VOCAB, "embed_dim": 16, "num_layers": 4, "num_heads": 4,
                "query_heads": 2, "kv_heads": 1, "ff_dim": 6, "stateless_dim": 14,
                "num_experts": 5, "top_k": 2, "shared_dim": 8, "encoder_ff_dim": 10,
                "num_slots": 3, "max_seq_len": 32, "num_groups": 2}  # fmt: skip
    return RxTBeta(**{**defaults, **fields})


def experts(config: RxtConfig, **fields: Any) -> RxtConfig:
    return dataclasses.replace(config, experts=dataclasses.replace(config.experts, **fields))


def memory(config: RxtConfig, **fields: Any) -> RxtConfig:
    return dataclasses.replace(config, memory=dataclasses.replace(config.memory, **fields))


def counts(query: int, kv: int, **fields: Any) -> AttentionConfig:
    return AttentionConfig(num_query_heads=query, num_kv_heads=kv, **fields)


ALPHA, BETA = tiny_alpha(), tiny_beta()
VARIANTS = ("simple", "self", "interlayer", "self-interlayer", "grouped-self-interlayer")


def _of_variant(variant: str) -> RxtConfig:
    mix = None if variant == "simple" else ALPHA.memory.mix
    groups = 2 if variant.startswith("grouped") else 1
    return memory(ALPHA, variant=variant, mix=mix, num_groups=groups, gate="static")


FORMS: dict[str, RxtConfig] = {
    "alpha": ALPHA,
    "beta": BETA,
    **{variant: _of_variant(variant) for variant in VARIANTS},
    "self, step ungated": memory(_of_variant("self"), gate_self_step=False),
    "no gates": memory(BETA, gate="none"),
    "replaced": memory(_of_variant("simple"), gate="replace"),
    "static tanh": memory(BETA, gate="static", gate_activation="tanh"),
    "static, one for a layer": memory(BETA, gate="static", gate_per_slot=False),
    "elementwise, one for a layer": memory(BETA, gate_per_slot=False, gate_activation="tanh"),
    "elementwise, learned status": memory(BETA, gate_status="linear"),
    "linear, one for a layer": memory(BETA, gate="linear", gate_per_slot=False),
    "linear, learned status": memory(BETA, gate="linear", gate_status="linear"),
    **{
        f"{norm} memory norm": memory(BETA, norm=norm)
        for norm in ("rms", "adaptive", "positional", "layer")
    },
    "positional, scale by channel": memory(BETA, norm="positional", norm_per_dim_scale=True),
    "dense": dataclasses.replace(ALPHA, experts=None),
    "plain feed-forward": dataclasses.replace(BETA, gated=False, activation="gelu"),
    "plain dense": dataclasses.replace(ALPHA, experts=None, gated=False, activation="relu"),
    "layer norms": dataclasses.replace(BETA, norm="layer", final_norm_kind="layer"),
    "no positions": dataclasses.replace(BETA, nope=True),
    "one shared expert": experts(BETA, num_shared=1),
    "one shared expert, own bias": experts(BETA, num_shared=1, shared_bias="local"),
    "weighted, own biases": experts(
        BETA, bias="local", shared_bias="local", num_shared=3, weighted_shared=True
    ),
    "no expert biases": experts(BETA, bias="off", shared_bias="off"),
    "no shared experts": experts(BETA, num_shared=0),
    "gated memory read": memory(BETA, read=counts(2, 1, output_gate="sigmoid")),
    "reversed heads": dataclasses.replace(
        memory(
            BETA,
            read=counts(1, 2),
            write=counts(2, 4, output_bias=True),
            mix=counts(1, 4, output_bias=True),
        ),
        attention=counts(2, 4, output_gate="sigmoid"),
    ),
    "separate embeddings": dataclasses.replace(ALPHA, share_embedding=False),
    "other widths of heads": memory(
        BETA, head_dim=8, rope_base=500.0, write=counts(2, 2, output_bias=True)
    ),
}
"""Every published form, by what is special about it."""
assert isinstance(BETA.experts, ExpertsConfig)


def tiny(config: RxtConfig, seed: int = 0) -> ReactiveTransformer:
    """A model with every weight random: none is left at a neutral value that hides its use."""
    torch.manual_seed(seed)
    model = ReactiveTransformer(config)
    with torch.no_grad():
        for name, p in model.state_dict().items():
            noise = 0.3 * torch.randn_like(p)
            p.add_(noise.abs() if name.endswith("ema") else noise)
    return model.eval().requires_grad_(False)
