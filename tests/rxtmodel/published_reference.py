"""The published formulas in plain loops over float64 numbers, one sequence at a time.

Written from the published names, shapes and formulas alone: it reads the weights by the keys of a
published file and the settings of a published config, and knows nothing of this package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy import ndarray

from .reference import attend, causal, heads, rotate, sigmoid, silu

ACTIVATIONS = {
    "silu": silu,
    "swish": silu,
    "sigmoid": sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))(x),
    "linear": lambda x: x,
}
EPS = float(np.finfo(np.float64).eps)
"""Of an RMSNorm whose eps is unset: of the type that it computes in."""


def softmax(x: ndarray) -> ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


class PublishedReference:
    """Decoder, encoder and memory attention of a published model."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, ndarray]) -> None:
        self.w = weights
        self.decoder = config["decoder_config"]
        self.encoder = config["encoder_config"]
        self.memory = config["memory_attention_config"]
        self.variant = config["memory_attention_variant"]

    def linear(self, name: str, x: ndarray) -> ndarray:
        out = x @ self.w[f"{name}.weight"].T
        return out + self.w[f"{name}.bias"] if f"{name}.bias" in self.w else out

    def norm(self, name: str, x: ndarray) -> ndarray:
        scale = self.w[f"{name}.weight"]
        if f"{name}.bias" in self.w:
            centred = x - x.mean(-1, keepdims=True)
            return (
                centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * scale
                + self.w[f"{name}.bias"]
            )
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * scale

    def attention(
        self, name: str, c: Mapping[str, Any], x: ndarray, kv: ndarray, *, allowed: ndarray,
        turn_q: bool = False, turn_k: bool = False, gate: str | None = None,
    ) -> ndarray:  # fmt: skip
        width = c["embed_dim"] // c["att_heads"]
        q = heads(self.linear(f"{name}.q_proj", x), len(self.w[f"{name}.q_proj.weight"]) // width)
        count = len(self.w[f"{name}.k_proj.weight"]) // width
        k = heads(self.linear(f"{name}.k_proj", kv), count)
        v = heads(self.linear(f"{name}.v_proj", kv), count)
        base, out = c["rope_base"], []
        for h in range(max(len(q), count)):
            q_h = q[h % len(q)] if len(q) < count else q[h]
            g = h if len(q) < count else h // (len(q) // count)
            k_h = k[g]
            if f"{name}.q_norm.weight" in self.w:
                q_h, k_h = self.norm(f"{name}.q_norm", q_h), self.norm(f"{name}.k_norm", k_h)
            q_h = rotate(q_h, base) if turn_q else q_h
            k_h = rotate(k_h, base) if turn_k else k_h
            out.append(attend(q_h, k_h, v[g], allowed))
        joined = np.concatenate(out, axis=1)
        if f"{name}.gate_proj.weight" in self.w:
            joined = joined * ACTIVATIONS[gate](self.linear(f"{name}.gate_proj", x))
        return self.linear(f"{name}.out_proj", joined)

    def dense(self, name: str, c: Mapping[str, Any], x: ndarray) -> ndarray:
        act = ACTIVATIONS[c["ff_activation"]]
        if f"{name}.fc1.linear.weight" in self.w:
            linear, gate = heads(self.linear(f"{name}.fc1.linear", x), 2)
            return self.linear(f"{name}.fc2", linear * act(gate))
        return self.linear(f"{name}.fc2", act(self.linear(f"{name}.fc1", x)))

    def expert(self, c: Mapping[str, Any], x: ndarray, w1, w2, b1=0.0, b2=0.0) -> ndarray:
        inner = x @ w1 + b1
        if c["use_gated"]:
            linear, gate = np.split(inner, 2, axis=-1)
            inner = linear * ACTIVATIONS[c["ff_activation"]](gate)
        else:
            inner = ACTIVATIONS[c["ff_activation"]](inner)
        return inner @ w2 + b2

    def feed_forward(self, name: str, c: Mapping[str, Any], x: ndarray) -> ndarray:
        if f"{name}.router.gate.weight" not in self.w:
            return self.dense(name, c, x)
        return np.stack([self.mixture(name, c, token) for token in x])

    def mixture(self, name: str, c: Mapping[str, Any], x: ndarray) -> ndarray:
        """One token through its experts."""
        w = self.w
        p = softmax(w[f"{name}.router.gate.weight"] @ x)
        chosen = sorted(range(len(p)), key=lambda e: -p[e])[: c["moe_top_k"]]
        total = sum(p[e] for e in chosen) + 1e-9
        routed = np.zeros_like(x)
        for e in chosen:
            biases = [w[f"{name}.{b}"][e] for b in ("b1", "b2")] if f"{name}.b1" in w else []
            expert = self.expert(c, x, w[f"{name}.w1"][e], w[f"{name}.w2"][e], *biases)
            routed += p[e] / total * expert
        routed += w.get(f"{name}.global_bias", 0.0)
        shared, n, k = self.shared(name, c, x), c["num_shared_experts"], c["moe_top_k"]
        if c.get("moe_use_weighted_shared_experts") and n:
            routed, shared = routed * k / (k + n), shared * n / (k + n)
        return routed + shared

    def shared(self, name: str, c: Mapping[str, Any], x: ndarray) -> ndarray:
        w, n = self.w, c["num_shared_experts"]
        if n == 0:
            return np.zeros_like(x)
        if n == 1:
            out = self.dense(f"{name}.shared_expert", c, x[None])[0]
        else:
            p = softmax(w[f"{name}.shared_expert_gate.weight"] @ x)
            out = np.zeros_like(x)
            for e in range(n):
                local = f"{name}.shared_b1" in w
                biases = [w[f"{name}.shared_{b}"][e] for b in ("b1", "b2")] if local else []
                w1, w2 = w[f"{name}.shared_w1"][e], w[f"{name}.shared_w2"][e]
                out += p[e] * self.expert(c, x, w1, w2, *biases)
        return out + w.get(f"{name}.shared_experts_bias", 0.0)

    def layer(
        self, name: str, c: Mapping[str, Any], x: ndarray, allowed: ndarray,
        stm: ndarray | None = None,
    ) -> ndarray:  # fmt: skip
        turn, gate = not c.get("use_nope", False), c.get("gated_attention_activation")
        normed = self.norm(f"{name}.norm1", x)
        x = x + self.attention(
            f"{name}.attention", c, normed, normed, allowed=allowed, turn_q=turn, turn_k=turn,
            gate=gate,
        )  # fmt: skip
        if stm is not None:
            slots = self.norm(f"{name}.stm_norm", stm)
            every = np.ones((len(x), len(slots)), bool)
            x = x + self.attention(
                f"{name}.memory_cross_attention", c, self.norm(f"{name}.norm2", x), slots,
                allowed=every, turn_q=turn, gate=gate,
            )  # fmt: skip
        return x + self.feed_forward(f"{name}.ff", c, self.norm(f"{name}.norm3", x))

    def logits(self, ids: ndarray, stm_LSD: ndarray) -> ndarray:
        c, allowed = self.decoder, causal(len(ids))
        x = self.w["decoder.model.embedding.weight"][ids]
        for i in range(len(c.get("stateless_layers_config") or ())):
            x = self.layer(f"decoder.model.stateless_layers.{i}", c, x, allowed)
        for i in range(c["num_layers"]):
            x = self.layer(f"decoder.model.layers.{i}", c, x, allowed, stm_LSD[i])
        for i in range(len(c.get("final_stateless_layers_config") or ())):
            x = self.layer(f"decoder.model.final_stateless_layers.{i}", c, x, allowed)
        if "decoder.model.head_norm.weight" in self.w:
            x = self.norm("decoder.model.head_norm", x)
        return self.linear("decoder.model.head", x)

    def encode(self, ids: ndarray) -> ndarray:
        x, every = self.w["encoder.model.embedding.weight"][ids], []
        for i in range(self.encoder["num_layers"]):
            allowed = np.ones((len(ids), len(ids)), bool)
            x = self.layer(f"encoder.model.layers.{i}", self.encoder, x, allowed)
            every.append(x)
        return np.stack(every)

    def attend(self, stm_LSD: ndarray, encoded_LTD: ndarray) -> ndarray:
        return np.stack([self.write(i, stm_LSD, e) for i, e in enumerate(encoded_LTD)])

    def write(self, i: int, stm_LSD: ndarray, encoded: ndarray) -> ndarray:
        old = self.mixed(i, stm_LSD)
        tokens = self.norm(self.m("memory_input_norm_layers", i), encoded)
        slots = self.memory_norm(self.m("memory_norm_layers", i), old)
        every = np.ones((len(slots), len(tokens)), bool)
        new = self.attention(
            self.m("attention_layers", i), self.memory, slots, tokens, allowed=every, turn_k=True
        )
        return self.gate(self.m("residual_gate_layers", i), old, new)

    def mixed(self, i: int, stm_LSD: ndarray) -> ndarray:
        old = stm_LSD[i]
        if self.variant == "simple":
            return old
        pre = "self" if self.variant == "self" else "mean"
        own = self.memory_norm(self.m(f"{pre}_memory_norm_layers", i), old)
        other = own
        if self.variant != "self":
            layers = len(stm_LSD)
            grouped = self.variant == "grouped-self-interlayer"
            size = layers // (self.memory["num_groups"] if grouped else 1)
            first = i // size * size
            mean = sum(stm_LSD[first : first + size]) / size
            other = self.memory_norm("memory_attention.model.mean_stm_norm", mean)
            if self.variant != "interlayer":
                other = self.gate(self.m("interlayer_gate_layers", i), own, other)
        every = np.ones((len(own), len(other)), bool)
        new = self.attention(
            self.m(f"{pre}_attention_layers", i), self.memory, own, other, allowed=every
        )
        if self.variant == "self" and not self.memory["use_gate_for_self_attention"]:
            return old + new
        return self.gate(self.m(f"{pre}_residual_gate_layers", i), old, new)

    @staticmethod
    def m(name: str, i: int) -> str:
        return f"memory_attention.model.{name}.{i}"

    def gate(self, name: str, old: ndarray, new: ndarray) -> ndarray:
        c, w = self.memory, self.w
        if c.get("disable_residual"):
            return new
        if not c["use_gated_residual"]:
            return new + old
        act = np.tanh if c["use_tanh_residual_gate"] else sigmoid
        both, slots = old + new, len(old)
        per_slot, kind = c["residual_per_slot_gate"], c["residual_gate_type"]
        if c["residual_gate_slot_status_type"] == "linear" and f"{name}.slot_status.weight" in w:
            status = self.linear(f"{name}.slot_status", both)[:, 0]
        else:
            status = np.array([row.mean() for row in both])
        out = np.empty_like(old)
        for s in range(slots):
            if kind == "static":
                logit = w[f"{name}.gate"][s, 0] if per_slot else w[f"{name}.gate"][0]
            elif kind == "elementwise":
                logit = (
                    w[f"{name}.gate"][s, 0] * status[s]
                    if per_slot
                    else w[f"{name}.gate"][0] * both.mean()
                )
            else:
                row = s if per_slot else 0
                logit = w[f"{name}.gate.weight"][row] @ status + w[f"{name}.gate.bias"][row]
            g = act(logit)
            keep = 1 + g if c["use_tanh_residual_gate"] else g
            out[s] = keep * new[s] + (1 - g) * old[s]
        return out

    def memory_norm(self, name: str, x: ndarray) -> ndarray:
        c, w = self.memory, self.w
        kind = c["norm_type"]
        if kind == "classic-rms":
            return self.norm(name, x)
        gate, scale = sigmoid(w[f"{name}.gate"]), w[f"{name}.scale"]
        if kind == "layer":
            y = self.norm(f"{name}.norm", x)
        else:
            r = np.sqrt((x**2).mean(-1, keepdims=True))
            if kind == "positional":
                r = w[f"{name}.ema_rms"]
            y = x / np.sqrt(r + 1e-6)
        return gate * (y * scale) + (1 - gate) * x
