"""The fields of published configs: which there are, and of what kind their values must be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError

if TYPE_CHECKING:
    from .profiles import Profile

PARTS = ("decoder", "encoder", "memory_attention")

_OR_NONE = frozenset({
    "att_query_groups", "cross_att_groups", "cross_att_query_groups", "shared_expert_dim",
    "interlayer_att_query_groups", "self_att_query_groups", "use_gated_cross_attention",
    "stateless_layers_config", "final_stateless_layers_config",
})  # fmt: skip
_WHOLE = frozenset({
    "num_layers", "vocab_size", "embed_dim", "ff_dim", "att_heads", "seq_len", "stm_size",
    "att_groups", "att_query_groups", "cross_att_groups", "cross_att_query_groups", "num_experts",
    "moe_top_k", "shared_expert_dim", "dense_layer_dim", "num_groups", "interlayer_att_groups",
    "interlayer_att_query_groups", "self_att_groups", "self_att_query_groups",
})  # fmt: skip
_NUMBERS = frozenset({
    "ff_dropout", "att_dropout", "interlayer_att_dropout", "self_att_dropout", "norm_init_gate",
    "norm_decay", "residual_gate_init", "rope_base",
})  # fmt: skip
_FLAGS = frozenset({
    "use_gated", "use_rms_norm", "use_moe", "use_head_norm", "skip_memory_cross_attention",
    "use_nope", "router_amp", "moe_use_weighted_shared_experts", "use_gated_attention",
    "use_gated_cross_attention", "use_attention_output_bias", "use_gate_for_self_attention",
    "norm_per_dim_scale", "use_gated_residual", "residual_per_slot_gate", "use_tanh_residual_gate",
    "disable_residual",
})  # fmt: skip
_TEXTS = frozenset({
    "ff_activation", "self_att_type", "cross_att_type", "head_norm_type", "router_dtype",
    "moe_bias_mode", "moe_shared_experts_bias_mode", "gated_attention_activation", "att_type",
    "interlayer_att_type", "norm_type", "residual_gate_type", "residual_gate_slot_status_type",
})  # fmt: skip
_LISTS = frozenset({"stateless_layers_config", "final_stateless_layers_config"})
_LAYERS = ("dense", "moe")


def complete(config: dict[str, Any], profile: Profile) -> dict[str, Any]:
    """All parts with the profile's defaults.

    ConfigError names a key that does not exist, or a value that is of no use.
    """
    out = dict(config)
    for part in PARTS:
        defaults = profile.memory if part == "memory_attention" else profile.stack
        given = config[f"{part}_config"]
        if unknown := sorted(set(given) - set(defaults)):
            raise ConfigError(f"{part}_config has no field {', '.join(unknown)}")
        for name, value in given.items():
            if wanted := _wanted(name, value):
                raise ConfigError(f"{part}_config: {name} must be {wanted}, got {value!r}")
        whole = out[f"{part}_config"] = {**defaults, **given}
        dim, heads = whole["embed_dim"], whole["att_heads"]
        if dim % heads:
            raise ConfigError(
                f"{part}_config: embed_dim={dim} must be a multiple of att_heads={heads}"
            )
    variant = config.get("memory_attention_variant", "interlayer")
    if not isinstance(variant, str):
        raise ConfigError(f"memory_attention_variant must be a name, got {variant!r}")
    return out


def _wanted(name: str, value: Any) -> str | None:
    """What the value of a field must be where it is something else."""
    if value is None and name in _OR_NONE:
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if name == "num_shared_experts" and not (whole and value >= 0):
        return "a whole number >= 0"
    if name in _WHOLE and not (whole and value >= 1):
        return "a whole number >= 1"
    number = whole or isinstance(value, float)
    if name in _NUMBERS and not (number and math.isfinite(value)):
        return "a finite number"
    if name == "rope_base" and value <= 0:
        return "a number > 0"
    if name in _FLAGS and not isinstance(value, bool):
        return "true or false"
    if name in _TEXTS and not isinstance(value, str):
        return "a name"
    if name in _LISTS and not (isinstance(value, list) and all(v in _LAYERS for v in value)):
        return "a list of 'dense' and 'moe'"
    return None
