"""Our config as a published one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...config import AttentionConfig
from ...errors import CheckpointError
from .config_in import NORMS, TOKENS

if TYPE_CHECKING:
    from ...config import RxtConfig, StackConfig


def to_published(config: RxtConfig) -> dict[str, Any]:
    """Our config as a published one, every default spelled out.

    Raises CheckpointError naming what the published format cannot say.
    """
    _require_published_form(config)
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
    out = {
        "decoder_config": {**_stack_out(decoder, dim), **shared, **cross, **stateless,
                           **vocabulary},
        "encoder_config": {**_stack_out(encoder, dim), **shared, **vocabulary,
                           "skip_memory_cross_attention": True},
        "memory_attention_config": {**_memory_out(config), **shared},
        "memory_attention_variant": m.variant,
        "tokenizer": None,
        "tokenizer_config": {
            f"{name}_token_id": token for name in TOKENS
            if (token := getattr(config.tokens, name)) is not None
        },
    }  # fmt: skip
    if config.tokens.think is not None:
        out["system_prompt_title"] = "SYSTEM INSTRUCTIONS"
    return out


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


def _require_published_form(config: RxtConfig) -> None:
    m, encoder = config.memory, config.encoder_stack
    every = AttentionConfig(num_query_heads=m.num_heads, num_kv_heads=m.num_heads)
    read, write = m.read or every, m.write or every
    mix = m.mix or write
    ours = {
        "memory variant 'delta'": m.variant == "delta",
        "the 'channel' gate": m.gate == "channel",
        "slot identities": m.slot_ids,
        "a null key": m.null_key,
        "a head that shares the embedding": config.tie_head,
        "a head without bias": not config.tie_head and not config.head_bias,
        "norms with an eps of their own": (config.norm_eps, encoder.norm_eps) != (None, None),
        "a feed-forward without biases": not (config.ff_bias and encoder.ff_bias),
        "QK-norm": any(a.qk_norm for a in (config.attention, encoder.attention, read, write, mix)),
        "memory attention without output bias": not (write.output_bias and mix.output_bias),
        "memory attention with an output gate": {write.output_gate, mix.output_gate} != {"none"},
        "other output biases of the memory read than of self-attention":
            read.output_bias != config.attention.output_bias,
        "several tokens that end an answer": bool(config.tokens.ends),
        "two activations of output gates": len(
            {read.output_gate, config.attention.output_gate} - {"none"}) > 1,
    }  # fmt: skip
    if found := [what for what, here in ours.items() if here]:
        raise CheckpointError(f"the published format cannot hold {', '.join(found)}")
