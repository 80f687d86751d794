"""The store that keeps everything in this process: for tests, and the reference for the others."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from ..errors import ClosedError, StoreUnavailable
from . import records
from .base import BaseStore
from .buffered import Buffered
from .rows import Meta, Parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._snapshot_file import Packing
    from .records import StoredRecord
    from .rows import Rows

T = TypeVar("T")


@dataclass(slots=True)
class _Memory:
    """The reading half of ``Rows``, in dictionaries."""

    clock: Callable[[], float]
    state: Meta = field(default_factory=Meta)
    infos: dict[int, bytes] = field(default_factory=dict)
    files: dict[int, tuple[bytes | memoryview, ...]] = field(default_factory=dict)
    log: dict[int, StoredRecord] = field(default_factory=dict)
    begun: tuple[int, memoryview] | None = None
    """A version, and the body of its file."""
    apart: set[int] = field(default_factory=set)
    """Versions that are not forgotten."""

    @property
    def now(self) -> float:
        return self.clock()

    def meta(self) -> Meta:
        return self.state

    def info(self, version: int) -> bytes | None:
        return self.infos.get(version)

    def packed(self, version: int) -> bytes | None:
        found = self.parts(version)
        return None if found is None else b"".join(found.parts)

    def parts(self, version: int) -> Parts | None:
        file = self.files.get(version)
        return None if file is None else Parts(sum(map(len, file)), file)

    def begin(self, version: int, file: Packing) -> None:
        self.begun = version, file.body

    def versions(self, before: int | None, limit: int | None) -> list[int]:
        if limit == 1 and before is not None and before - 1 in self.infos:
            return [before - 1]  # the usual question, whether a version is there
        numbers = sorted(self.infos, reverse=True)
        return [n for n in numbers if before is None or n < before][:limit]

    def records(self, first: int, count: int) -> list[tuple[int, StoredRecord]]:
        return [(seq, self.log[seq]) for seq in range(first, first + count) if seq in self.log]

    def apply(self, changes: Buffered) -> None:
        """What a transaction wrote."""
        self.state = changes.meta()
        for version in changes.removed:
            self.infos.pop(version, None)
            self.files.pop(version, None)
            self.apart.discard(version)
        for version, (info, packed) in changes.added.items():
            self.infos[version] = info
            body = self.begun[1] if self.begun is not None and self.begun[0] == version else b""
            self.files[version] = (packed, body) if body else (packed,)
        self.begun = None
        if changes.dropped:
            self.log = {seq: row for seq, row in self.log.items() if seq > changes.dropped}
        self.log |= changes.logged

    def forget(self, key: str, added: Iterable[int], keep: int) -> None:
        """All versions but the newest ones, those with a label, and those without which the log
        would tell another story: they do not follow from it, or were rolled back to."""
        for version in added:
            info = records.decode_info(key, version, self.infos[version])
            if info.kind != "update":
                self.apart.add(version)
            if info.kind == "rollback":
                every = (records.decode_info(key, *each) for each in self.infos.items())
                self.apart |= {e.version for e in every if e.digest == info.parent_digest}
        for version in sorted(self.infos.keys() - self.apart)[:-keep]:
            if version not in self.state.tags.values():
                del self.infos[version], self.files[version]


class MemoryStore(BaseStore):
    """A thread-safe ``Store`` in memory; what it holds is gone when it is closed.

    It keeps packed files, as a store on disk does. What it shares with the caller are the bytes of
    a state, which nobody can change: to copy them would hold up every thread of the program.

    Args:
        keep: how many versions of a memory, besides those with a label and those that came from
            elsewhere (restored, imported, forked, rolled back) or were rolled back to; None: all.
    """

    _keeps_body = True

    def __init__(self, *, keep: int | None = None) -> None:
        super().__init__()
        if keep is not None and keep < 1:
            raise ValueError(f"a store keeps at least 1 version of a memory, not {keep}")
        self._keep = keep
        self._lock = threading.Lock()
        self._memories: dict[str, _Memory] = {}
        self._closed = False

    @classmethod
    def from_url(cls, url: str) -> MemoryStore:
        """A new, empty store for ``memory:``. Raises ``StoreUnavailable`` for more than that."""
        if url not in ("memory:", "memory://"):
            raise StoreUnavailable(f"the memory store has no address: {url!r}; write memory:")
        return cls()

    def drop(self, key: str) -> None:
        """``delete`` that forgets the numbers too, for names that are never used again."""
        with self._lock:
            self._memories.pop(key, None)

    def _read(self, key: str, work: Callable[[Rows], T]) -> T:
        with self._lock:
            return work(Buffered(self._find(key)))

    def _write(self, key: str, work: Callable[[Rows], T], *, repeatable: bool = False) -> T:
        with self._lock:
            memory = self._find(key)
            memory.begun = None  # of a transaction that was given up
            changes = Buffered(memory)
            result = work(changes)
            if changes:
                memory.apply(changes)
                if self._keep is not None and changes.added:
                    memory.forget(key, changes.added, self._keep)
                self._memories[key] = memory
            return result

    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        with self._lock:
            self._check_open()
            now = self._now()
            return sorted(
                key
                for key, memory in self._memories.items()
                if key.startswith(prefix) and key > after and memory.state.at(now).live
            )[:limit]

    def _expired(self) -> list[str]:
        with self._lock:
            self._check_open()
            return [key for key, m in self._memories.items() if m.state.expires_at is not None]

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            self._memories = {}

    def _find(self, key: str) -> _Memory:
        self._check_open()
        return self._memories.get(key) or _Memory(self._now)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the store is closed; open it again")
