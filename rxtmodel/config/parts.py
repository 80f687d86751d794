"""Configuration of the parts that decoder, encoder and language models are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .checks import (
    require,
    require_bool,
    require_number,
    require_one_of,
    require_part,
    require_part_or_none,
    require_positive,
    require_positive_or_none,
    require_whole,
    require_whole_or_none,
)

Activation = Literal["silu", "gelu", "relu", "sigmoid", "linear"]
OutputGate = Literal["none", "sigmoid", "silu", "gelu", "relu", "linear"]
NormKind = Literal["rms", "layer"]
BiasKind = Literal["global", "local", "off"]
Rounding = Literal["none", "bfloat16", "float16"]
RouterDtype = Literal["model", "float32", "bfloat16", "float16"]
StatelessKind = Literal["dense", "moe"]


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Head counts of one attention, and what stands around them."""

    num_query_heads: int
    num_kv_heads: int
    output_bias: bool = False
    """The output projection has a bias."""
    output_gate: OutputGate = "none"
    """What was attended to is multiplied by ``act(W x)`` before the output projection."""
    qk_norm: bool = False
    """RMSNorm over each head of queries and keys, before RoPE."""

    def __post_init__(self) -> None:
        require_whole(self, "num_query_heads", "num_kv_heads")
        require_one_of(self, "output_gate", OutputGate)
        require_bool(self, "output_bias", "qk_norm")
        q, kv = self.num_query_heads, self.num_kv_heads
        require(
            max(q, kv) % min(q, kv) == 0,
            f"of num_query_heads={q} and num_kv_heads={kv} one must be a multiple of the other",
        )

    @property
    def num_output_heads(self) -> int:
        """Heads that the output projection takes: the larger of both counts."""
        return max(self.num_query_heads, self.num_kv_heads)


@dataclass(frozen=True, kw_only=True)
class ExpertsConfig:
    """A mixture of experts in place of a feed-forward; each expert is ``ff_dim`` wide."""

    num_experts: int
    top_k: int
    """Experts that a token is sent to."""
    bias: BiasKind = "global"
    """"local": in every expert; "global": one for their sum; "off": none."""
    num_shared: int = 0
    """Experts that every token passes through, beside the routed ones."""
    shared_dim: int | None = None
    """Width of a shared expert; None: ``ff_dim``."""
    shared_bias: BiasKind = "local"
    weighted_shared: bool = False
    """Routed experts count K / (K + N), shared ones N / (K + N)."""
    router_dtype: RouterDtype = "model"
    """In which the router's product is computed."""

    def __post_init__(self) -> None:
        require_whole(self, "num_experts", "top_k")
        require_whole(self, "num_shared", least=0)
        require_whole_or_none(self, "shared_dim")
        require_one_of(self, "bias", BiasKind)
        require_one_of(self, "shared_bias", BiasKind)
        require_one_of(self, "router_dtype", RouterDtype)
        require_bool(self, "weighted_shared")
        require(
            self.top_k <= self.num_experts,
            f"top_k={self.top_k} must not exceed num_experts={self.num_experts}",
        )


@dataclass(frozen=True, kw_only=True)
class StackConfig:
    """A stack of layers: the encoder's, the decoder's, a language model's."""

    head_dim: int = 32
    attention: AttentionConfig = field(
        default_factory=lambda: AttentionConfig(num_query_heads=4, num_kv_heads=4)
    )
    """Self-attention."""
    ff_dim: int = 640
    gated: bool = True
    """``down(act(gate(x)) * up(x))``; else ``down(act(up(x)))``."""
    activation: Activation = "silu"
    ff_bias: bool = False
    experts: ExpertsConfig | None = None
    """None: a dense feed-forward."""
    norm: NormKind = "rms"
    norm_eps: float | None = 1e-6
    """None: machine epsilon of float32, also in shorter types (RMSNorm), 1e-5 (LayerNorm)."""
    rope_base: float = 10_000.0
    rope_rounding: Rounding = "none"
    """Angles as the published reference rounds them when it runs in that type. A checkpoint that
    was trained so has learned with them."""
    nope: bool = False
    """No positions at all in self-attention and memory read."""
    attention_dropout: float = 0.0
    ff_dropout: float = 0.0

    def __post_init__(self) -> None:
        require_whole(self, "head_dim", "ff_dim")
        require_part(self, AttentionConfig, "attention")
        require_part_or_none(self, ExpertsConfig, "experts")
        require_bool(self, "gated", "ff_bias", "nope")
        require_positive(self, "rope_base")
        require_positive_or_none(self, "norm_eps")
        require(self.head_dim % 2 == 0, f"head_dim must be even for RoPE, got {self.head_dim}")
        require_one_of(self, "activation", Activation)
        require_one_of(self, "norm", NormKind)
        require_one_of(self, "rope_rounding", Rounding)
        require_number(self, "attention_dropout", 0.0, 1.0)
        require_number(self, "ff_dropout", 0.0, 1.0)
