"""The port to a store: where memory versions and the interaction log are kept.

Stores are synchronous and are called on the runtime's I/O lane, never on the decode lane and never
on an event loop: the runtime is made of lanes, so one implementation serves threads, asyncio and
trio alike. Every method may be called from any thread.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Mapping

    from .model import CompletedInteraction
    from .snapshot import Snapshot

Capability = Literal["persistent", "durable", "shared", "encrypted"]
"""What a store says of itself, and the contract tests.

``persistent``: what is stored outlives the process. ``durable``: it has reached the disk, or the
service's, when the call returns, and so outlives a power failure. ``shared``: several processes may
use it at once. ``encrypted``: nothing of what memories hold can be read without a key.
"""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionInfo:
    """What a store knows of one version without reading its tensors."""

    memory: str
    version: int
    digest: str
    parent_digest: str
    kind: str
    fingerprint: str
    log_seq: int
    created_at: float
    """Seconds since the Unix epoch, UTC."""
    nbytes: int
    """Size of the snapshot file."""
    contains_user_data: bool
    metadata: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Versions of memories and their interaction logs.

    ``key`` names a memory: any text of 1 to 512 bytes of UTF-8, taken as it is (else ValueError).

    Promises: a commit or an append is as durable as ``capabilities`` says when the call returns; of
    several commits that expect the same version exactly one wins; a reader sees a whole old or a
    whole new version; damaged data is ``StoreCorrupt``, never "absent"; a version never changes and
    its number is never used twice.

    ``request_id`` makes a call safe to repeat when nobody knows whether it took effect: a store
    remembers the last ``REQUESTS_KEPT`` of a memory, answers a repeated one as it did the first
    time, and raises RequestReused when it comes with other content.

    Every method raises StoreUnavailable when the store cannot be reached, and ClosedError after
    ``close``.
    """

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it says of itself."""
        ...

    def head(self, key: str) -> int | None:
        """Newest version number, or None when nothing was ever committed or deleted.

        A delete takes a version number of its own: ``head`` is then a version that ``load`` does
        not find, and the next commit expects it. So a writer that still holds the deleted memory
        gets VersionConflict and cannot bring it back.
        """
        ...

    def info(self, key: str, version: int | None = None) -> VersionInfo:
        """What ``load`` would return, without reading it. Raises StoreNotFound, StoreCorrupt."""
        ...

    def load(self, key: str, version: int | None = None) -> Snapshot:
        """A version (default: the newest). Raises StoreNotFound, StoreCorrupt."""
        ...

    def commit(
        self, snapshot: Snapshot, *, expect: int | None, request_id: str | None = None
    ) -> None:
        """Append ``snapshot`` as the newest version of ``snapshot.memory_id``.

        ``expect`` is what ``head`` must return now, else VersionConflict and nothing is written.
        Raises ValueError when ``snapshot.version`` is not greater than it, and SnapshotError when
        the snapshot cannot be packed.
        """
        ...

    def history(
        self, key: str, *, before: int | None = None, limit: int | None = None
    ) -> builtins.list[int]:
        """Stored version numbers, newest first: at most ``limit``, less than ``before``."""
        ...

    def fork(self, source: str, target: str, *, version: int | None = None) -> VersionInfo:
        """A new memory ``target`` that begins with a version of ``source`` (default: the newest).

        Neither sees the other's future, and either may be deleted. Tags, log and lifetime stay with
        the source. Raises StoreNotFound, StoreCorrupt, and VersionConflict when ``target`` exists.
        """
        ...

    def rollback(self, key: str, version: int) -> VersionInfo:
        """Commit an old version as the newest; what came after it stays in the history.

        What the log holds beyond it is on record, but not part of the memory any more. Raises
        StoreNotFound, StoreCorrupt, VersionConflict.
        """
        ...

    def tag(self, key: str, label: str, version: int | None = None) -> int:
        """Name a version (default: the newest) and keep it from being pruned; returns it.

        A label is 1 to 128 bytes of UTF-8 (else ValueError) and names one version: it moves when it
        is given again. At most 1000 to a memory. Raises StoreNotFound.
        """
        ...

    def untag(self, key: str, label: str) -> None:
        """Remove a label. Raises StoreNotFound."""
        ...

    def tags(self, key: str) -> dict[str, int]:
        """The labels of a memory and the versions that they name, by label."""
        ...

    def expire(self, key: str, ttl: float | None) -> None:
        """Let a memory live ``ttl`` (> 0) seconds from now; each commit and each call starts anew.

        None: for ever. An expired memory is as if deleted, all of it at once, whether or not
        ``sweep`` has freed its space. Measured by the store's clock. Raises StoreNotFound.
        """
        ...

    def expires_at(self, key: str) -> float | None:
        """When a memory expires, in seconds since the Unix epoch; None for never or unknown."""
        ...

    def sweep(self) -> int:
        """Free what is out of use: expired memories, and what killed writers left behind.

        Returns how many memories went. Any number may sweep at once.
        """
        ...

    def append(self, key: str, record: LogRecord, *, request_id: str | None = None) -> LogRecord:
        """Append to the interaction log; returns the record with its ``seq``."""
        ...

    def last_seq(self, key: str) -> int:
        """``seq`` of the record appended last, also when it has been deleted; 0 for none."""
        ...

    def log(self, key: str, after: int = 0) -> Iterator[LogRecord]:
        """Log records with ``seq > after``, oldest first.

        Raises StoreCorrupt at a damaged or missing record, after all that precede it. May end early
        when records are deleted or trimmed meanwhile.
        """
        ...

    def forget(self, key: str, seq: int) -> None:
        """Mark a log record as not remembered, so that a redo skips it. Raises StoreNotFound."""
        ...

    def trim(self, key: str, through: int) -> int:
        """Remove log records up to ``seq`` ``through``; returns how many went.

        They must be part of the newest version, or they could not be redone (else ValueError).
        """
        ...

    def list(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> builtins.list[str]:
        """Names of memories with a version or a log, by code point, at most ``limit``.

        Those that start with ``prefix`` and come after ``after``, which need not exist.
        """
        ...

    def watch(
        self, key: str, *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[VersionInfo]:
        """Every version as it is committed, in order, beginning with the first ``> after``.

        ``after`` None: those to come. Ends after ``timeout`` seconds without one. A slow reader
        delays nobody; what was pruned before it came to it is left out.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove all versions and the log of a memory. Deleting what is absent changes nothing."""
        ...

    def prune(
        self, key: str, *, keep_last: int | None = None, older_than: float | None = None
    ) -> int:
        """Remove versions; returns how many went. The newest and those with a tag always stay.

        Stay: the newest ``keep_last`` (>= 1), and those made less than ``older_than`` seconds ago.
        ValueError when neither is given.
        """
        ...

    def close(self) -> None:
        """Release resources; idempotent."""
        ...


REQUESTS_KEPT = 32
"""How many requests of a memory a store remembers."""
