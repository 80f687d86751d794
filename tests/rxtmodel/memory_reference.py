"""How a memory is written, once more in plain loops: one interaction, layer by layer."""

from __future__ import annotations

import numpy as np
from numpy import ndarray

from .reference import Reference, address, attend, heads, rms_norm, rotate, sigmoid


class MemoryReference(Reference):
    """``attend`` of a ``ReactiveTransformer`` in loops."""

    def attend(self, memory_LSD: ndarray, encoded_LTD: ndarray) -> ndarray:
        """The memory after an interaction, [L, S, D]."""
        write = self.write_delta if self.config.memory.variant == "delta" else self.write
        mixed = memory_LSD if self.config.memory.variant == "delta" else self.mix(memory_LSD)
        layers = range(self.config.num_layers)
        return np.stack([write(i, mixed[i], encoded_LTD[i]) for i in layers])

    def write(self, layer: int, memory: ndarray, encoded: ndarray) -> ndarray:
        """Published form: slots attend to tokens, then a gate."""
        queries = self.norm("memory_write.memory_norm", memory, layer)
        if self.config.memory.slot_ids:
            queries = queries + self.w["memory_write.slot_ids"][layer]
        tokens = self.norm("memory_write.input_norm", encoded, layer)
        update = self.stacked_attention("attention", layer, queries, tokens, positions=True)
        return self.gate("gate", layer, memory, update)

    def mix(self, memory_LSD: ndarray) -> ndarray:
        """What happens between the slots before an interaction is written."""
        memory, layers = self.config.memory, self.config.num_layers
        if memory.variant == "simple":
            return memory_LSD
        size = layers // (memory.num_groups if memory.variant.startswith("grouped") else 1)
        out = []
        for i in range(layers):
            own = self.norm("memory_write.pre_norm", memory_LSD[i], i)
            first = i // size * size
            mean = sum(memory_LSD[first : first + size]) / size
            other = own
            if memory.variant != "self":
                other = self.norm("memory_write.mean_norm", mean, 0)
            if memory.variant in ("self-interlayer", "grouped-self-interlayer"):
                other = self.gate("blend_gate", i, own, other)
            seen = self.stacked_attention("pre_attention", i, own, other, positions=False)
            out.append(self.gate("pre_gate", i, memory_LSD[i], seen))
        return np.stack(out)

    def stacked_attention(
        self, name: str, layer: int, x: ndarray, kv: ndarray, *, positions: bool
    ) -> ndarray:
        w, count = self.w, self.config.memory.num_heads
        name = f"memory_write.{name}"
        q, k, v = (
            heads(y @ w[f"{name}.{p}_proj.weight"][layer], count)
            for p, y in (("q", x), ("k", kv), ("v", kv))
        )
        null, out = w.get(f"{name}.null_key"), []
        for n in range(count):
            k_n = rotate(k[n], self.config.rope_base) if positions else k[n]
            v_n = v[n]
            if null is not None:
                k_n = np.concatenate((k_n, null[layer, n][None]))
                v_n = np.concatenate((v_n, np.zeros((1, v_n.shape[1]))))
            out.append(attend(q[n], k_n, v_n, np.ones((len(x), len(k_n)), bool)))
        return np.concatenate(out, axis=1) @ w[f"{name}.out_proj.weight"][layer]

    def gate(self, name: str, layer: int, old: ndarray, update: ndarray) -> ndarray:
        weights = {
            key.rpartition(f"memory_write.{name}.")[2]: value[layer]
            for key, value in self.w.items()
            if key.startswith(f"memory_write.{name}.")
        }
        memory = self.config.memory
        return gate(memory.gate, memory.gate_activation == "tanh", weights, old, update)

    def write_delta(self, layer: int, memory: ndarray, encoded: ndarray) -> ndarray:
        w, count = self.w, self.config.memory.num_heads
        x = self.norm("memory_write.input_norm", encoded, layer)
        k = heads(x @ w["memory_write.k_proj.weight"][layer], count)
        v = heads(x @ w["memory_write.v_proj.weight"][layer], count)
        strength = w["memory_write.strength.weight"][layer], w["memory_write.strength.bias"][layer]
        b = sigmoid(x @ strength[0] + strength[1])
        parts = heads(memory, count)
        return np.concatenate(
            [
                delta_write(parts[n], np.stack([address(row) for row in k[n]]), v[n], b[:, n])
                for n in range(count)
            ],
            axis=1,
        )


def delta_write(memory_SH: ndarray, k_TS: ndarray, v_TH: ndarray, b_T: ndarray) -> ndarray:
    """M + sum_t eta_t k_t (v_t - k_t M)^T, eta_t = b_t / max(1, sum_u b_u |k_t . k_u|)."""
    out = memory_SH.copy()
    for t, k in enumerate(k_TS):
        crowd = sum(b * abs(k @ other) for b, other in zip(b_T, k_TS, strict=True))
        wrong = v_TH[t] - k @ memory_SH
        for s in range(len(k)):
            out[s] += b_T[t] / max(1.0, crowd) * k[s] * wrong
    return out


def gate(
    kind: str, tanh: bool, weights: dict[str, ndarray], old: ndarray, update: ndarray
) -> ndarray:
    """How much of an update [S, D] replaces what was there."""
    if kind == "none":
        return old + update
    out = np.empty_like(old)
    slots, width = old.shape
    status = [sum(old[s] + update[s]) / width for s in range(slots)]
    for s in range(slots):
        if kind == "channel":
            both = np.concatenate((rms_norm(old[s], 1, 1e-16), rms_norm(update[s], 1, 1e-16)))
            g = sigmoid(both @ weights["mix.weight"] + weights["mix.bias"])
            out[s] = g * update[s] + (1 - g) * old[s]
            continue
        if kind == "static":
            logit = weights["weight"][s, 0]
        elif kind == "elementwise":
            logit = weights["weight"][s, 0] * status[s]
        else:
            logit = weights["mix.bias"][s]
            for r in range(slots):
                logit = logit + status[r] * weights["mix.weight"][r, s]
        if tanh:
            g = np.tanh(logit)
            out[s] = (1 + g) * update[s] + (1 - g) * old[s]
        else:
            g = sigmoid(logit)
            out[s] = g * update[s] + (1 - g) * old[s]
    return out
