"""What a store has to keep of one memory, and the few ways in which ``BaseStore`` uses it."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgpack

from ..store import REQUESTS_KEPT
from .packing import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .._snapshot_file import Packing
    from .records import StoredRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """The state of one memory, of a size that does not grow with its history."""

    head: int | None = None
    deleted: bool = False
    """Whether ``head`` is the number of a delete."""
    log_start: int = 1
    """The first record that is kept."""
    last_seq: int = 0
    expires_at: float | None = None
    ttl: float | None = None
    tags: dict[str, int] = field(default_factory=dict)
    requests: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Request id -> (what it asked for, number it was given), oldest first."""

    @property
    def live(self) -> bool:
        """Whether there is a version or a record."""
        return (self.head is not None and not self.deleted) or self.last_seq >= self.log_start

    def at(self, now: float) -> Meta:
        """As it is at ``now``: what has expired is deleted."""
        if self.expires_at is None or self.expires_at > now or not self.live:
            return self
        return self.after_delete()

    def after_delete(self) -> Meta:
        """Without versions, log, tags and lifetime, but with all its numbers used up."""
        return Meta(
            head=0 if self.head is None else self.head + 1,
            deleted=True,
            log_start=self.last_seq + 1,
            last_seq=self.last_seq,
        )

    def renewed(self, now: float) -> Meta:
        """With its lifetime begun anew."""
        return self if self.ttl is None else replace(self, expires_at=now + self.ttl)

    def with_request(self, request_id: str | None, asked: str, number: int) -> Meta:
        """With one more request remembered, and the oldest forgotten."""
        if request_id is None:
            return self
        kept = list(self.requests.items())[1 - REQUESTS_KEPT :]
        return replace(self, requests={**dict(kept), request_id: (asked, number)})

    def extras(self) -> bytes | None:
        """What few memories have, packed: all that is not a number of its own; None for nothing."""
        if self.ttl is None and not self.tags and not self.requests:
            return None
        requests = [[name, *request] for name, request in self.requests.items()]
        return pack([self.ttl, self.tags, requests])

    def with_extras(self, packed: bytes | None) -> Meta:
        """The inverse of ``extras``. Raises ``ValueError`` and its like for other bytes, and when
        the numbers that were read beside them cannot be."""
        if not all(type(n) is int for n in (self.head or 0, self.log_start, self.last_seq)):
            raise TypeError("a number is of another type")
        if self.expires_at is not None and not math.isfinite(self.expires_at):
            raise ValueError("the end of its lifetime is no time")
        if packed is None:
            return self
        ttl, tags, requests = msgpack.unpackb(packed)
        known = {name: (asked, number) for name, asked, number in requests}
        numbers = [*tags.values(), *(number for _, number in known.values())]
        texts = [*tags, *known, *(asked for asked, _ in known.values())]
        if not all(type(n) is int for n in numbers) or not all(type(t) is str for t in texts):
            raise TypeError("a label or a request is of another type")
        if ttl is not None and not math.isfinite(ttl):
            raise ValueError("a lifetime is no number")
        return replace(self, ttl=ttl, tags=tags, requests=known)

    def pack(self) -> bytes:
        """All of it, after a checksum, for stores without columns."""
        numbers = [self.head, self.deleted, self.log_start, self.last_seq, self.expires_at]
        content = pack([*numbers, self.extras()])
        return zlib.crc32(content).to_bytes(4, "little") + content

    def checksum(self) -> int:
        """For stores that keep it in columns."""
        return zlib.crc32(self.pack())

    @classmethod
    def unpack(cls, packed: bytes) -> Meta:
        """The inverse of ``pack``. Raises ``ValueError`` and its like for other bytes."""
        content = packed[4:]
        if zlib.crc32(content).to_bytes(4, "little") != packed[:4]:
            raise ValueError("its checksum does not match")
        head, deleted, log_start, last_seq, expires_at, extras = msgpack.unpackb(content)
        meta = cls(
            head=head,
            deleted=deleted,
            log_start=log_start,
            last_seq=last_seq,
            expires_at=expires_at,
        )
        return meta.with_extras(extras)


class Rows(Protocol):
    """One memory inside a transaction: everything read is of one state, all writes are one step.

    Numbers are from 0 to ``MAX_NUMBER`` + 1 when they come here. What is asked for and is not there
    is None or left out. Whether bytes are what was written is not checked here, except where a
    store could not go on otherwise.
    """

    @property
    def now(self) -> float:
        """The store's clock, in seconds since the Unix epoch."""
        ...

    def meta(self) -> Meta:
        """As saved last; ``Meta()`` when it never was."""
        ...

    def save(self, meta: Meta) -> None:
        """Replace it."""
        ...

    def info(self, version: int) -> bytes | None:
        """What ``add`` was given with a version, without reading ``packed``."""
        ...

    def packed(self, version: int) -> bytes | None:
        """The snapshot file of a version."""
        ...

    def versions(self, before: int | None, limit: int | None) -> list[int]:
        """Numbers, newest first."""
        ...

    def add(self, version: int, info: bytes, packed: bytes) -> None:
        """A version, or another content for one: only tests ask for that."""
        ...

    def remove(self, versions: Sequence[int]) -> None:
        """Drop versions that are there."""
        ...

    def records(self, first: int, count: int) -> list[tuple[int, StoredRecord]]:
        """Those of the ``count`` records from ``first`` on that are there, in order."""
        ...

    def put(self, seq: int, record: StoredRecord) -> None:
        """A record, or another content for one."""
        ...

    def drop(self, through: int) -> None:
        """Drop the records with ``seq <= through``."""
        ...


class Parts(NamedTuple):
    """A stored file: how many bytes there are, and all of them in order."""

    size: int
    parts: Iterable[bytes | memoryview]


class Parted(Protocol):
    """What rows may have beside ``Rows``, for large files, when their store gains by it."""

    def parts(self, version: int) -> Parts | None:
        """``packed``, of which each part is hashed while the next one is read."""
        ...

    def begin(self, version: int, file: Packing) -> None:
        """Write the body of a file while it is hashed. ``add`` follows in the same transaction and
        is given ``head()``, to go before the body, in place of it all."""
        ...


def parts_of(rows: Any, version: int) -> Parts | None:
    """The file of a version, in parts if the rows have them."""
    parts: Callable[[int], Parts | None] | None = getattr(rows, "parts", None)
    if parts is not None:
        return parts(version)
    packed: bytes | None = rows.packed(version)
    return None if packed is None else Parts(len(packed), (packed,))


def unreadable(error: Exception) -> str:
    """Why stored bookkeeping makes no sense, for a message."""
    return f"its bookkeeping cannot be read ({type(error).__name__})"


UNREADABLE: tuple[Any, ...] = (
    ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException
)  # fmt: skip
"""What ``unpack`` and ``with_extras`` raise."""
