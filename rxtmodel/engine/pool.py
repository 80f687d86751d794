"""What decoders read of memories: a slot for each version in use, shared by all rows that read it.

A version never changes, so nothing is copied when another conversation begins to read it, and an
update writes to a slot of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..model import MemoryState, ReactiveTransformer
    from .driver import Event
    from .memory import MemoryVersion


class MemoryPool:
    """``size`` slots of projected memories, and one that is nobody's. May be used by two threads.

    Slots of versions that no row reads are kept as long as there is room: the next query of that
    conversation finds its memory projected. Updates that run beside decoding hold at most half of
    the slots, so that rows for half of them always find one.
    """

    def __init__(self, model: ReactiveTransformer, size: int) -> None:
        self.model, self.size, self.nobody = model, size, size
        with torch.inference_mode():
            sample = model.project_memory(model.initial_memory())
            self.layers: MemoryState = [
                tuple(part.new_zeros((size + 1, *part.shape[1:])) for part in layer)
                for layer in sample
            ]
        self._lock = threading.Lock()
        self._free = list(range(size - 1, -1, -1))
        self._slots: OrderedDict[int, int | None] = OrderedDict()
        """Slot -> id of its version, least recently used first; None: of one that is gone."""
        self._by_version: dict[int, int] = {}
        self._pins = [0] * size
        self._beside: set[int] = set()
        """Slots that updates are writing."""
        self._written: dict[int, Event] = {}
        """When what another stream writes to a slot is there."""
        self._gone: deque[int] = deque()
        """Ids of versions that nobody holds any more; a finaliser may not take the lock."""

    def find(self, version: MemoryVersion) -> int | None:
        """The version's slot, pinned until ``release``; None when it has none."""
        with self._lock:
            self._bury()
            slot = self._by_version.get(id(version))
            if slot is not None:
                self._pins[slot] += 1
                self._slots.move_to_end(slot)
            return slot

    def take(self, version: MemoryVersion, *, beside: bool = False) -> int | None:
        """A slot for the version, pinned, to be written to; None when there is none.

        ``beside``: for an update, which can do without.
        """
        with self._lock:
            self._bury()
            if beside and len(self._beside) >= self.size // 2:
                return None
            if not self._free:
                old = next((slot for slot in self._slots if not self._pins[slot]), None)
                if old is None:
                    return None
                self._by_version.pop(self._slots[old] or 0, None)
                self._give_back(old)
            slot = self._free.pop()
            self._slots[slot] = id(version)
            self._by_version[id(version)] = slot
            self._pins[slot] = 1
            if beside:
                self._beside.add(slot)
        weakref.finalize(version, self._gone.append, id(version)).atexit = False
        return slot

    def written(self, slot: int) -> Event | None:
        """When the slot may be written again, by another stream than the one that wrote last."""
        with self._lock:
            return self._written.pop(slot, None)

    def discard(self, slot: int) -> None:
        """Unpin a slot that was taken and not written to."""
        with self._lock:
            self._by_version.pop(self._slots[slot] or 0, None)
            self._slots[slot] = None
        self.release(slot)

    def release(self, slot: int, written: Event | None = None) -> None:
        """Unpin it once. ``written``: recorded after what was written to it."""
        with self._lock:
            self._pins[slot] -= 1
            self._beside.discard(slot)
            if written is not None:
                self._written[slot] = written
            if not self._pins[slot] and self._slots[slot] is None:
                self._give_back(slot)

    @property
    def num_free(self) -> int:
        """Slots that hold nothing."""
        with self._lock:
            self._bury()
            return len(self._free)

    def write(self, slots_B: Tensor, state: MemoryState) -> None:
        """Store projected memories of B rows in slots. Without the host."""
        for layer, slabs in zip(state, self.layers, strict=True):
            for part, slab in zip(layer, slabs, strict=True):
                slab.index_copy_(0, slots_B, part)

    def read(self, slots_B: Tensor) -> MemoryState:
        """Copies of slots, as rows."""
        return [tuple(slab.index_select(0, slots_B) for slab in layer) for layer in self.layers]

    def _give_back(self, slot: int) -> None:
        del self._slots[slot]
        self._free.append(slot)

    def _bury(self) -> None:
        """Slots of versions that are gone, unless rows still read them."""
        while self._gone:
            slot = self._by_version.pop(self._gone.popleft(), None)
            if slot is None:
                continue
            self._slots[slot] = None
            if not self._pins[slot]:
                self._give_back(slot)
