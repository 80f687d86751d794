"""Configuration of whole models, and their JSON form."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Self

from ..errors import ConfigError
from ..template import TokenIds
from .checks import (
    require,
    require_bool,
    require_one_of,
    require_part,
    require_part_or_none,
    require_tokens,
    require_whole,
    require_whole_or_none,
)
from .memory import MemoryConfig
from .parts import AttentionConfig, ExpertsConfig, NormKind, StackConfig, StatelessKind


@dataclass(frozen=True, kw_only=True)
class LmConfig(StackConfig):
    """A decoder-only language model, ``SqaLM``."""

    vocab_size: int
    embed_dim: int = 256
    num_layers: int = 4
    max_seq_len: int = 512
    """Longest sequence, in tokens."""
    tie_head: bool = True
    """The output head shares the embedding; else a Linear, as published."""
    head_bias: bool = True
    """Of a head that is not shared."""
    final_norm: bool = True
    """A norm before the head."""
    final_norm_kind: NormKind | None = None
    """None: as ``norm``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_whole(self, "vocab_size", "embed_dim", "num_layers", "max_seq_len")
        require_bool(self, "tie_head", "head_bias", "final_norm")
        if self.final_norm_kind is not None:
            require_one_of(self, "final_norm_kind", NormKind)

    @property
    def num_causal_layers(self) -> int:
        """Layers that keep keys and values of earlier tokens."""
        return self.num_layers

    def to_dict(self) -> dict[str, Any]:
        """Every field, defaults included, as JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Inverse of ``to_dict``. Unknown or missing keys raise ConfigError naming them."""
        return _build(cls, data)

    def fingerprint(self) -> str:
        """SHA-256 over everything that shapes the model, as canonical JSON.

        Fields that came with version 2 of the files count only where they are not neutral: a model
        of version 1 keeps its fingerprint, and with it the memories that people saved. What a model
        was trained for does not shape it.
        """
        data = _without_neutral(self.to_dict(), NEW_IN_2)
        data = {name: value for name, value in data.items() if name not in NEW_IN_3 | NEW_IN_4}
        canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RxtConfig(LmConfig):
    """A whole Reactive Transformer. The fields of a stack are the decoder's."""

    memory: MemoryConfig = field(default_factory=MemoryConfig)
    encoder: StackConfig | None = None
    """None: as the decoder, but dense, without output gates, ``encoder_ff_dim`` wide."""
    encoder_ff_dim: int | None = None
    """None: the same as ``ff_dim``."""
    stateless_before: tuple[StatelessKind, ...] = ()
    """Decoder layers that do not read the memory, before those that do."""
    stateless_after: tuple[StatelessKind, ...] = ()
    stateless_dim: int | None = None
    """Feed-forward width of their "dense" kind; None: ``ff_dim``."""
    share_embedding: bool = True
    """Encoder and decoder have one embedding."""
    tokens: TokenIds = field(default_factory=TokenIds)
    """Ids of the template's special tokens."""
    thinks: bool = False
    """Trained to think before it answers, after ``[T]``."""
    calls_tools: bool = False
    """Trained to call tools with ``[C]``, and to read their results after ``[U]``."""
    instructed: bool = False
    """Trained to follow an instruction before the query, after ``[I]``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_part(self, MemoryConfig, "memory")
        require_part(self, TokenIds, "tokens")
        require_part_or_none(self, StackConfig, "encoder")
        require_bool(self, "share_embedding", "thinks", "calls_tools", "instructed")
        tokens = self.tokens
        require(not self.thinks or tokens.think is not None, "thinks needs a think token")
        both = tokens.tool_call is not None and tokens.tool_use is not None
        require(not self.calls_tools or both, "calls_tools needs tokens tool_call and tool_use")
        require(
            not self.instructed or tokens.internal is not None, "instructed needs an internal token"
        )
        used = ["query", "answer"] + ["think"] * self.thinks + ["internal"] * self.instructed
        used += ["tool_use", "tool_call"] * self.calls_tools
        require_tokens(tokens, self.vocab_size, used)
        require_whole_or_none(self, "encoder_ff_dim", "stateless_dim")
        memory, heads = self.memory, self.memory.num_heads
        require(
            self.embed_dim % heads == 0,
            f"embed_dim={self.embed_dim} must be a multiple of memory num_heads={heads}",
        )
        own_heads = memory.read is not None and memory.write is not None
        require(
            memory.variant == "delta" or own_heads or self.embed_dim == heads * self.head_dim,
            f"embed_dim={self.embed_dim} must be memory num_heads={heads} "
            f"times head_dim={self.head_dim}",
        )
        groups = memory.num_groups
        require(
            self.num_layers % groups == 0,
            f"num_layers={self.num_layers} must be a multiple of num_groups={groups}",
        )
        for name in ("stateless_before", "stateless_after"):
            kinds = getattr(self, name)
            require(
                isinstance(kinds, tuple | list) and all(kind in ("dense", "moe") for kind in kinds),
                f"{name} must hold stateless layers, 'dense' or 'moe', got {kinds!r}",
            )
        stateless = (*self.stateless_before, *self.stateless_after)
        require(
            "moe" not in stateless or self.experts is not None,
            "stateless layers of kind 'moe' need experts",
        )

    def to_dict(self) -> dict[str, Any]:
        """See ``LmConfig.to_dict``."""
        return {**super().to_dict(), "tokens": self.tokens.to_dict()}

    @property
    def encoder_stack(self) -> StackConfig:
        """What the encoder's layers are made of."""
        if self.encoder is not None:
            return self.encoder
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(StackConfig)}
        attention = dataclasses.replace(self.attention, output_gate="none")
        width = self.encoder_ff_dim or self.ff_dim
        return StackConfig(**{**fields, "ff_dim": width, "experts": None, "attention": attention})

    @property
    def num_causal_layers(self) -> int:
        """Decoder layers, those without memory included."""
        return len(self.stateless_before) + self.num_layers + len(self.stateless_after)

    @property
    def memory_shape(self) -> tuple[int, int, int]:
        """Layers, slots, width of one memory."""
        return self.num_layers, self.memory.num_slots, self.embed_dim

    @property
    def memory_head_dim(self) -> int:
        """Head width of memory attention."""
        return self.memory.head_dim or self.head_dim


