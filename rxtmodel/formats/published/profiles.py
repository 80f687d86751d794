"""Defaults of the published configs, by the version of the reference implementation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import CheckpointError

_STACK: dict[str, Any] = {
    "num_layers": 12, "vocab_size": 20_000, "embed_dim": 512, "ff_dim": 1536, "att_heads": 16,
    "seq_len": 1024, "stm_size": 1024, "use_flash_attention": False, "use_gated": True,
    "ff_activation": "swish", "ff_dropout": 0.0, "att_dropout": 0.0, "use_rms_norm": True,
    "att_groups": 1, "att_query_groups": None, "cross_att_groups": None,
    "cross_att_query_groups": None, "self_att_type": "sqa", "cross_att_type": "sqa",
    "use_moe": False, "num_experts": 1, "moe_top_k": 1, "num_shared_experts": 1,
    "shared_expert_dim": None, "use_head_norm": False, "head_norm_type": "layer_norm",
    "init_identity_norm": False, "skip_memory_cross_attention": False,
    "stateless_layers_config": None, "final_stateless_layers_config": None,
    "dense_layer_dim": 1536, "attn_layer_types": None, "stateless_attn_layer_types": None,
    "final_stateless_attn_layer_types": None, "linear_attn_mode": "chunk",
    "linear_attn_expand_k": 0.5, "linear_attn_expand_v": 1.0, "linear_attn_use_short_conv": False,
    "linear_attn_conv_size": 4, "linear_attn_use_gate": True, "linear_attn_norm_eps": 1e-5,
    "linear_attn_heads": None, "use_nope": False, "router_amp": False, "router_dtype": "float32",
    "use_vectorized_moe": True, "vectorized_moe_from_legacy": False, "moe_grouped_gemm": True,
    "moe_use_cutlass_grouped_gemm": True, "moe_bias_mode": "global",
    "moe_shared_experts_bias_mode": "local", "moe_use_weighted_shared_experts": False,
    "use_gated_attention": False, "gated_attention_activation": "sigmoid",
    "use_gated_cross_attention": None, "use_attention_output_bias": True,
    "legacy_stm_in_encoder": False, "rope_base": 10_000,
}  # fmt: skip
_MEMORY: dict[str, Any] = {
    "num_layers": 12, "embed_dim": 512, "att_heads": 16, "seq_len": 1024, "stm_size": 1024,
    "use_flash_attention": False, "att_dropout": 0.0, "att_groups": 1, "att_type": "sqa",
    "att_experts": None, "att_query_experts": None, "att_query_groups": None,
    "interlayer_att_dropout": 0.0, "interlayer_att_groups": 1, "interlayer_att_type": "sqa",
    "interlayer_att_experts": None, "interlayer_att_query_experts": None,
    "interlayer_att_query_groups": None, "self_att_dropout": 0.0, "self_att_groups": 1,
    "self_att_type": "sqa", "self_att_experts": None, "self_att_query_experts": None,
    "self_att_query_groups": None, "use_gate_for_self_attention": False,
    "norm_type": "classic-rms", "norm_init_gate": -2.0, "norm_per_dim_scale": False,
    "norm_decay": 0.9, "use_gated_residual": False, "residual_per_slot_gate": True,
    "residual_gate_init": 3.0, "residual_gate_type": "static",
    "residual_gate_slot_status_type": "mean", "use_tanh_residual_gate": True,
    "disable_residual": False, "debug_mode": False, "debug_interval": 10, "rope_base": 10_000,
    "num_groups": 1,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What one range of versions of the reference implementation does with what is not said."""

    stack: dict[str, Any]
    """Defaults of decoder and encoder configs."""
    memory: dict[str, Any]
    """Defaults of memory-attention configs."""
    initial: str = "standard"
    """How a memory starts that no file brings."""
    initial_scale: float = 1.0
    """Times that: "normal" was N(0, 0.02^2) until 0.3.80, N(0, 0.01^2) after it."""
    interlayer_is_self: bool = False
    """Asking for "interlayer" built "self-interlayer"."""


_OLD = {"self_att_type": "gqa", "cross_att_type": "mqa", "num_shared_experts": 0}
PROFILES = {
    "0.3.65": Profile(stack=_STACK, memory=_MEMORY, interlayer_is_self=True),
    "0.3": Profile(stack=_STACK, memory=_MEMORY),
    "0.2": Profile(
        stack={**_STACK, **_OLD}, memory=_MEMORY, initial="normal",
        initial_scale=2.0,
    ),
}  # fmt: skip
"""By the first version that each is for."""
DEFAULT_PROFILE = "0.3.65"


def profile_of(name: str) -> Profile:
    """The profile called ``name``; CheckpointError names those that exist."""
    if name not in PROFILES:
        raise CheckpointError(f"profile must be one of {', '.join(PROFILES)}, got {name!r}")
    return PROFILES[name]
