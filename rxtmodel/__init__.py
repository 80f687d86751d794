"""The Reactive Transformer: weights and pure functions of tensors.

    from rxtmodel import ReactiveTransformer, RxtConfig

    model = ReactiveTransformer(RxtConfig(vocab_size=2048))
    memory = model.initial_memory()                       # [L, B, S, D]
    logits = model(ids, memory)                           # [B, T, V]
    memory = model.attend(memory, model.encode(ids))      # a new value

Memory goes in and comes out; nothing is remembered in the module. Shape suffixes used everywhere:
L layers, B batch, T tokens, S slots, D width, N heads, V vocabulary.
"""

from .checkpoint import load_model, save_model
from .config import AttentionConfig, MemoryConfig, RxtConfig
from .errors import CheckpointError, ConfigError, RxtModelError
from .model import ReactiveTransformer
from .sampler import Sampler, SamplerConfig

__all__ = [
    "AttentionConfig",
    "CheckpointError",
    "ConfigError",
    "MemoryConfig",
    "ReactiveTransformer",
    "RxtConfig",
    "RxtModelError",
    "Sampler",
    "SamplerConfig",
    "load_model",
    "save_model",
]
