"""A store that keeps versions it has seen, for stores that are far away."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from ..errors import StoreNotFound
from .wrapper import StoreWrapper

if TYPE_CHECKING:
    from ..snapshot import Snapshot
    from ..store import Store


class CachedStore(StoreWrapper):
    """Loads a version again without fetching its tensors.

    What it returns is never older than what ``inner`` has: it asks ``inner`` for the version's
    description, a small read, and uses its own copy when the digest is the same. So what was
    deleted, pruned or committed by another process is noticed at once. ``max_bytes`` bounds the
    copies; the least recently used go first.
    """

    def __init__(self, inner: Store, *, max_bytes: int = 256 << 20) -> None:
        super().__init__(inner)
        if max_bytes < 0:
            raise ValueError(f"max_bytes must be >= 0, not {max_bytes}")
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Snapshot] = OrderedDict()
        self._size = 0
        self.hits = self.misses = 0

    def load(self, key: str, version: int | None = None) -> Snapshot:
        while True:
            info = self.inner.info(key, version)
            with self._lock:
                found = self._kept.get((key, info.version))
                if found is not None and found.digest == info.digest:
                    self._kept.move_to_end((key, info.version))
                    self.hits += 1
                    return found
            try:
                loaded = self.inner.load(key, info.version)
            except StoreNotFound:
                if version is not None:
                    raise
                continue  # it was the newest, was followed by another and pruned just now
            with self._lock:
                self.misses += 1
            self._keep(loaded)
            return loaded

    def commit(
        self, snapshot: Snapshot, *, expect: int | None, request_id: str | None = None
    ) -> None:
        super().commit(snapshot, expect=expect, request_id=request_id)
        self._keep(snapshot)

    def delete(self, key: str) -> None:
        super().delete(key)
        with self._lock:
            for place in [place for place in self._kept if place[0] == key]:
                self._size -= len(self._kept.pop(place).state)

    def close(self) -> None:
        super().close()
        with self._lock:
            self._kept.clear()
            self._size = 0

    def _keep(self, snapshot: Snapshot) -> None:
        place, size = (snapshot.memory_id, snapshot.version), len(snapshot.state)
        if size > self._max_bytes:
            return
        with self._lock:
            before = self._kept.pop(place, None)
            self._size += size - (0 if before is None else len(before.state))
            self._kept[place] = snapshot
            while self._size > self._max_bytes:
                _, oldest = self._kept.popitem(last=False)
                self._size -= len(oldest.state)
