"""Memory values as engines hold them: versions that nobody changes."""

# Shape suffixes: L layers, S slots, D width.

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections import deque

    from ..model import MemoryState, ReactiveTransformer
    from .driver import Event, Queue


class MemoryVersion:
    """One version of a memory, [L, S, D] float32, and what the decoder reads of it.

    Args:
        ready: on a GPU, when the tensor is computed, for queues other than the one that does.
        queue: that one. What it is given next finds the tensor, and may have its memory after it.
        spare: where the tensor goes when nobody has the version any more, for what that queue
            writes next: it comes after all that reads it. To take it from there is no call of
            PyTorch, of which there would be one for each memory that is updated.
    """

    __slots__ = ("__weakref__", "_spare", "_state", "queue", "ready", "tensor")

    def __init__(
        self,
        tensor: Tensor,
        ready: Event | None = None,
        queue: Queue | None = None,
        spare: deque[Tensor] | None = None,
    ) -> None:
        self.tensor, self.ready, self.queue = tensor, ready, queue
        self._spare = spare
        self._state: MemoryState | None = None

    def __del__(self) -> None:
        # Two: the version's own, and the one that is counted with. Somebody else may have it still.
        if self._spare is not None and sys.getrefcount(self.tensor) <= 2:
            self._spare.append(self.tensor)
            del self.tensor  # should anybody have revived it, no other memory is taken for this one

    def lend(self, stream: torch.cuda.Stream) -> None:
        """A stream reads the tensor that its own queue may know nothing of: keep it for that."""
        self._spare = None
        self.tensor.record_stream(stream)

    def settled(self) -> Tensor:
        """The tensor, once it is computed."""
        if self.ready is not None:
            self.ready.wait()
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
            tensor = self.settled()
            if tensor.is_cuda:
                self.lend(torch.cuda.current_stream(tensor.device))
            with torch.inference_mode():
                self._state = model.project_memory(tensor[:, None])
        return self._state


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """For copies that nobody waits for but who asked."""
    return torch.cuda.Stream(device)
