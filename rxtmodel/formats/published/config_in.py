"""Published configs as ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...config import AttentionConfig, ExpertsConfig, MemoryConfig, RxtConfig, StackConfig
from ...errors import ConfigError
from .tokens import tokens_in

if TYPE_CHECKING:
    from ...config.parts import NormKind

NORMS: dict[str, NormKind] = {"layer_norm": "layer", "rms_norm": "rms"}
_ACTIVATIONS = {"swish": "silu", "silu": "silu"}


def to_ours(config: dict[str, Any], initial: str) -> RxtConfig:
    """A completed config as ours. Raises ConfigError for what cannot be."""
    decoder, encoder = config["decoder_config"], config["encoder_config"]
    memory = config["memory_attention_config"]
    for name, others in (("num_layers", (encoder, memory)), ("embed_dim", (encoder, memory)),
                         ("stm_size", (memory,)), ("vocab_size", (encoder,))):  # fmt: skip
        for other in others:
            if other[name] != decoder[name]:
                raise ConfigError(
                    f"{name} must be the same in all parts, got {decoder[name]} in the decoder "
                    f"and {other[name]} beside it"
                )
    stateless = {
        ours: tuple(decoder[f"{theirs}_config"] or ())
        for ours, theirs in (
            ("stateless_before", "stateless_layers"), ("stateless_after", "final_stateless_layers")
        )
    }  # fmt: skip
    if not decoder["use_moe"] and any("moe" in kinds for kinds in stateless.values()):
        raise ConfigError(
            "decoder_config has stateless layers of kind 'moe' with use_moe=false: experts there, "
            "and none in the layers that read the memory, are not supported"
        )
    return RxtConfig(
        vocab_size=decoder["vocab_size"],
        embed_dim=decoder["embed_dim"],
        num_layers=decoder["num_layers"],
        max_seq_len=decoder["seq_len"],
        tie_head=False,
        final_norm=decoder["use_head_norm"],
        final_norm_kind=_norm(decoder["head_norm_type"]) if decoder["use_head_norm"] else None,
        stateless_dim=decoder["dense_layer_dim"],
        share_embedding=config.get("share_embedding", True),
        encoder=StackConfig(**_stack(encoder)),
        memory=_memory(config, initial),
        **tokens_in(config.get("tokenizer_config"), decoder["vocab_size"]),
        **stateless,
        **_stack(decoder),
    )


def _stack(c: dict[str, Any]) -> dict[str, Any]:
    if c["self_att_type"] == "hybrid":
        raise ConfigError("self_att_type 'hybrid' (linear attention) is not supported")
    heads = c["att_heads"]
    gate = c["gated_attention_activation"] if c["use_gated_attention"] else "none"
    counts = head_counts(c["self_att_type"], heads, c["att_groups"], c["att_query_groups"])
    return {
        "head_dim": c["embed_dim"] // heads,
        "attention": _attention(counts, c["use_attention_output_bias"], gate),
        "ff_dim": c["ff_dim"],
        "gated": c["use_gated"],
        "activation": _activation(c["ff_activation"]),
        "ff_bias": True,
        "experts": _experts(c) if c["use_moe"] else None,
        "norm": "rms" if c["use_rms_norm"] else "layer",
        "norm_eps": None,
        "rope_base": float(c["rope_base"]),
        "nope": c["use_nope"],
        "attention_dropout": c["att_dropout"],
        "ff_dropout": c["ff_dropout"],
    }


def head_counts(kind: str, heads: int, groups: int, query_groups: int | None) -> tuple[int, int]:
    """Query and key/value heads of a published attention type."""
    if kind == "mha":
        return heads, heads
    if kind == "gqa":
        return heads, groups
    if kind == "mqa":
        return heads, 1
    if kind != "sqa":
        raise ConfigError(f"attention type must be one of mha, gqa, mqa, sqa, got {kind!r}")
    if query_groups is None:
        raise ConfigError("attention type 'sqa' needs att_query_groups, the number of query heads")
    return query_groups, groups


def cross_counts(c: dict[str, Any]) -> tuple[int, int]:
    """The same of a decoder's memory read."""
    groups = c["att_groups"] if c["cross_att_groups"] is None else c["cross_att_groups"]
    query = c["cross_att_query_groups"]
    query = c["att_query_groups"] if query is None else query
    return head_counts(c["cross_att_type"], c["att_heads"], groups, query)


