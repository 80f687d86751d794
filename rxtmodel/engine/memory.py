"""Memory values as engines hold them: versions that nobody changes."""

# Shape suffixes: L layers, S slots, D width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..model import MemoryState, ReactiveTransformer


class MemoryVersion:
    """One version of a memory, [L, S, D] float32, and what the decoder reads of it.

    Args:
        ready: on a GPU, when the tensor is computed, for streams other than the one that does.
    """

    __slots__ = ("__weakref__", "_state", "ready", "tensor")

    def __init__(self, tensor: Tensor, ready: torch.cuda.Event | None = None) -> None:
        self.tensor, self.ready = tensor, ready
        self._state: MemoryState | None = None

    def settled(self) -> Tensor:
        """The tensor, once it is computed."""
        if self.ready is not None:
            self.ready.synchronize()
        return self.tensor

    def state(self, model: ReactiveTransformer) -> MemoryState:
        """Projected for the decoder layers, once for each version."""
        if self._state is None:
            with torch.inference_mode():
                self._state = model.project_memory(self.tensor[:, None])
        return self._state
