"""What the tensors of a published file say about its config, and old layouts made new."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from .config_in import cross_counts, head_counts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from .profiles import Profile

_LEGACY = re.compile(r"(.*\.ff)\.(experts|shared_experts)\.(\d+)\.(.*)")
_FC = {"fc1.linear.weight": "w1", "fc1.weight": "w1", "fc2.weight": "w2",
       "fc1.linear.bias": "b1", "fc1.bias": "b1", "fc2.bias": "b2"}  # fmt: skip


def vectorise(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Experts that each have keys of their own, as files before 0.3 have them, in one tensor."""
    out: dict[str, Tensor] = {}
    groups: dict[tuple[str, str, str], dict[int, Tensor]] = {}
    for name, value in weights.items():
        match = _LEGACY.fullmatch(name)
        if match is None:
            out[name] = value
        else:
            place, kind, index, leaf = match.groups()
            groups.setdefault((place, kind, leaf), {})[int(index)] = value
    for (place, kind, leaf), parts in groups.items():
        if kind == "shared_experts" and len(parts) == 1:
            out[f"{place}.shared_expert.{leaf}"] = parts[0]
            continue
        tensors = [parts[i] for i in sorted(parts)]
        tensors = [t.T if leaf.endswith("weight") else t for t in tensors]
        prefix = "shared_" if kind == "shared_experts" else ""
        out[f"{place}.{prefix}{_FC[leaf]}"] = torch.stack(tensors)
    return out


def detect(
    given: dict[str, Any],
    completed: dict[str, Any],
    weights: Mapping[str, Tensor],
    profile: Profile,
) -> dict[str, Any]:
    """``completed`` corrected by the tensors where they know better.

    What an author passed stands, and contradicts the tensors later with a weight that is named;
    except the layout and biases of experts, the memory read's head counts and the variant, in which
    versions of the reference implementation did not do what the config says.
    """  # fmt: skip
    out = dict(completed)
    for part in ("decoder", "encoder"):
        found = _of_stack(f"{part}.model.", completed[f"{part}_config"], weights)
        passed = given[f"{part}_config"]
        free = {k: v for k, v in found.items() if k not in passed or k in _ALWAYS}
        out[f"{part}_config"] = {**completed[f"{part}_config"], **free}
    memory, passed = completed["memory_attention_config"], given["memory_attention_config"]
    declared = completed.get("memory_attention_variant", "self-interlayer")
    variant = out["memory_attention_variant"] = _variant(declared, weights, profile)
    found = _of_memory(variant, memory, weights)
    free = {k: v for k, v in found.items() if k not in passed}
    out["memory_attention_config"] = {**memory, **free}
    return out


_ALWAYS = frozenset({
    "num_shared_experts", "moe_bias_mode", "moe_shared_experts_bias_mode", "cross_att_type",
    "cross_att_groups", "cross_att_query_groups",
})  # fmt: skip