def _attention(counts: tuple[int, int], bias: bool, gate: str = "none") -> AttentionConfig:
    query, kv = counts
    gate = _ACTIVATIONS.get(gate, gate)
    return AttentionConfig(
        num_query_heads=query, num_kv_heads=kv, output_bias=bias, output_gate=gate
    )


def _activation(name: str) -> str:
    return _ACTIVATIONS.get(name, name)


def _experts(c: dict[str, Any]) -> ExpertsConfig:
    return ExpertsConfig(
        num_experts=c["num_experts"],
        top_k=c["moe_top_k"],
        bias=c["moe_bias_mode"],
        num_shared=c["num_shared_experts"],
        shared_dim=c["shared_expert_dim"],
        shared_bias=c["moe_shared_experts_bias_mode"],
        weighted_shared=c["moe_use_weighted_shared_experts"],
        router_dtype=c["router_dtype"] if c["router_amp"] else "model",
    )


def _memory(config: dict[str, Any], initial: str) -> MemoryConfig:
    decoder, m = config["decoder_config"], config["memory_attention_config"]
    variant = config.get("memory_attention_variant", "self-interlayer")
    gated_read = decoder["use_gated_cross_attention"]
    if gated_read is None:
        gated_read = decoder["use_gated_attention"]
    gate = decoder["gated_attention_activation"] if gated_read else "none"
    own, width = m["embed_dim"] // m["att_heads"], decoder["embed_dim"] // decoder["att_heads"]
    kind = m["residual_gate_type"] if m["use_gated_residual"] else "none"
    heads = m["att_heads"]
    if m["disable_residual"] and variant != "simple":
        raise ConfigError(f"disable_residual is of the variant 'simple' only, not of {variant!r}")
    pre = "self" if variant == "self" else "interlayer"
    mix = None
    if variant != "simple":
        mix = _attention(
            head_counts(m[f"{pre}_att_type"], heads, m[f"{pre}_att_groups"],
                        m[f"{pre}_att_query_groups"]), True,
        )  # fmt: skip
    write = head_counts(m["att_type"], heads, m["att_groups"], m["att_query_groups"])
    return MemoryConfig(
        num_slots=m["stm_size"],
        variant=variant,
        num_heads=heads,
        num_groups=m["num_groups"] if variant.startswith("grouped") else 1,
        read=_attention(cross_counts(decoder), decoder["use_attention_output_bias"], gate),
        write=_attention(write, True),
        mix=mix,
        head_dim=None if own == width else own,
        rope_base=None if m["rope_base"] == decoder["rope_base"] else float(m["rope_base"]),
        write_dropout=m["att_dropout"],
        mix_dropout=m[f"{pre}_att_dropout"],
        norm=m["norm_type"],
        norm_gate_init=m["norm_init_gate"],
        norm_decay=m["norm_decay"],
        norm_per_dim_scale=m["norm_per_dim_scale"],
        gate="replace" if m["disable_residual"] else kind,
        gate_activation="tanh" if m["use_tanh_residual_gate"] else "sigmoid",
        gate_init=m["residual_gate_init"],
        gate_per_slot=m["residual_per_slot_gate"],
        gate_status=m["residual_gate_slot_status_type"],
        gate_self_step=m["use_gate_for_self_attention"] if variant == "self" else True,
        learned_init=False,
        initial=initial,
    )


def _norm(name: str) -> NormKind:
    if name not in NORMS:
        raise ConfigError(f"head_norm_type must be one of {', '.join(NORMS)}, got {name!r}")
    return NORMS[name]
