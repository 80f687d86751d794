"""The complete list of keys and shapes of a published file, from its config."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Keys = Iterator[tuple[str, tuple[int, ...]]]


def expected_keys(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Of a whole model, rope tables left out."""
    decoder, encoder = config["decoder_config"], config["encoder_config"]
    memory, variant = config["memory_attention_config"], config["memory_attention_variant"]
    stm = (decoder["num_layers"], 1, decoder["stm_size"], decoder["embed_dim"])
    parts = {
        "decoder.model": _decoder(decoder, stm),
        "encoder.model": _encoder(encoder),
        "memory_attention.model": _memory(memory, variant, stm),
    }
    return {f"{part}.{key}": shape for part, keys in parts.items() for key, shape in keys}


def _decoder(c: dict[str, Any], stm: tuple[int, ...]) -> Keys:
    d, v = c["embed_dim"], c["vocab_size"]
    yield "embedding.weight", (v, d)
    yield "stm.memory", stm
    for i in range(c["num_layers"]):
        yield from _layer(c, f"layers.{i}", moe=c["use_moe"], ff=c["ff_dim"], memory=True)
    for name in ("stateless_layers", "final_stateless_layers"):
        for i, kind in enumerate(c[f"{name}_config"] or ()):
            ff = c["dense_layer_dim"] if kind == "dense" else c["ff_dim"]
            yield from _layer(c, f"{name}.{i}", moe=kind == "moe", ff=ff, memory=False)
    yield "head.weight", (v, d)
    yield "head.bias", (v,)
    if c["use_head_norm"]:
        yield "head_norm.weight", (d,)
        if c["head_norm_type"] == "layer_norm":
            yield "head_norm.bias", (d,)


def _encoder(c: dict[str, Any]) -> Keys:
    yield "embedding.weight", (c["vocab_size"], c["embed_dim"])
    for i in range(c["num_layers"]):
        yield from _layer(c, f"layers.{i}", moe=c["use_moe"], ff=c["ff_dim"], memory=False)


def _layer(c: dict[str, Any], name: str, *, moe: bool, ff: int, memory: bool) -> Keys:
    d = c["embed_dim"]
    norms = ["norm1", "norm3", *(("norm2", "stm_norm") if memory else ())]
    for norm in norms:
        yield f"{name}.{norm}.weight", (d,)
        if not c["use_rms_norm"]:
            yield f"{name}.{norm}.bias", (d,)
    bias = c["use_attention_output_bias"]
    width = d // c["att_heads"]
    q, kv = c["att_query_groups"] * width, c["att_groups"] * width
    yield from _attention(f"{name}.attention", d, q, kv, bias, c["use_gated_attention"])
    if memory:
        q, kv = c["cross_att_query_groups"] * width, c["cross_att_groups"] * width
        gated = c["use_gated_cross_attention"]
        yield from _attention(f"{name}.memory_cross_attention", d, q, kv, bias, gated)
    if moe:
        yield from _mixture(f"{name}.ff", c)
    else:
        yield from _dense(f"{name}.ff", d, ff, gated=c["use_gated"], bias=True)


def _attention(name: str, d: int, q: int, kv: int, bias: bool, gated: bool) -> Keys:
    yield f"{name}.q_proj.weight", (q, d)
    yield f"{name}.k_proj.weight", (kv, d)
    yield f"{name}.v_proj.weight", (kv, d)
    yield f"{name}.out_proj.weight", (d, max(q, kv))
    if bias:
        yield f"{name}.out_proj.bias", (d,)
    if gated:
        yield f"{name}.gate_proj.weight", (max(q, kv), d)


def _dense(name: str, d: int, f: int, *, gated: bool, bias: bool) -> Keys:
    first = "fc1.linear" if gated else "fc1"
    yield f"{name}.{first}.weight", (2 * f if gated else f, d)
    yield f"{name}.fc2.weight", (d, f)
    if bias:
        yield f"{name}.{first}.bias", (2 * f if gated else f,)
        yield f"{name}.fc2.bias", (d,)


