"""Memory values as engines hold them: versions that nobody changes."""

# Shape suffixes: L layers, S slots, D width.

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..model import MemoryState, ReactiveTransformer
    from .handover import Queue


class MemoryVersion:
    """One version of a memory, [L, S, D] float32, and what the decoder reads of it.

    Args:
        ready: on a GPU, when the tensor is computed, for queues other than the one that does.
        queue: that one. What it is given next finds the tensor, and may have its memory after it.
    """

    __slots__ = ("__weakref__", "_state", "queue", "ready", "tensor")

    def __init__(
        self,
        tensor: Tensor,
        ready: torch.cuda.Event | None = None,
        queue: Queue | None = None,
    ) -> None:
        self.tensor, self.ready, self.queue = tensor, ready, queue
        self._state: MemoryState | None = None

    def settled(self) -> Tensor:
        """The tensor, once it is computed."""
        if self.ready is not None:
            self.ready.synchronize()
        return self.tensor

    def on_host(self) -> Tensor:
        """The same on the host. Through pinned memory: a copy to other memory would hold up
        whoever launches something meanwhile."""
        tensor = self.settled()
        if tensor.device.type != "cuda":
            return tensor
        stream = _stream(tensor.device)
        with torch.inference_mode(), torch.cuda.stream(stream):
            found = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            found.copy_(tensor, non_blocking=True)
            stream.synchronize()
        return found

    def state(self, model: ReactiveTransformer) -> MemoryState:
        """Projected for the decoder layers, once for each version."""
        if self._state is None:
            with torch.inference_mode():
                self._state = model.project_memory(self.tensor[:, None])
        return self._state


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """For copies that nobody waits for but who asked."""
    return torch.cuda.Stream(device)