_NESTED: dict[str, type] = {
    "attention": AttentionConfig,
    "read": AttentionConfig,
    "write": AttentionConfig,
    "mix": AttentionConfig,
    "experts": ExpertsConfig,
    "encoder": StackConfig,
    "memory": MemoryConfig,
    "tokens": TokenIds,
}


def _build(cls: type, data: Any) -> Any:
    if not isinstance(data, dict):
        raise ConfigError(f"{cls.__name__} needs an object, got {type(data).__name__}")
    known = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(set(data) - set(known)):
        raise ConfigError(f"{cls.__name__} has no field {', '.join(unknown)}")
    values = dict(data)
    for name, value in data.items():
        if isinstance(value, list):
            values[name] = tuple(value)
        if name in _NESTED and not (value is None and known[name].default is None):
            values[name] = _build(_NESTED[name], value)
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from error


NEW_IN_2: dict[str, Any] = {
    "attention": {"output_bias": False, "output_gate": "none", "qk_norm": False},
    "memory": {
        "read": None, "write": None, "mix": None, "head_dim": None, "rope_base": None,
        "write_dropout": 0.0, "mix_dropout": 0.0, "norm": "classic-rms", "norm_gate_init": -2.0,
        "norm_decay": 0.9, "norm_per_dim_scale": False, "gate_per_slot": True,
        "gate_status": "mean", "gate_self_step": True, "initial": "standard",
    },
    "gated": True, "activation": "silu", "ff_bias": False, "experts": None, "norm": "rms",
    "rope_rounding": "none", "nope": False, "attention_dropout": 0.0, "ff_dropout": 0.0,
    "head_bias": True, "final_norm_kind": None, "encoder": None, "stateless_before": (),
    "stateless_after": (), "stateless_dim": None, "share_embedding": True,
    "tokens": TokenIds().to_dict(),
}  # fmt: skip
"""Fields that files of version 1 do not have, with the values that they stood for. Never changes,
whatever the defaults become."""

NEW_IN_3: dict[str, Any] = {"thinks": False, "calls_tools": False}
"""The same of version 2, of a ``RxtConfig``."""

NEW_IN_4: dict[str, Any] = {"instructed": False}
"""The same of version 3."""


def _without_neutral(data: dict[str, Any], neutral: dict[str, Any]) -> dict[str, Any]:
    kept = {}
    for name, value in data.items():
        new = neutral.get(name, ...)
        if isinstance(new, dict) and isinstance(value, dict) and value != new:
            value = _without_neutral(value, new)
        elif new is not ... and value == new:
            continue
        kept[name] = value
    return kept
