"""A store that keeps some memories in this process only: those that must not be stored here."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from . import branching
from .memory import MemoryStore
from .rules import check_key
from .wrapper import StoreWrapper

if TYPE_CHECKING:
    import builtins

    from ..snapshot import Snapshot
    from ..store import Store, VersionInfo


class TransientStore(StoreWrapper):
    """Memories whose names begin with ``prefix`` never reach ``inner``; all others are kept there.

    They live in ``held``, with their logs, until they are dropped or the store is closed.
    ``capabilities`` are said of the others. A fork from one side to the other is the caller's
    explicit wish, and is made.
    """

    def __init__(self, inner: Store, *, prefix: str = "held:") -> None:
        super().__init__(inner)
        self.prefix, self.held = prefix, MemoryStore()

    def _of(self, key: str) -> Store:
        return self.held if check_key(key).startswith(self.prefix) else self.inner

    def drop(self, key: str) -> None:
        """``delete`` of a held memory whose name is never used again: not even a number is left."""
        self.held.drop(key)

    def commit(
        self, snapshot: Snapshot, *, expect: int | None, request_id: str | None = None
    ) -> None:
        store = self._of(snapshot.memory_id)
        store.commit(snapshot, expect=expect, request_id=request_id)

    def fork(self, source: str, target: str, *, version: int | None = None) -> VersionInfo:
        store = self._of(source)
        if store is self._of(target):
            return store.fork(source, target, version=version)
        return branching.fork(self, source, target, version)

    def list(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> builtins.list[str]:
        stores = (self.inner, self.held)
        found = {name for s in stores for name in s.list(prefix, after=after, limit=limit)}
        return sorted(found)[:limit]

    def sweep(self) -> int:
        return self.inner.sweep() + self.held.sweep()

    def close(self) -> None:
        self.held.close()
        super().close()


def _routed(name: str) -> Any:
    def method(self: TransientStore, key: str, *args: Any, **options: Any) -> Any:
        return getattr(self._of(key), name)(key, *args, **options)

    return functools.wraps(getattr(StoreWrapper, name))(method)


for _name in (
    "head info load history rollback tag untag tags expire expires_at append last_seq log forget "
    "trim watch delete prune"
).split():
    setattr(TransientStore, _name, _routed(_name))
