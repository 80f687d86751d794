"""Configurations of the published models. Presets of one class, not classes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import AttentionConfig, ExpertsConfig, MemoryConfig, RxtConfig, StackConfig
from .template import TokenIds

if TYPE_CHECKING:
    from .config import MemoryVariant


def _heads(query: int, kv: int, **fields: Any) -> AttentionConfig:
    return AttentionConfig(num_query_heads=query, num_kv_heads=kv, **fields)


def RxTAlpha(
    *,
    vocab_size: int = 7_500,
    embed_dim: int = 128,
    num_layers: int = 6,
    num_heads: int = 8,
    query_heads: int = 4,
    kv_heads: int = 4,
    ff_dim: int = 256,
    num_experts: int = 12,
    top_k: int = 2,
    encoder_ff_dim: int = 384,
    num_slots: int = 256,
    max_seq_len: int = 256,
    variant: MemoryVariant = "interlayer",
    **fields: Any,
) -> RxtConfig:
    """RxT-Alpha: routed experts, output biases, linear sigmoid gates. Defaults: the Micro size.

    It was trained to answer, and has no tokens for anything else.

    ``num_heads`` only sets the head width, as published; the other counts are those in use.
    """
    heads = _heads(query_heads, kv_heads, output_bias=True)
    head_dim = embed_dim // num_heads
    stack = {"head_dim": head_dim, "attention": heads, "ff_bias": True, "norm_eps": None}
    return RxtConfig(
        **{
            "vocab_size": vocab_size,
            "embed_dim": embed_dim,
            "num_layers": num_layers,
            "max_seq_len": max_seq_len,
            "ff_dim": ff_dim,
            "experts": ExpertsConfig(num_experts=num_experts, top_k=top_k, bias="local"),
            "tie_head": False,
            "final_norm": False,
            "encoder": StackConfig(ff_dim=encoder_ff_dim, **stack),
            "memory": MemoryConfig(
                num_slots=num_slots, variant=variant, num_heads=num_heads, learned_init=False,
                read=heads, write=heads, mix=heads, gate="linear", gate_activation="sigmoid",
            ),
            "tokens": TokenIds(think=None, internal=None, tool_use=None, tool_call=None),
            **stack,
            **fields,
        }
    )  # fmt: skip


def RxTBeta(
    *,
    vocab_size: int = 65_536,
    embed_dim: int = 512,
    num_layers: int = 21,
    num_heads: int = 16,
    query_heads: int = 8,
    kv_heads: int = 4,
    ff_dim: int = 192,
    stateless_dim: int = 1_536,
    num_experts: int = 384,
    top_k: int = 10,
    num_shared: int = 2,
    shared_dim: int = 384,
    encoder_ff_dim: int = 1_536,
    num_slots: int = 4_096,
    max_seq_len: int = 8_192,
    num_groups: int = 3,
    variant: MemoryVariant = "grouped-self-interlayer",
    **fields: Any,
) -> RxtConfig:
    """RxT-Beta: shared experts, gated attention, stateless layers. Defaults: as published, 2.9 B.

    It was trained to think, to call tools and to follow instructions.

    ``num_heads`` only sets the head width, as published; encoder and memory attention have
    ``query_heads`` of both kinds.
    """
    equal = _heads(query_heads, query_heads, output_bias=True)
    stack = {
        "head_dim": embed_dim // num_heads, "ff_bias": True, "norm_eps": None, "rope_base": 1e5
    }  # fmt: skip
    return RxtConfig(
        **{
            "vocab_size": vocab_size,
            "embed_dim": embed_dim,
            "num_layers": num_layers,
            "max_seq_len": max_seq_len,
            "attention": _heads(query_heads, kv_heads, output_gate="sigmoid"),
            "ff_dim": ff_dim,
            "stateless_dim": stateless_dim,
            "stateless_before": ("dense", "moe"),
            "stateless_after": ("moe", "moe"),
            "experts": ExpertsConfig(
                num_experts=num_experts, top_k=top_k, num_shared=num_shared, shared_dim=shared_dim,
                bias="global", shared_bias="global", router_dtype="bfloat16",
            ),
            "tie_head": False,
            "final_norm": True,
            "encoder": StackConfig(
                ff_dim=encoder_ff_dim,
                attention=_heads(query_heads, query_heads, output_gate="sigmoid"),
                **stack,
            ),
            "memory": MemoryConfig(
                num_slots=num_slots, variant=variant, num_heads=num_heads, num_groups=num_groups,
                read=_heads(query_heads, kv_heads), write=equal, mix=equal, gate="elementwise",
                gate_activation="sigmoid", learned_init=False,
            ),
            "thinks": True,
            "calls_tools": True,
            "instructed": True,
            **stack,
            **fields,
        }
    )  # fmt: skip
