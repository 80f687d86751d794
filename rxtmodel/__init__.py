"""The Reactive Transformer: weights and pure functions of tensors.

    from rxtmodel import ReactiveTransformer, RxtConfig

    model = ReactiveTransformer(RxtConfig(vocab_size=2048))
    memory = model.initial_memory()                       # [L, B, S, D]
    logits = model(ids, memory)                           # [B, T, V]
    memory = model.attend(memory, model.encode(ids))      # a new value

Memory goes in and comes out; nothing is remembered in the module. Shape suffixes used everywhere:
L layers, B batch, T tokens, S slots, D width, N heads, V vocabulary.
"""

from .answers import (
    AnswerParts,
    AnswerReader,
    ToolCall,
    ToolCallError,
    parse_tool_calls,
    read_answer,
)
from .checkpoint import load_model, save_model
from .config import (
    AttentionConfig,
    ExpertsConfig,
    LmConfig,
    MemoryConfig,
    RxtConfig,
    StackConfig,
)
from .errors import BackendUnavailable, CheckpointError, ConfigError, RxtModelError
from .experts import Balance
from .heads import Critic, MlmHead
from .hub import use_hub
from .lm import SqaLM
from .model import ReactiveTransformer
from .presets import RxTAlpha, RxTBeta
from .sampler import Sampler, SamplerConfig
from .stops import StopStrings
from .template import TokenIds
from .transfer import extend_llama

__all__ = [
    "AnswerParts",
    "AnswerReader",
    "AttentionConfig",
    "BackendUnavailable",
    "Balance",
    "CheckpointError",
    "ConfigError",
    "Critic",
    "ExpertsConfig",
    "LmConfig",
    "MemoryConfig",
    "MlmHead",
    "ReactiveTransformer",
    "RxTAlpha",
    "RxTBeta",
    "RxtConfig",
    "RxtModelError",
    "Sampler",
    "SamplerConfig",
    "SqaLM",
    "StackConfig",
    "StopStrings",
    "TokenIds",
    "ToolCall",
    "ToolCallError",
    "extend_llama",
    "load_model",
    "parse_tool_calls",
    "read_answer",
    "save_model",
    "use_hub",
]
