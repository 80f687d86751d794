"""Configurations: frozen, nested, checked when they are built.

Head counts decide the kind of attention, all of them in one class::

    query heads  key/value heads   name
    H            H                 MHA      multi-head
    H            G < H             GQA      grouped-query
    H            1                 MQA      multi-query
    H/2          G <= H/2          SQA      sparse query: fewer query heads than the width has
    H/2          H/2               sSQA     symmetric sparse query
    <= H/4       the same          xSQA     extreme sparse query
    Q            G > Q             reversed sparse: every query head reads several kv heads

where H = embed_dim / head_dim. Sources: SQA, https://arxiv.org/abs/2510.01817; RxT,
https://arxiv.org/abs/2510.03561.
"""

from .memory import (
    GateActivation,
    GateKind,
    InitialMemory,
    MemoryConfig,
    MemoryNormKind,
    MemoryVariant,
)
from .models import LmConfig, RxtConfig
from .parts import (
    Activation,
    AttentionConfig,
    BiasKind,
    ExpertsConfig,
    NormKind,
    OutputGate,
    Rounding,
    StackConfig,
)

__all__ = [
    "Activation",
    "AttentionConfig",
    "BiasKind",
    "ExpertsConfig",
    "GateActivation",
    "GateKind",
    "InitialMemory",
    "LmConfig",
    "MemoryConfig",
    "MemoryNormKind",
    "MemoryVariant",
    "NormKind",
    "OutputGate",
    "Rounding",
    "RxtConfig",
    "StackConfig",
]
