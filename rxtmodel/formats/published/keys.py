"""The names and layouts of weights: ours, and those of the published files.

Ours hold what is the same in every memory-attention layer in one tensor [L, ...] and products as
[in, out]; published files have a key for each layer and products as [out, in]. Gated products are
[gate; up] here and [up; gate] there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from ...errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from ...config import RxtConfig, StackConfig

Layout = Literal["same", "swap rows", "swap columns", "transpose", "one", "memory"]


def _swap_rows(x: Tensor) -> Tensor:
    return torch.cat(x.chunk(2)[::-1])


def _swap_columns(x: Tensor) -> Tensor:
    return torch.cat(x.chunk(2, dim=-1)[::-1], dim=-1)


_PART: dict[str, Callable[[Tensor], Tensor]] = {
    "same": lambda x: x,
    "swap rows": _swap_rows,
    "swap columns": _swap_columns,
    "transpose": lambda x: x.T,
}
"""Of one part, in both directions."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One of our weights and the published keys that hold it, in the order of layers."""

    ours: str
    published: tuple[str, ...]
    layout: Layout
    stacked: bool
    """Our tensor has a first dimension of layers, each with a key of its own."""

    def write(self, weight: Tensor) -> list[Tensor]:
        """The published tensors of ours."""
        if self.layout == "memory":
            return [weight[:, None]]
        if self.layout == "one":
            return [weight[0]]
        parts = weight.unbind() if self.stacked else (weight,)
        return [_PART[self.layout](part) for part in parts]

    def read(self, parts: Sequence[Tensor]) -> Tensor:
        """Ours of the published ones."""
        if self.layout == "memory":
            return parts[0][:, 0]
        if self.layout == "one":
            return parts[0][None]
        done = [_PART[self.layout](part) for part in parts]
        return torch.stack(done) if self.stacked else done[0]

    def shapes(self, shape: Sequence[int]) -> list[torch.Size]:
        """Shapes of the published tensors for ours of ``shape``."""
        return [part.shape for part in self.write(torch.empty(shape, device="meta"))]


_STACKS = {
    "decoder": "decoder.model.layers",
    "stateless_before": "decoder.model.stateless_layers",
    "stateless_after": "decoder.model.final_stateless_layers",
    "encoder": "encoder.model.layers",
}
_IN_LAYER = {
    "attention_norm": "norm1",
    "memory_norm": "norm2",
    "ff_norm": "norm3",
    "memory_read.norm": "stm_norm",
    "attention": "attention",
    "memory_read.attention": "memory_cross_attention",
}
_TOP = {
    "embedding": "decoder.model.embedding",
    "encoder_embedding": "encoder.model.embedding",
    "final_norm": "decoder.model.head_norm",
    "head": "decoder.model.head",
}
_DENSE = {"gate_up": "fc1.linear", "down": "fc2", "up": "fc1"}
_EXPERTS = {
    "router.weight": "router.gate.weight",
    "bias": "global_bias",
    "shared_bias": "shared_experts_bias",
    "shared_gate.weight": "shared_expert_gate.weight",
    "routed.up.weight": "w1", "routed.up.bias": "b1",
    "routed.down.weight": "w2", "routed.down.bias": "b2",
    "shared.up.weight": "shared_w1", "shared.up.bias": "shared_b1",
    "shared.down.weight": "shared_w2", "shared.down.bias": "shared_b2",
}  # fmt: skip
_MEMORY_NORM = {
    "weight": "weight", "gate": "gate", "scale": "scale", "ema": "ema_rms"
}  # fmt: skip
_GATE = {
    "weight": "gate", "mix.weight": "gate.weight", "mix.bias": "gate.bias",
    "status.weight": "slot_status.weight", "status.bias": "slot_status.bias",
}  # fmt: skip


def entries(names: Sequence[str], config: RxtConfig) -> list[Entry]:
    """Where each of a model's weights stands. CheckpointError names one that has no place."""
    return [_entry(name, config) for name in names]


