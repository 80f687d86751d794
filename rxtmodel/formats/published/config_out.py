"""Our config as a published one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...config import AttentionConfig
from .config_in import NORMS
from .tokens import tokens_out

if TYPE_CHECKING:
    from ...config import RxtConfig, StackConfig


def to_published(config: RxtConfig) -> dict[str, Any]:
    """Our config, of a published form, as a published one, every default spelled out."""
    m, decoder, encoder = config.memory, config, config.encoder_stack
    dim = config.embed_dim
    shared = {"embed_dim": dim, "num_layers": config.num_layers, "seq_len": config.max_seq_len,
              "stm_size": m.num_slots}  # fmt: skip
    read = m.read or AttentionConfig(num_query_heads=m.num_heads, num_kv_heads=m.num_heads)
    cross = {
        "cross_att_type": "sqa",
        "cross_att_groups": read.num_kv_heads,
        "cross_att_query_groups": read.num_query_heads,
        "use_gated_cross_attention": read.output_gate != "none",
    }
    stateless = {
        "stateless_layers_config": list(config.stateless_before) or None,
        "final_stateless_layers_config": list(config.stateless_after) or None,
        "dense_layer_dim": config.stateless_dim or config.ff_dim,
        "use_head_norm": config.final_norm,
    }
    if config.final_norm:
        kinds = {ours: theirs for theirs, ours in NORMS.items()}
        stateless["head_norm_type"] = kinds[config.final_norm_kind or config.norm]
    vocabulary = {"vocab_size": config.vocab_size}
    if read.output_gate != "none":  # the one field that self-attention has too
        cross["gated_attention_activation"] = read.output_gate
    return {
        "decoder_config": {**_stack_out(decoder, dim), **shared, **cross, **stateless,
                           **vocabulary},
        "encoder_config": {**_stack_out(encoder, dim), **shared, **vocabulary,
                           "skip_memory_cross_attention": True},
        "memory_attention_config": {**_memory_out(config), **shared},
        "memory_attention_variant": m.variant,
        "tokenizer": None,
        **tokens_out(config),
    }  # fmt: skip


def _stack_out(c: StackConfig, dim: int) -> dict[str, Any]:
    gate = c.attention.output_gate
    out = {
        "att_heads": dim // c.head_dim,
        "self_att_type": "sqa",
        "att_groups": c.attention.num_kv_heads,
        "att_query_groups": c.attention.num_query_heads,
        "use_attention_output_bias": c.attention.output_bias,
        "use_gated_attention": gate != "none",
        "gated_attention_activation": "sigmoid" if gate == "none" else gate,
        "ff_dim": c.ff_dim,
        "use_gated": c.gated,
        "ff_activation": c.activation,
        "use_rms_norm": c.norm == "rms",
        "rope_base": int(c.rope_base),
        "use_nope": c.nope,
        "att_dropout": c.attention_dropout,
        "ff_dropout": c.ff_dropout,
        "use_moe": c.experts is not None,
    }
    if c.experts is None:
        return out
    e = c.experts
    return {
        **out,
        "num_experts": e.num_experts,
        "moe_top_k": e.top_k,
        "num_shared_experts": e.num_shared,
        "shared_expert_dim": e.shared_dim or c.ff_dim,
        "moe_bias_mode": e.bias,
        "moe_shared_experts_bias_mode": e.shared_bias,
        "moe_use_weighted_shared_experts": e.weighted_shared,
        "router_amp": e.router_dtype != "model",
        "router_dtype": "float32" if e.router_dtype == "model" else e.router_dtype,
        "use_vectorized_moe": True,
    }


def _memory_out(config: RxtConfig) -> dict[str, Any]:
    m = config.memory
    every = AttentionConfig(num_query_heads=m.num_heads, num_kv_heads=m.num_heads)
    write = m.write or every
    mix = m.mix or write
    out = {
        "att_heads": config.embed_dim // config.memory_head_dim,
        "att_dropout": m.write_dropout,
        "att_type": "sqa",
        "att_groups": write.num_kv_heads,
        "att_query_groups": write.num_query_heads,
        "norm_type": m.norm,
        "norm_init_gate": m.norm_gate_init,
        "norm_per_dim_scale": m.norm_per_dim_scale,
        "norm_decay": m.norm_decay,
        "use_gated_residual": m.gate not in ("none", "replace"),
        "residual_per_slot_gate": m.gate_per_slot,
        "residual_gate_init": m.gate_init,
        "residual_gate_slot_status_type": m.gate_status,
        "use_tanh_residual_gate": m.gate_activation == "tanh",
        "rope_base": int(m.rope_base or config.rope_base),
    }
    if out["use_gated_residual"]:
        out["residual_gate_type"] = m.gate
    if m.gate == "replace":
        out["disable_residual"] = True
    if m.variant != "simple":
        pre = "self" if m.variant == "self" else "interlayer"
        out |= {
            f"{pre}_att_dropout": m.mix_dropout,
            f"{pre}_att_type": "sqa",
            f"{pre}_att_groups": mix.num_kv_heads,
            f"{pre}_att_query_groups": mix.num_query_heads,
        }
    if m.variant == "self":
        out["use_gate_for_self_attention"] = m.gate_self_step
    if m.variant.startswith("grouped"):
        out["num_groups"] = m.num_groups
    return out
