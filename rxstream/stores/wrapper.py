"""A store in front of a store: for wrappers that change some calls and pass the others on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator

    from ..snapshot import Snapshot
    from ..store import Capability, LogRecord, Store, VersionInfo


class StoreWrapper:
    """Passes every call on to ``inner``. Closing it closes ``inner``."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @property
    def capabilities(self) -> frozenset[Capability]:
        return self.inner.capabilities

    def head(self, key: str) -> int | None:
        return self.inner.head(key)

    def info(self, key: str, version: int | None = None) -> VersionInfo:
        return self.inner.info(key, version)

    def load(self, key: str, version: int | None = None) -> Snapshot:
        return self.inner.load(key, version)

    def commit(
        self, snapshot: Snapshot, *, expect: int | None, request_id: str | None = None
    ) -> None:
        self.inner.commit(snapshot, expect=expect, request_id=request_id)

    def history(
        self, key: str, *, before: int | None = None, limit: int | None = None
    ) -> builtins.list[int]:
        return self.inner.history(key, before=before, limit=limit)

    def fork(self, source: str, target: str, *, version: int | None = None) -> VersionInfo:
        return self.inner.fork(source, target, version=version)

    def rollback(self, key: str, version: int) -> VersionInfo:
        return self.inner.rollback(key, version)

    def tag(self, key: str, label: str, version: int | None = None) -> int:
        return self.inner.tag(key, label, version)

    def untag(self, key: str, label: str) -> None:
        self.inner.untag(key, label)

    def tags(self, key: str) -> dict[str, int]:
        return self.inner.tags(key)

    def expire(self, key: str, ttl: float | None) -> None:
        self.inner.expire(key, ttl)

    def expires_at(self, key: str) -> float | None:
        return self.inner.expires_at(key)

    def sweep(self) -> int:
        return self.inner.sweep()

    def append(self, key: str, record: LogRecord, *, request_id: str | None = None) -> LogRecord:
        return self.inner.append(key, record, request_id=request_id)

    def last_seq(self, key: str) -> int:
        return self.inner.last_seq(key)

    def log(self, key: str, after: int = 0) -> Iterator[LogRecord]:
        return self.inner.log(key, after)

    def forget(self, key: str, seq: int) -> None:
        self.inner.forget(key, seq)

    def trim(self, key: str, through: int) -> int:
        return self.inner.trim(key, through)

    def list(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> builtins.list[str]:
        return self.inner.list(prefix, after=after, limit=limit)

    def watch(
        self, key: str, *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[VersionInfo]:
        return self.inner.watch(key, after=after, timeout=timeout)

    def delete(self, key: str) -> None:
        self.inner.delete(key)

    def prune(
        self, key: str, *, keep_last: int | None = None, older_than: float | None = None
    ) -> int:
        return self.inner.prune(key, keep_last=keep_last, older_than=older_than)

    def close(self) -> None:
        self.inner.close()