def _entry(name: str, config: RxtConfig) -> Entry:
    if name == "memory_init":
        return Entry(name, ("decoder.model.stm.memory",), "memory", False)
    head, _, rest = name.partition(".")
    if head == "memory_write":
        return _memory_entry(name, rest, config)
    if head in _STACKS:
        index, _, rest = rest.partition(".")
        stack = config.encoder_stack if head == "encoder" else config
        place, layout = _layer_key(rest, stack)
        return Entry(name, (f"{_STACKS[head]}.{index}.{place}",), layout, False)
    if head in _TOP:
        return Entry(name, (f"{_TOP[head]}.{rest}",), "same", False)
    raise CheckpointError(f"the published format has no place for the weight {name}")


def _layer_key(name: str, config: StackConfig) -> tuple[str, Layout]:
    module, _, leaf = name.rpartition(".")
    if name.startswith("ff."):
        return _feed_forward_key(name.removeprefix("ff."), config)
    for ours, theirs in _IN_LAYER.items():
        if re.fullmatch(rf"{re.escape(ours)}(\.\w+)?", module):
            return f"{theirs}{module[len(ours) :]}.{leaf}", "same"
    raise CheckpointError(f"the published format has no place for a layer's weight {name}")


def _feed_forward_key(name: str, config: StackConfig) -> tuple[str, Layout]:
    one_shared = config.experts is not None and config.experts.num_shared == 1
    if name in _EXPERTS and not (one_shared and name.startswith("shared.")):
        up = name in ("routed.up.weight", "routed.up.bias", "shared.up.weight", "shared.up.bias")
        gated = up and config.gated
        return f"ff.{_EXPERTS[name]}", "swap columns" if gated else "same"
    place = "ff."
    if name.startswith("shared."):
        name, place = name.removeprefix("shared."), "ff.shared_expert."
    module, _, leaf = name.partition(".")
    layout: Layout = "swap rows" if module == "gate_up" else "same"
    return f"{place}{_DENSE[module]}.{leaf}", layout


def _memory_entry(name: str, rest: str, config: RxtConfig) -> Entry:
    part, _, leaf = rest.partition(".")
    pre = "self" if config.memory.variant == "self" else "mean"
    layout: Layout = "same"
    if part in ("attention", "pre_attention"):
        place = "attention_layers" if part == "attention" else f"{pre}_attention_layers"
        layout = "transpose" if leaf.endswith("proj.weight") else "same"
    elif part in ("memory_norm", "pre_norm", "mean_norm"):
        place = {
            "memory_norm": "memory_norm_layers", "pre_norm": f"{pre}_memory_norm_layers",
            "mean_norm": "mean_stm_norm",
        }[part]  # fmt: skip
        if config.memory.norm == "layer" and leaf in ("weight", "bias"):
            leaf = f"norm.{leaf}"
        else:
            leaf = _MEMORY_NORM[leaf]
    elif part == "input_norm":
        place = "memory_input_norm_layers"
    elif part in ("gate", "pre_gate", "blend_gate"):
        place = {
            "gate": "residual_gate_layers", "pre_gate": f"{pre}_residual_gate_layers",
            "blend_gate": "interlayer_gate_layers",
        }[part]  # fmt: skip
        layout = "transpose" if leaf in ("mix.weight", "status.weight") else "same"
        leaf = _GATE[leaf]
    else:
        raise CheckpointError(f"the published format has no place for the weight {name}")
    place = f"memory_attention.model.{place}"
    if part == "mean_norm":
        return Entry(name, (f"{place}.{leaf}",), "one", False)
    keys = tuple(f"{place}.{i}.{leaf}" for i in range(config.num_layers))
    return Entry(name, keys, layout, True)


def mapping(
    shapes: Mapping[str, Sequence[int]], config: RxtConfig
) -> tuple[list[Entry], dict[str, torch.Size]]:
    """Entries of a model's weights, and the published keys with their shapes."""
    found = entries(list(shapes), config)
    published = {
        key: shape
        for entry in found
        for key, shape in zip(entry.published, entry.shapes(shapes[entry.ours]), strict=True)
    }
    return found, published
