"""The hub format of the reference implementation: nested configs, a key for every layer.

    config.json         decoder_config, encoder_config, memory_attention_config, tokenizer_config,
                        each with only the keys that its author passed: defaults depend on the
                        version that wrote it, so reading takes a profile of that version
    model.safetensors   decoder.model.*, encoder.model.*, memory_attention.model.*

What no config says (head counts, shared experts, biases, the variant of memory attention) is taken
from the tensors; what it says must be there.
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
