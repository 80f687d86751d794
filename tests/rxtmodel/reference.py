"""The model's formulas once more, in plain loops over float64 numbers, one sequence at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy import ndarray
from torch import nn


def rms_norm(x: ndarray, scale: ndarray | float, eps: float) -> ndarray:
    """x / sqrt(mean(x^2) + eps) * scale for each row of x."""
    out = np.empty_like(x)
    for i in np.ndindex(x.shape[:-1]):
        out[i] = x[i] / math.sqrt(sum(v * v for v in x[i]) / len(x[i]) + eps)
    return out * scale


def silu(x: ndarray) -> ndarray:
    return x / (1 + np.exp(-x))


def sigmoid(x: ndarray) -> ndarray:
    return 1 / (1 + np.exp(-x))


def rotate(x_TH: ndarray, base: float, start: int = 0) -> ndarray:
    """Turn the pair (2j, 2j + 1) of the token at position t by t / base^(2j / H) radians."""
    out = np.empty_like(x_TH)
    for t, row in enumerate(x_TH):
        for j in range(0, len(row), 2):
            angle = (start + t) / base ** (j / len(row))
            turn = complex(row[j], row[j + 1]) * complex(math.cos(angle), math.sin(angle))
            out[t, j], out[t, j + 1] = turn.real, turn.imag
    return out


def attend(q_TH: ndarray, k_KH: ndarray, v_KH: ndarray, allowed: ndarray) -> ndarray:
    """Softmax attention of one head; ``allowed[t, k]`` says whether t may look at k."""
    out = np.zeros((len(q_TH), v_KH.shape[1]))
    for t, q in enumerate(q_TH):
        seen = [k for k in range(len(k_KH)) if allowed[t, k]]
        scores = [float(q @ k_KH[k]) / math.sqrt(len(q)) for k in seen]
        weights = [math.exp(score - max(scores)) for score in scores]
        for k, weight in zip(seen, weights, strict=True):
            out[t] += weight / sum(weights) * v_KH[k]
    return out


def heads(x: ndarray, count: int) -> list[ndarray]:
    """[T, N * H] as N arrays [T, H]."""
    return np.split(x, count, axis=1)


def causal(length: int) -> ndarray:
    return np.array([[k <= t for k in range(length)] for t in range(length)])


class Reference:
    """A ``ReactiveTransformer`` of loops, with the weights of a real one."""

    def __init__(self, model: nn.Module) -> None:
        self.config = model.config
        self.w = {n: p.detach().double().numpy() for n, p in model.state_dict().items()}

    def self_attention(self, name: str, x: ndarray, allowed: ndarray) -> ndarray:
        c, w = self.config.attention, self.w
        q = heads(x @ w[f"{name}.q_proj.weight"].T, c.num_query_heads)
        k = heads(x @ w[f"{name}.k_proj.weight"].T, c.num_kv_heads)
        v = heads(x @ w[f"{name}.v_proj.weight"].T, c.num_kv_heads)
        base, shared, out = self.config.rope_base, c.num_query_heads // c.num_kv_heads, []
        for n, q_n in enumerate(q):
            g = n // shared
            out.append(attend(rotate(q_n, base), rotate(k[g], base), v[g], allowed))
        return np.concatenate(out, axis=1) @ w[f"{name}.out_proj.weight"].T

    def feed_forward(self, name: str, x: ndarray) -> ndarray:
        gate, up = heads(x @ self.w[f"{name}.gate_up.weight"].T, 2)
        return (silu(gate) * up) @ self.w[f"{name}.down.weight"].T

    def norm(self, name: str, x: ndarray, layer: int | None = None) -> ndarray:
        weight = self.w[f"{name}.weight"]
        return rms_norm(x, weight if layer is None else weight[layer], self.config.norm_eps)

    def encode(self, ids: ndarray) -> ndarray:
        """[L, T, D]; every token sees every other."""
        x, outputs = self.w["embedding.weight"][ids], []
        everyone = np.ones((len(ids), len(ids)), bool)
        for i in range(self.config.num_layers):
            name = f"encoder.{i}"
            normed = self.norm(f"{name}.attention_norm", x)
            x = x + self.self_attention(f"{name}.attention", normed, everyone)
            x = x + self.feed_forward(f"{name}.ff", self.norm(f"{name}.ff_norm", x))
            outputs.append(x)
        return np.stack(outputs)

    def logits(self, ids: ndarray, memory_LSD: ndarray | None) -> ndarray:
        """[T, V]"""
        x = self.w["embedding.weight"][ids]
        for i in range(self.config.num_layers):
            name = f"decoder.{i}"
            normed = self.norm(f"{name}.attention_norm", x)
            x = x + self.self_attention(f"{name}.attention", normed, causal(len(ids)))
            if memory_LSD is not None:
                normed = self.norm(f"{name}.memory_norm", x)
                x = x + self.memory_read(f"{name}.memory_read", normed, memory_LSD[i])
            x = x + self.feed_forward(f"{name}.ff", self.norm(f"{name}.ff_norm", x))
        if self.config.final_norm:
            x = self.norm("final_norm", x)
        if self.config.tie_head:
            return x @ self.w["embedding.weight"].T
        return x @ self.w["head.weight"].T + self.w["head.bias"]

    def memory_read(self, name: str, x: ndarray, slots: ndarray) -> ndarray:
        w, memory = self.w, self.config.memory
        if memory.variant == "delta":
            out = []
            queries = heads(x @ w[f"{name}.q_proj.weight"].T, memory.num_heads)
            for q, part in zip(queries, heads(slots, memory.num_heads), strict=True):
                out.append(np.stack([address(row) @ part for row in q]))
            return np.concatenate(out, axis=1) @ w[f"{name}.out_proj.weight"].T
        slots = self.norm(f"{name}.norm", slots)
        if memory.slot_ids:
            slots = slots + w[f"{name}.slot_ids"]
        q, k, v = (
            heads(y @ w[f"{name}.attention.{p}_proj.weight"].T, memory.num_heads)
            for p, y in (("q", x), ("k", slots), ("v", slots))
        )
        allowed = np.ones((len(x), len(slots)), bool)
        parts = [
            attend(rotate(a, self.config.rope_base), b, c, allowed)
            for a, b, c in zip(q, k, v, strict=True)
        ]
        return np.concatenate(parts, axis=1) @ w[f"{name}.attention.out_proj.weight"].T


def address(x: ndarray) -> ndarray:
    """SiLU, then a unit vector; the floor keeps a vanishing one from being blown up."""
    x = silu(x)
    return x / math.sqrt(sum(v * v for v in x) + 1e-6)
