"""The hub format of the reference implementation: nested configs, a key for every layer.

    config.json         decoder_config, encoder_config, memory_attention_config, tokenizer_config,
                        each with only the keys that its author passed: defaults depend on the
                        version that wrote it, so reading takes a profile of that version
    model.safetensors   decoder.model.*, encoder.model.*, memory_attention.model.*

What the tensors themselves say (head counts of the memory read, layout and biases of experts,
shared experts, the variant of memory attention) is taken from them, not from the config.
"""

from .profiles import DEFAULT_PROFILE, PROFILES
from .read import is_published, join_components, read_published
from .write import write_published

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILES",
    "is_published",
    "join_components",
    "read_published",
    "write_published",
]
