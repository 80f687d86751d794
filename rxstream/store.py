"""The port to a store: where memory versions and the interaction log are kept.

Stores are synchronous and are called on the runtime's I/O lane, never on the decode lane and never
on an event loop: the runtime is made of lanes, so one implementation serves threads, asyncio and
trio alike. Every method may be called from any thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import CompletedInteraction
    from .snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """One completed interaction, appended durably before memory is updated."""

    seq: int
    """Position in the memory's log, from 1, gap-free. Assigned by the store on append (pass 0).

    Numbering goes on after a delete, so that a ``Snapshot.log_seq`` never means another record.
    """
    interaction: str
    """Id of the interaction."""
    conversation: str
    completed: CompletedInteraction
    key: str | None = None
    """Idempotency key of the query, if it had one."""
    remembered: bool = True
    """False: the answer is on record, but was not folded into memory (update failed or skipped)."""
    created_at: float = 0.0
    """Seconds since the Unix epoch, UTC."""


class Store(Protocol):
    """Versions of memories and their interaction logs.

    ``key`` names a memory: any text of 1 to 512 bytes of UTF-8, taken as it is (else ValueError).

    Promises: a commit or an append has reached the disk when the call returns; of several commits
    that expect the same version exactly one wins; a reader sees a whole old or a whole new version;
    damaged data is ``StoreCorrupt``, never "absent"; a version number is never used twice.
    Every method raises StoreUnavailable when the store cannot be reached, and ClosedError after
    ``close``.
    """

    def head(self, key: str) -> int | None:
        """Newest version number, or None when nothing was ever committed or deleted.

        A delete takes a version number of its own: ``head`` is then a version that ``load`` does
        not find, and the next commit expects it. So a writer that still holds the deleted memory
        gets VersionConflict and cannot bring it back.
        """
        ...

    def load(self, key: str, version: int | None = None) -> Snapshot:
        """A version (default: the newest). Raises StoreNotFound, StoreCorrupt."""
        ...

    def commit(self, snapshot: Snapshot, *, expect: int | None) -> None:
        """Append ``snapshot`` as the newest version of ``snapshot.memory_id``.

        ``expect`` is what ``head`` must return now, else VersionConflict and nothing is written.
        Raises ValueError when ``snapshot.version`` is not greater than it, and SnapshotError when
        the snapshot cannot be packed.
        """
        ...

    def history(self, key: str) -> list[int]:
        """Stored version numbers, newest first."""
        ...

    def append(self, key: str, record: LogRecord) -> LogRecord:
        """Append to the interaction log; returns the record with its ``seq``."""
        ...

    def log(self, key: str, after: int = 0) -> Iterator[LogRecord]:
        """Log records with ``seq > after``, oldest first.

        Raises StoreCorrupt at a damaged or missing record, after all that precede it. May end early
        when the memory is deleted meanwhile.
        """
        ...

    def forget(self, key: str, seq: int) -> None:
        """Mark a log record as not remembered, so that a redo skips it. Raises StoreNotFound."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """Names that start with ``prefix``, by code point, of memories with a version or a log."""
        ...

    def delete(self, key: str) -> None:
        """Remove all versions and the log of a memory. Deleting what is absent changes nothing."""
        ...

    def prune(self, key: str, *, keep_last: int) -> int:
        """Remove all but the newest ``keep_last`` (>= 1) versions; returns how many went."""
        ...

    def close(self) -> None:
        """Release resources; idempotent."""
        ...