def _of_stack(prefix: str, config: dict[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Any]:
    layer = f"{prefix}layers.0"
    found: dict[str, Any] = {}
    width = config["embed_dim"] // config["att_heads"]
    counts = _counts(f"{layer}.attention", width, weights)
    if counts is not None and counts != _declared(config):
        found |= {"self_att_type": "sqa", "att_query_groups": counts[0], "att_groups": counts[1]}
    cross = _counts(f"{layer}.memory_cross_attention", width, weights)
    if cross is not None and cross != _declared(config, cross=True):
        found |= {"cross_att_type": "sqa", "cross_att_query_groups": cross[0],
                  "cross_att_groups": cross[1]}  # fmt: skip
        gate = f"{layer}.memory_cross_attention.gate_proj.weight"
        found["use_gated_cross_attention"] = gate in weights
    found["use_gated_attention"] = f"{layer}.attention.gate_proj.weight" in weights
    found["use_attention_output_bias"] = f"{layer}.attention.out_proj.bias" in weights
    found["use_rms_norm"] = f"{layer}.norm1.bias" not in weights
    found["use_head_norm"] = f"{prefix}head_norm.weight" in weights
    norm = "layer_norm" if f"{prefix}head_norm.bias" in weights else "rms_norm"
    found["head_norm_type"] = norm
    routers = [name for name in weights if name.startswith(prefix) and ".ff.router." in name]
    found["use_moe"] = any(".layers." in name for name in routers)
    if routers:
        found |= _of_experts(routers[0].partition(".router.")[0], weights)
    return found


def _of_experts(ff: str, weights: Mapping[str, Tensor]) -> dict[str, Any]:
    bias = "global" if f"{ff}.global_bias" in weights else "off"
    found: dict[str, Any] = {"moe_bias_mode": "local" if f"{ff}.b1" in weights else bias}
    found["num_experts"] = len(weights[f"{ff}.router.gate.weight"])
    local = False
    if (many := weights.get(f"{ff}.shared_w2")) is not None:
        found |= {"num_shared_experts": len(many), "shared_expert_dim": many.shape[1]}
        local = f"{ff}.shared_b2" in weights
    elif (one := weights.get(f"{ff}.shared_expert.fc2.weight")) is not None:
        found |= {"num_shared_experts": 1, "shared_expert_dim": one.shape[1]}
        local = f"{ff}.shared_expert.fc2.bias" in weights
    else:
        return {**found, "num_shared_experts": 0}
    bias = "global" if f"{ff}.shared_experts_bias" in weights else "off"
    found["moe_shared_experts_bias_mode"] = "local" if local else bias
    return found


def _declared(config: dict[str, Any], *, cross: bool = False) -> tuple[int, int] | None:
    try:
        if cross:
            return cross_counts(config)
        return head_counts(
            config["self_att_type"], config["att_heads"], config["att_groups"],
            config["att_query_groups"],
        )  # fmt: skip
    except ValueError:
        return None


def _counts(
    place: str, width: int, weights: Mapping[str, Tensor]
) -> tuple[int, int] | None:  # fmt: skip
    q, k = (weights.get(f"{place}.{name}_proj.weight") for name in "qk")
    return None if q is None or k is None else (len(q) // width, len(k) // width)


_MEMORY = "memory_attention.model."


def _variant(declared: str, weights: Mapping[str, Tensor], profile: Profile) -> str:
    def has(part: str) -> bool:
        return any(name.startswith(f"{_MEMORY}{part}.") for name in weights)

    if has("self_attention_layers"):
        return "self"
    if not has("mean_attention_layers"):
        return "simple"
    if declared == "grouped-self-interlayer":
        return declared
    if has("interlayer_gate_layers"):
        return "self-interlayer"
    if has("residual_gate_layers"):
        return "interlayer"
    # Without gates both forms have the same weights, and the version decides what was built.
    return "self-interlayer" if profile.interlayer_is_self else declared


def _of_memory(
    variant: str, config: dict[str, Any], weights: Mapping[str, Tensor]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    width = config["embed_dim"] // config["att_heads"]
    parts = {"att": "attention_layers"}
    if variant != "simple":
        pre = "self" if variant == "self" else "mean"
        parts["self_att" if variant == "self" else "interlayer_att"] = f"{pre}_attention_layers"
    for field, part in parts.items():
        counts = _counts(f"{_MEMORY}{part}.0", width, weights)
        if counts is not None:
            found |= {f"{field}_type": "sqa", f"{field}_query_groups": counts[0],
                      f"{field}_groups": counts[1]}  # fmt: skip
    gate = f"{_MEMORY}residual_gate_layers.0."
    linear, plain = weights.get(f"{gate}gate.weight"), weights.get(f"{gate}gate")
    found["use_gated_residual"] = linear is not None or plain is not None
    if linear is not None:
        found |= {"residual_gate_type": "linear", "residual_per_slot_gate": len(linear) > 1}
    elif plain is not None:
        found["residual_per_slot_gate"] = plain.dim() == 2
    status = f"{gate}slot_status.weight" in weights
    found["residual_gate_slot_status_type"] = "linear" if status else "mean"
    norm = f"{_MEMORY}memory_norm_layers.0."
    ema = weights.get(f"{norm}ema_rms")
    if f"{norm}norm.weight" in weights:
        found["norm_type"] = "layer"
    elif ema is not None:
        found["norm_type"] = "positional" if ema.dim() == 2 else "adaptive"
    elif f"{norm}scale" in weights:
        found["norm_type"] = "rms"
    return found
