"""``Rows`` whose writes are collected first, for stores that apply them as one step at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .rows import Parts, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._snapshot_file import Packing
    from .records import StoredRecord
    from .rows import Meta


class Reader(Protocol):
    """The reading half of ``Rows``."""

    @property
    def now(self) -> float: ...
    def meta(self) -> Meta: ...
    def info(self, version: int) -> bytes | None: ...
    def packed(self, version: int) -> bytes | None: ...
    def versions(self, before: int | None, limit: int | None) -> list[int]: ...
    def records(self, first: int, count: int) -> list[tuple[int, StoredRecord]]: ...


class Buffered:
    """``Rows`` over a reader: reads see what was written before, the reader's store does not."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.begin: Callable[[int, Packing], None] | None = getattr(reader, "begin", None)
        """What of ``Parted`` the reader has; ``added`` has but the head of what was begun."""
        self.saved: Meta | None = None
        self.added: dict[int, tuple[bytes, bytes]] = {}
        """version -> (info, packed)."""
        self.removed: list[int] = []
        """Versions of the store, never of ``added``."""
        self.logged: dict[int, StoredRecord] = {}
        self.dropped = 0
        """Records of the store with ``seq`` up to this one are to go."""

    def __bool__(self) -> bool:
        """Whether anything was written."""
        return bool(self.saved or self.added or self.removed or self.logged or self.dropped)

    @property
    def now(self) -> float:
        return self._reader.now

    def meta(self) -> Meta:
        return self.saved or self._reader.meta()

    def save(self, meta: Meta) -> None:
        self.saved = meta

    def info(self, version: int) -> bytes | None:
        if version in self.added:
            return self.added[version][0]
        return None if version in self.removed else self._reader.info(version)

    def packed(self, version: int) -> bytes | None:
        if version in self.added:
            return self.added[version][1]
        return None if version in self.removed else self._reader.packed(version)

    def parts(self, version: int) -> Parts | None:
        if version in self.added:
            packed = self.added[version][1]
            return Parts(len(packed), (packed,))
        return None if version in self.removed else parts_of(self._reader, version)

    def versions(self, before: int | None, limit: int | None) -> list[int]:
        if not self.added and not self.removed:
            return self._reader.versions(before, limit)
        numbers = {*self._reader.versions(None, None), *self.added} - set(self.removed)
        kept = [n for n in numbers if before is None or n < before]
        return sorted(kept, reverse=True)[:limit]

    def add(self, version: int, info: bytes, packed: bytes) -> None:
        self.added[version] = (info, packed)

    def remove(self, versions: Sequence[int]) -> None:
        for version in versions:
            if self.added.pop(version, None) is None:
                self.removed.append(version)

    def records(self, first: int, count: int) -> list[tuple[int, StoredRecord]]:
        found = {
            seq: record for seq, record in self._reader.records(first, count) if seq > self.dropped
        }
        found |= {s: r for s, r in self.logged.items() if first <= s < first + count}
        return sorted(found.items())

    def put(self, seq: int, record: StoredRecord) -> None:
        self.logged[seq] = record

    def drop(self, through: int) -> None:
        self.dropped = max(self.dropped, through)
        self.logged = {seq: record for seq, record in self.logged.items() if seq > through}
