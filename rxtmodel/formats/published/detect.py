"""What the tensors of a published file, by their shapes, say where its config says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config_in import cross_counts, head_counts
from .detect_memory import memory_of, variant_of
from .shapes import counts, has, places, size, usual

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .profiles import Profile
    from .shapes import Shapes

_READ_HEADS = ("cross_att_type", "cross_att_groups", "cross_att_query_groups")
_EXPERT_BIASES = ("moe_bias_mode", "moe_shared_experts_bias_mode")


def detect(
    given: dict[str, Any],
    completed: dict[str, Any],
    shapes: Shapes,
    profile: Profile,
    *,
    legacy: bool,
) -> dict[str, Any]:
    """``completed`` corrected by the tensors where the author passed nothing.

    What an author passed stands, and contradicts the tensors later with a weight that is named;
    except where the reference implementation itself did not do what it was told: the memory read's
    head counts, "interlayer", and biases of experts in the old layout (``legacy``), which always
    have their own.
    """
    out = dict(completed)
    for part in ("decoder", "encoder"):
        config, passed = completed[f"{part}_config"], given[f"{part}_config"]
        found = _of_stack(f"{part}.model.", config, shapes)
        always = {*_READ_HEADS} | {
            name for name in _EXPERT_BIASES if legacy and found.get(name) == "local"
        }
        free = {k: v for k, v in found.items() if k not in passed or k in always}
        out[f"{part}_config"] = {**config, **free}
    memory, passed = completed["memory_attention_config"], given["memory_attention_config"]
    variant = out["memory_attention_variant"] = variant_of(given, shapes, profile)
    found = memory_of(variant, memory, shapes)
    free = {k: v for k, v in found.items() if k not in passed}
    out["memory_attention_config"] = {**memory, **free}
    return out


def _of_stack(prefix: str, config: dict[str, Any], shapes: Shapes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    width = config["embed_dim"] // config["att_heads"]
    stateful = places(shapes, rf"{prefix}layers\.\d+")
    every = [*stateful, *places(shapes, rf"{prefix}(final_)?stateless_layers\.\d+")]
    own = [f"{layer}.attention" for layer in every]
    read = [f"{layer}.memory_cross_attention" for layer in stateful]
    heads = counts(shapes, own, width)
    if heads is not None and heads != _declared(config):
        found |= {"self_att_type": "sqa", "att_query_groups": heads[0], "att_groups": heads[1]}
    heads = counts(shapes, read, width)
    if heads is not None:
        found["use_gated_cross_attention"] = has(shapes, read, "gate_proj.weight")
        if heads != _declared(config, cross=True):
            found |= {"cross_att_type": "sqa", "cross_att_query_groups": heads[0],
                      "cross_att_groups": heads[1]}  # fmt: skip
    found["use_gated_attention"] = has(shapes, own, "gate_proj.weight")
    found["use_attention_output_bias"] = has(shapes, own, "out_proj.bias")
    found["use_rms_norm"] = not has(shapes, every, "norm1.bias")
    found["use_head_norm"] = f"{prefix}head_norm.weight" in shapes
    norm = "layer_norm" if f"{prefix}head_norm.bias" in shapes else "rms_norm"
    found["head_norm_type"] = norm
    found["use_moe"] = has(shapes, stateful, "ff.router.gate.weight")
    mixtures = [f"{layer}.ff" for layer in every if f"{layer}.ff.router.gate.weight" in shapes]
    return {**found, **_of_experts(mixtures, config, shapes)} if mixtures else found


def _of_experts(
    mixtures: Sequence[str], config: dict[str, Any], shapes: Shapes
) -> dict[str, Any]:  # fmt: skip
    def usual_size(*leaves: tuple[str, int, int]) -> Any:
        """Of the axes that each leaf has, divided."""
        sizes = [(size(shapes, f"{ff}.{leaf}", axis), by)
                 for leaf, axis, by in leaves for ff in mixtures]  # fmt: skip
        return usual(None if found is None else found // by for found, by in sizes)

    up = 2 if config["use_gated"] else 1
    first = "fc1.linear" if config["use_gated"] else "fc1"
    found = {
        "num_experts": usual_size(("router.gate.weight", 0, 1), ("w1", 0, 1), ("w2", 0, 1)),
        "moe_bias_mode": _biases(mixtures, shapes, "b2", "global_bias"),
    }
    if has(shapes, mixtures, "shared_w2"):
        leaves = ("shared_expert_gate.weight", "shared_w1", "shared_w2")
        own = "shared_b2"
        found["num_shared_experts"] = usual_size(*((leaf, 0, 1) for leaf in leaves))
        found["shared_expert_dim"] = usual_size(("shared_w2", 1, 1), ("shared_w1", 2, up))
    elif has(shapes, mixtures, "shared_expert.fc2.weight"):
        own = "shared_expert.fc2.bias"
        found["num_shared_experts"] = 1
        found["shared_expert_dim"] = usual_size(
            ("shared_expert.fc2.weight", 1, 1), (f"shared_expert.{first}.weight", 0, up)
        )
    else:
        return {**found, "num_shared_experts": 0}
    shared = _biases(mixtures, shapes, own, "shared_experts_bias")
    return {**found, "moe_shared_experts_bias_mode": shared}


def _biases(mixtures: Sequence[str], shapes: Shapes, own: str, common: str) -> str:
    if has(shapes, mixtures, own):
        return "local"
    return "global" if has(shapes, mixtures, common) else "off"


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
