"""What the tensors of memory attention, by their shapes, say where its config says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .shapes import counts, has, places, usual

if TYPE_CHECKING:
    from .profiles import Profile
    from .shapes import Shapes


def variant_of(given: dict[str, Any], shapes: Shapes, profile: Profile) -> str:
    """The variant that a file holds.

    What its config says stands, except "interlayer", for which the reference implementation has
    built "self-interlayer". Repositories of memory attention alone do not say it; their other
    fields tell most, the tensors the rest.
    """
    stated = given.get("memory_attention_variant")
    if stated is None:
        fields = given["memory_attention_config"]
        if "num_groups" in fields:
            return "grouped-self-interlayer"
        if _says(fields, "self_att_") or _layers(shapes, "self_attention"):
            return "self"
        if not (_says(fields, "interlayer_att_") or _layers(shapes, "mean_attention")):
            return "simple"
    elif stated != "interlayer":
        return stated
    if _layers(shapes, "interlayer_gate"):
        return "self-interlayer"
    if _layers(shapes, "residual_gate"):
        return "interlayer"
    # Without gates both forms have the same weights, and the version decides what was built.
    return stated if stated and not profile.interlayer_is_self else "self-interlayer"


def memory_of(variant: str, config: dict[str, Any], shapes: Shapes) -> dict[str, Any]:
    """The fields that the tensors say."""
    found: dict[str, Any] = {}
    width = config["embed_dim"] // config["att_heads"]
    parts = {"att": "attention"}
    if variant == "self":
        parts["self_att"] = "self_attention"
    elif variant != "simple":
        parts["interlayer_att"] = "mean_attention"
    for field, part in parts.items():
        heads = counts(shapes, _layers(shapes, part), width)
        if heads is not None:
            found |= {f"{field}_type": "sqa", f"{field}_query_groups": heads[0],
                      f"{field}_groups": heads[1]}  # fmt: skip
    gates, norms = _layers(shapes, "residual_gate"), _layers(shapes, "memory_norm")
    linear = usual(shapes.get(f"{gate}.gate.weight") for gate in gates)
    plain = usual(shapes.get(f"{gate}.gate") for gate in gates)
    found["use_gated_residual"] = linear is not None or plain is not None
    if linear is not None:
        found |= {"residual_gate_type": "linear", "residual_per_slot_gate": linear[:1] != (1,)}
    elif plain is not None:
        found["residual_per_slot_gate"] = len(plain) == 2
    status = has(shapes, gates, "slot_status.weight")
    found["residual_gate_slot_status_type"] = "linear" if status else "mean"
    ema = usual(shapes.get(f"{norm}.ema_rms") for norm in norms)
    if has(shapes, norms, "norm.weight"):
        found["norm_type"] = "layer"
    elif ema is not None:
        found["norm_type"] = "positional" if len(ema) == 2 else "adaptive"
    elif has(shapes, norms, "scale"):
        found["norm_type"] = "rms"
    return found


def _says(fields: dict[str, Any], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in fields)


def _layers(shapes: Shapes, part: str) -> list[str]:
    return places(shapes, rf"memory_attention\.model\.{part}_layers\.\d+")
