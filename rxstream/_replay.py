"""What a store has of one memory, and how the log is folded into a value.

Opening a memory and catching up with another process do the same: the newest version, then every
record of the log beyond it, in order. They give the same bits as the updates of the first time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import SnapshotIncompatible, StoreNotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ._engine import Engine
    from .model import ReactiveModel
    from .snapshot import Snapshot
    from .store import LogRecord, Store

KEYS_KEPT = 256
"""How many idempotency keys a memory remembers."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The newest version of a memory, and the log beyond it."""

    head: int | None
    """Its number; None when nothing was ever committed."""
    snapshot: Snapshot | None
    """None where ``head`` is None, or the memory was deleted."""
    records: list[LogRecord]

    @property
    def log_seq(self) -> int:
        """The last record that was read or is folded in."""
        if self.records:
            return self.records[-1].seq
        return self.snapshot.log_seq if self.snapshot is not None else 0


def read(store: Store, name: str) -> Stored:
    """On the io lane."""
    while True:
        head, snapshot = store.head(name), None
        if head is not None:
            try:
                snapshot = store.load(name, head)
            except StoreNotFound:  # deleted: only the number is left, and is never used again
                snapshot = None
        after = snapshot.log_seq if snapshot is not None else 0
        records = list(store.log(name, after=after))
        gone = head is not None and snapshot is None
        gap = bool(records) and snapshot is not None and records[0].seq != after + 1
        if not (gone or gap) or store.head(name) == head:
            return Stored(head, snapshot, records)
        # Others went on meanwhile, and pruned the version or trimmed the log.


def check_fingerprint(engine: Engine, snapshot: Snapshot) -> None:
    """Raise SnapshotIncompatible unless the model can load it."""
    if snapshot.fingerprint != engine.model.fingerprint:
        raise SnapshotIncompatible(
            f"snapshot of memory {snapshot.memory_id[:80]!r} was made by model "
            f"{snapshot.fingerprint[:200]!r}, this model is {engine.model.fingerprint[:200]!r}; "
            "load it with the model that made it"
        )


def to_fold(records: Sequence[LogRecord], applied: Collection[str]) -> list[LogRecord]:
    """Those that go into memory. A key that is in there already, or comes twice, counts once, as
    long as a memory remembers it; ``applied`` are those it knows before, oldest first."""
    chosen, keys = [], dict.fromkeys(applied, 0)
    for record in records:
        if record.remembered and (record.key is None or record.key not in keys):
            chosen.append(record)
            note_key(keys, record.key, 0)
    return chosen


def fold(model: ReactiveModel[Any], value: Any, records: Sequence[LogRecord]) -> Any:
    """On the memory lane. One by one: a batch may round differently."""
    for record in records:
        [encoded] = model.encode([record.completed])
        [value] = model.attend([value], [encoded])
    return value


def note_key(keys: dict[str, int], key: str | None, version: int) -> None:
    """``key`` was applied in ``version``; the oldest keys are forgotten."""
    if key is not None:
        keys[key] = version
        while len(keys) > KEYS_KEPT:
            del keys[next(iter(keys))]
