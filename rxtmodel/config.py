"""Configuration of a Reactive Transformer: frozen, nested, checked when it is built.

Head counts decide the kind of attention, all of them in one class::

    query heads  key/value heads   name
    H            H                 MHA      multi-head
    H            G < H             GQA      grouped-query
    H            1                 MQA      multi-query
    H/2          G <= H/2          SQA      sparse query: fewer query heads than the width has
    H/2          H/2               sSQA     symmetric sparse query
    <= H/4       the same          xSQA     extreme sparse query

where H = embed_dim / head_dim. Sources: SQA, https://arxiv.org/abs/2510.01817; RxT,
https://arxiv.org/abs/2510.03561.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from .errors import ConfigError

MemoryVariant = Literal[
    "simple", "self", "interlayer", "self-interlayer", "grouped-self-interlayer", "delta"
]
GateKind = Literal["none", "static", "elementwise", "linear", "channel"]
GateActivation = Literal["sigmoid", "tanh"]


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        _require(whole and value >= 1, f"{name} must be a whole number >= 1, got {value!r}")


def _require_one_of(config: Any, name: str, choices: Any) -> None:
    value, known = getattr(config, name), get_args(choices)
    _require(value in known, f"{name} must be one of {', '.join(known)}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Head counts of one attention."""

    num_query_heads: int
    num_kv_heads: int

    def __post_init__(self) -> None:
        _require_positive(self, "num_query_heads", "num_kv_heads")
        q, kv = self.num_query_heads, self.num_kv_heads
        _require(
            q % kv == 0,
            f"num_query_heads={q} must be a multiple of num_kv_heads={kv}",
        )


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
    gate: GateKind = "linear"
    """Residual gate: "static", "elementwise", "linear" as published; "channel" is a gate for each
    slot and channel from [old; update]; "none" adds the update."""
    gate_activation: GateActivation = "sigmoid"
    gate_init: float = 3.0
    """Initial gate weight of the published gates; initial bias of "channel" (negative keeps)."""
    slot_ids: bool = False
    """Add a learned identity to every slot where memory is addressed."""
    null_key: bool = False
    """A learned key with zero value, so that a slot can decide not to write."""
    learned_init: bool = True
    """The initial memory is a parameter; else drawn from N(0, 1) with a fixed seed."""

    def __post_init__(self) -> None:
        _require_positive(self, "num_slots", "num_heads", "num_groups")
        _require_one_of(self, "variant", MemoryVariant)
        _require_one_of(self, "gate", GateKind)
        _require_one_of(self, "gate_activation", GateActivation)


@dataclass(frozen=True, kw_only=True)
class RxtConfig:
    """A whole Reactive Transformer."""

    vocab_size: int
    embed_dim: int = 256
    num_layers: int = 4
    """L: layers of encoder, decoder and memory alike."""
    head_dim: int = 32
    attention: AttentionConfig = field(
        default_factory=lambda: AttentionConfig(num_query_heads=4, num_kv_heads=4)
    )
    """Self-attention of encoder and decoder."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    ff_dim: int = 640
    encoder_ff_dim: int | None = None
    """None: the same as ``ff_dim``."""
    max_seq_len: int = 512
    """Longest interaction (query and answer), in tokens."""
    rope_base: float = 10_000.0
    norm_eps: float = 1e-6
    tie_head: bool = True
    """The output head shares the embedding; else a Linear with bias, as published."""
    final_norm: bool = True
    """RMSNorm before the head."""

    def __post_init__(self) -> None:
        _require_positive(
            self, "vocab_size", "embed_dim", "num_layers", "head_dim", "ff_dim", "max_seq_len"
        )
        if self.encoder_ff_dim is not None:
            _require_positive(self, "encoder_ff_dim")
        _require(self.head_dim % 2 == 0, f"head_dim must be even for RoPE, got {self.head_dim}")
        heads = self.memory.num_heads
        _require(
            self.embed_dim % heads == 0,
            f"embed_dim={self.embed_dim} must be a multiple of memory num_heads={heads}",
        )
        # Memory keys and queries are rotated by the same table as those of self-attention.
        _require(
            self.memory.variant == "delta" or self.embed_dim == heads * self.head_dim,
            f"embed_dim={self.embed_dim} must be memory num_heads={heads} "
            f"times head_dim={self.head_dim}",
        )
        groups = self.memory.num_groups
        _require(
            self.num_layers % groups == 0,
            f"num_layers={self.num_layers} must be a multiple of num_groups={groups}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Every field, defaults included, as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RxtConfig:
        """Inverse of ``to_dict``. Unknown or missing keys raise ConfigError naming them."""
        return _build(cls, data, {"attention": AttentionConfig, "memory": MemoryConfig})

    @property
    def memory_shape(self) -> tuple[int, int, int]:
        """Layers, slots, width of one memory."""
        return self.num_layers, self.memory.num_slots, self.embed_dim

    def fingerprint(self) -> str:
        """SHA-256 over everything that shapes the model, as canonical JSON."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _build(cls: type, data: dict[str, Any], nested: dict[str, type] | None = None) -> Any:
    if not isinstance(data, dict):
        raise ConfigError(f"{cls.__name__} needs an object, got {type(data).__name__}")
    known = {f.name for f in dataclasses.fields(cls)}
    if unknown := sorted(set(data) - known):
        raise ConfigError(f"{cls.__name__} has no field {', '.join(unknown)}")
    values = dict(data)
    for name, inner in (nested or {}).items():
        if name in values:
            values[name] = _build(inner, values[name])
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from error