def _mixture(name: str, c: dict[str, Any]) -> Keys:
    d, e, n = c["embed_dim"], c["num_experts"], c["num_shared_experts"]
    times = 2 if c["use_gated"] else 1
    f, fs = c["ff_dim"], c["shared_expert_dim"]
    yield f"{name}.router.gate.weight", (e, d)
    yield f"{name}.w1", (e, d, times * f)
    yield f"{name}.w2", (e, f, d)
    if c["moe_bias_mode"] == "global":
        yield f"{name}.global_bias", (d,)
    elif c["moe_bias_mode"] == "local":
        yield f"{name}.b1", (e, times * f)
        yield f"{name}.b2", (e, d)
    shared = c["moe_shared_experts_bias_mode"]
    if n == 1:
        bias = shared == "local"
        yield from _dense(f"{name}.shared_expert", d, fs, gated=c["use_gated"], bias=bias)
    elif n > 1:
        yield f"{name}.shared_w1", (n, d, times * fs)
        yield f"{name}.shared_w2", (n, fs, d)
        yield f"{name}.shared_expert_gate.weight", (n, d)
        if shared == "local":
            yield f"{name}.shared_b1", (n, times * fs)
            yield f"{name}.shared_b2", (n, d)
    if n and shared == "global":
        yield f"{name}.shared_experts_bias", (d,)


def _memory(c: dict[str, Any], variant: str, stm: tuple[int, ...]) -> Keys:
    d, layers = c["embed_dim"], c["num_layers"]
    yield "stm.memory", stm
    pre, kind = ("self", "self") if variant == "self" else ("mean", "interlayer")
    if pre == "mean" and variant != "simple":
        yield from _memory_norm("mean_stm_norm", c)
    for i in range(layers):
        yield from _memory_attention(f"attention_layers.{i}", "att", c)
        yield from _memory_norm(f"memory_norm_layers.{i}", c)
        yield f"memory_input_norm_layers.{i}.weight", (d,)
        yield from _gate(f"residual_gate_layers.{i}", c)
        if variant == "simple":
            continue
        yield from _memory_attention(f"{pre}_attention_layers.{i}", f"{kind}_att", c)
        yield from _memory_norm(f"{pre}_memory_norm_layers.{i}", c)
        if variant != "self" or c["use_gate_for_self_attention"]:
            yield from _gate(f"{pre}_residual_gate_layers.{i}", c)
        if variant.endswith("self-interlayer"):
            yield from _gate(f"interlayer_gate_layers.{i}", c)


def _memory_attention(name: str, kind: str, c: dict[str, Any]) -> Keys:
    width = c["embed_dim"] // c["att_heads"]
    q, kv = c[f"{kind}_query_groups"] * width, c[f"{kind}_groups"] * width
    yield from _attention(name, c["embed_dim"], q, kv, True, False)


def _memory_norm(name: str, c: dict[str, Any]) -> Keys:
    d, s, kind = c["embed_dim"], c["stm_size"], c["norm_type"]
    if kind == "classic-rms":
        yield f"{name}.weight", (d,)
        return
    by_slot = kind == "positional"
    yield f"{name}.scale", (s, 1) if by_slot and not c["norm_per_dim_scale"] else (d,)
    yield f"{name}.gate", (s, 1) if by_slot else (1,)
    if kind in ("adaptive", "positional"):
        yield f"{name}.ema_rms", (s, 1) if by_slot else (1,)
    if kind == "layer":
        yield f"{name}.norm.weight", (d,)
        yield f"{name}.norm.bias", (d,)


def _gate(name: str, c: dict[str, Any]) -> Keys:
    if not c["use_gated_residual"]:
        return
    d, s, per_slot = c["embed_dim"], c["stm_size"], c["residual_per_slot_gate"]
    kind, rows = c["residual_gate_type"], s if per_slot else 1
    if kind == "linear":
        yield f"{name}.gate.weight", (rows, s)
        yield f"{name}.gate.bias", (rows,)
    else:
        yield f"{name}.gate", (s, 1) if per_slot else (1,)
    seen = kind == "linear" or (kind == "elementwise" and per_slot)
    if seen and c["residual_gate_slot_status_type"] == "linear":
        yield f"{name}.slot_status.weight", (1, d)
        yield f"{name}.slot_status.bias", (1,)
