"""Configuration of the short-term memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .checks import (
    require,
    require_bool,
    require_finite,
    require_number,
    require_one_of,
    require_part_or_none,
    require_positive_or_none,
    require_whole,
    require_whole_or_none,
)
from .parts import AttentionConfig

MemoryVariant = Literal[
    "simple", "self", "interlayer", "self-interlayer", "grouped-self-interlayer", "delta"
]
GateKind = Literal["none", "replace", "static", "elementwise", "linear", "channel"]
GateActivation = Literal["sigmoid", "tanh"]
SlotStatus = Literal["mean", "linear"]
MemoryNormKind = Literal["classic-rms", "rms", "adaptive", "positional", "layer"]
InitialMemory = Literal["standard", "normal", "uniform", "ones", "zeros"]


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The short-term memory: its size, how it is written and read."""

    num_slots: int = 64
    """S. In the "delta" variant a slot is one feature of the address space."""
    variant: MemoryVariant = "interlayer"
    """The published forms of memory attention, or "delta", our fast-weight rule."""
    num_heads: int = 8
    """Heads of memory write and read. In the "delta" variant each has its own address space."""
    num_groups: int = 1
    """Layer groups of "grouped-self-interlayer"."""
    read: AttentionConfig | None = None
    """How decoder layers attend to slots; None: ``num_heads`` query and key/value heads."""
    write: AttentionConfig | None = None
    """How slots attend to an interaction; None: as ``read``'s None."""
    mix: AttentionConfig | None = None
    """How slots attend to slots before that; None: as ``write``."""
    head_dim: int | None = None
    """Head width of ``write`` and ``mix``; None: the decoder's."""
    rope_base: float | None = None
    """Of the positions that ``write``'s keys carry; None: the decoder's."""
    write_dropout: float = 0.0
    mix_dropout: float = 0.0
    norm: MemoryNormKind = "classic-rms"
    """How slots are normalised before they attend."""
    norm_gate_init: float = -2.0
    norm_decay: float = 0.9
    """Of the running means of "adaptive" and "positional"."""
    norm_per_dim_scale: bool = False
    """Scale of "positional": for each channel, else for each slot."""
    gate: GateKind = "linear"
    """Residual gate: "static", "elementwise", "linear" as published; "channel" is a gate for each
    slot and channel from [old; update]; "none" adds the update, "replace" takes it."""
    gate_activation: GateActivation = "sigmoid"
    gate_init: float = 3.0
    """Initial gate weight of the published gates; initial bias of "channel" (negative keeps)."""
    gate_per_slot: bool = True
    """One gate for each slot; else one for a layer."""
    gate_status: SlotStatus = "mean"
    """What a gate sees of a slot: the mean of its channels, or a learned product with them."""
    gate_self_step: bool = True
    """In "self", slots among themselves are gated too; else that step is added."""
    slot_ids: bool = False
    """Add a learned identity to every slot where memory is addressed."""
    null_key: bool = False
    """A learned key with zero value, so that a slot can decide not to write."""
    learned_init: bool = True
    """The initial memory is a parameter; else it stays as it was drawn."""
    initial: InitialMemory = "standard"
    """Drawn from N(0, 1), N(0, 0.01^2), U[0, 0.01), or constant; the same for everyone."""

    def __post_init__(self) -> None:
        require_whole(self, "num_slots", "num_heads", "num_groups")
        require_whole_or_none(self, "head_dim")
        for name, choices in (
            ("variant", MemoryVariant),
            ("gate", GateKind),
            ("gate_activation", GateActivation),
            ("gate_status", SlotStatus),
            ("norm", MemoryNormKind),
            ("initial", InitialMemory),
        ):
            require_one_of(self, name, choices)
        require_bool(
            self, "norm_per_dim_scale", "gate_per_slot", "gate_self_step", "slot_ids", "null_key",
            "learned_init",
        )  # fmt: skip
        require_part_or_none(self, AttentionConfig, "read", "write", "mix")
        require(
            self.variant == "delta" or self.head_dim is None or self.head_dim % 2 == 0,
            f"memory head_dim must be even for RoPE, got {self.head_dim}",
        )
        require_positive_or_none(self, "rope_base")
        require_finite(self, "gate_init", "norm_gate_init")
        require_number(self, "norm_decay", 0.0, 1.0)
        require_number(self, "write_dropout", 0.0, 1.0)
        require_number(self, "mix_dropout", 0.0, 1.0)
