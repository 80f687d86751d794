"""Waiting for versions: told at once of those committed here, looking now and then for others."""

from __future__ import annotations

import threading
import time
import weakref
from typing import TYPE_CHECKING

from ..errors import StoreNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..store import Store, VersionInfo

_FIRST, _LONGEST = 0.02, 0.5
"""Seconds between two looks, growing while nothing comes."""


class Watchers:
    """The watchers of one store."""

    def __init__(self, store: Store) -> None:
        self._store = weakref.ref(store)
        self._changed = threading.Condition()
        self._changes = 0

    def notify(self) -> None:
        """Something was committed, or the store was closed."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def watch(self, key: str, after: int | None, timeout: float | None) -> Iterator[VersionInfo]:
        """See ``Store.watch``."""
        store = self._store()
        assert store is not None
        seen = after
        if seen is None:
            head = store.head(key)
            seen = -1 if head is None else head
        return self._follow(store, key, seen, timeout)

    def _follow(
        self, store: Store, key: str, seen: int, timeout: float | None
    ) -> Iterator[VersionInfo]:
        delay, since = _FIRST, time.monotonic()
        while True:
            with self._changed:
                changes = self._changes
            newer = self._newer(store, key, seen)
            for version in newer:
                try:
                    info = store.info(key, version)
                except StoreNotFound:  # pruned just now
                    continue
                yield info
            if newer:
                seen, delay, since = newer[-1], _FIRST, time.monotonic()
                continue
            if timeout is not None:
                left = since + timeout - time.monotonic()
                if left <= 0:
                    return
                delay = min(delay, left)
            with self._changed:
                if self._changes == changes:
                    self._changed.wait(delay)
            delay = min(delay * 2, _LONGEST)

    @staticmethod
    def _newer(store: Store, key: str, seen: int) -> list[int]:
        head = store.head(key)
        if head is None or head <= seen:
            return []
        return [version for version in reversed(store.history(key)) if version > seen]
