"""The store that keeps everything in this process: for tests, and the reference for the others."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import ClosedError, StoreNotFound, StoreUnavailable
from ..snapshot import pack
from . import records
from .rules import (
    check_append,
    check_commit,
    check_key,
    check_prune,
    no_such_version,
    unpack_stored,
)

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator

    from ..snapshot import Snapshot
    from ..store import LogRecord


@dataclass(slots=True)
class _Memory:
    head: int | None = None
    versions: dict[int, bytes] = field(default_factory=dict)
    log: dict[int, tuple[bool, bytes, int]] = field(default_factory=dict)
    """seq -> (remembered, payload, checksum)."""
    last_seq: int = 0


class MemoryStore:
    """A thread-safe ``Store`` in memory; what it holds is gone when it is closed.

    It keeps packed bytes, as a store on disk does, so that nothing is shared with the caller.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memories: dict[str, _Memory] = {}
        self._closed = False

    @classmethod
    def from_url(cls, url: str) -> MemoryStore:
        """A new, empty store for ``memory:``. Raises ``StoreUnavailable`` for more than that."""
        if url not in ("memory:", "memory://"):
            raise StoreUnavailable(f"the memory store has no address: {url!r}; write memory:")
        return cls()

    def head(self, key: str) -> int | None:
        """See ``Store.head``."""
        with self._lock:
            return self._find(key).head

    def load(self, key: str, version: int | None = None) -> Snapshot:
        """See ``Store.load``."""
        with self._lock:
            memory = self._find(key)
            number = memory.head if version is None else version
            if number is None or number not in memory.versions:
                raise no_such_version(key, number, min(memory.versions, default=None))
            data = memory.versions[number]
        return unpack_stored(key, number, data)

    def commit(self, snapshot: Snapshot, *, expect: int | None) -> None:
        """See ``Store.commit``."""
        key = check_key(snapshot.memory_id)
        data = pack(snapshot)
        with self._lock:
            check_commit(snapshot, expect=expect, found=self._find(key).head)
            memory = self._memories.setdefault(key, _Memory())
            memory.versions[snapshot.version] = data
            memory.head = snapshot.version

    def history(self, key: str) -> builtins.list[int]:
        """See ``Store.history``."""
        with self._lock:
            return sorted(self._find(key).versions, reverse=True)

    def append(self, key: str, record: LogRecord) -> LogRecord:
        """See ``Store.append``."""
        check_append(key, record)
        payload = records.encode(record)
        with self._lock:
            self._check_open()
            memory = self._memories.setdefault(key, _Memory())
            memory.last_seq += 1
            seq = memory.last_seq
            check = records.checksum(key, seq, record.remembered, payload)
            memory.log[seq] = (record.remembered, payload, check)
        return replace(record, seq=seq)

    def log(self, key: str, after: int = 0) -> Iterator[LogRecord]:
        """See ``Store.log``."""
        with self._lock:
            memory = self._find(key)
            rows = [(seq, *row) for seq, row in sorted(memory.log.items()) if seq > after]
        return self._decode(key, rows)

    def forget(self, key: str, seq: int) -> None:
        """See ``Store.forget``."""
        with self._lock:
            memory = self._find(key)
            if seq not in memory.log:
                raise StoreNotFound(f"memory {key!r} has no log record {seq}")
            remembered, payload, check = memory.log[seq]
            records.decode(key, seq, remembered, payload, check)
            memory.log[seq] = (False, payload, records.checksum(key, seq, False, payload))

    def list(self, prefix: str = "") -> builtins.list[str]:
        """See ``Store.list``."""
        with self._lock:
            self._check_open()
            return sorted(
                key
                for key, memory in self._memories.items()
                if key.startswith(prefix) and (memory.versions or memory.log)
            )

    def delete(self, key: str) -> None:
        """See ``Store.delete``."""
        with self._lock:
            memory = self._find(key)
            if memory.versions or memory.log:
                memory.head = 0 if memory.head is None else memory.head + 1
                memory.versions.clear()
                memory.log.clear()

    def prune(self, key: str, *, keep_last: int) -> int:
        """See ``Store.prune``."""
        check_prune(key, keep_last)
        with self._lock:
            versions = self._find(key).versions
            old = sorted(versions)[:-keep_last]
            for version in old:
                del versions[version]
            return len(old)

    def close(self) -> None:
        """See ``Store.close``."""
        with self._lock:
            self._closed = True
            self._memories = {}

    def _find(self, key: str) -> _Memory:
        self._check_open()
        return self._memories.get(check_key(key)) or _Memory()

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the store is closed; open it again")

    def _decode(
        self, key: str, rows: builtins.list[tuple[int, bool, bytes, int]]
    ) -> Iterator[LogRecord]:
        for row in rows:
            with self._lock:
                self._check_open()
            yield records.decode(key, *row)
