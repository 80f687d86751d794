"""Writing and reading the short-term memory.

``build_write(config)`` gives the module that folds an encoded interaction into a memory,
``build_read(config)`` the one through which a decoder layer reads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .attention import MemoryAttention, MemoryCrossAttention
from .delta import DeltaRead, DeltaWrite

if TYPE_CHECKING:
    from ..config import RxtConfig

__all__ = [
    "DeltaRead",
    "DeltaWrite",
    "MemoryAttention",
    "MemoryCrossAttention",
    "build_read",
    "build_write",
]


def build_write(config: RxtConfig) -> MemoryAttention | DeltaWrite:
    """The module that folds an encoded interaction into memory, all layers at once."""
    return DeltaWrite(config) if config.memory.variant == "delta" else MemoryAttention(config)


def build_read(config: RxtConfig) -> MemoryCrossAttention | DeltaRead:
    """The module through which one decoder layer reads its layer of the memory."""
    return DeltaRead(config) if config.memory.variant == "delta" else MemoryCrossAttention(config)
