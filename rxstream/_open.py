"""Opening a memory: the newest version in the store, then what the log has beyond it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ._memorize import Start
from ._replay import check_fingerprint, fold, note_key, read, to_fold
from .errors import MemoryUpdateError
from .lanes import call
from .snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._engine import Engine
    from ._memorize import Durability, OnConflict
    from .snapshot import Kind
    from .store import LogRecord

_BATCH = 16


def open_memory(
    engine: Engine,
    name: str,
    *,
    snapshot: Snapshot | None,
    kind: Kind,
    durability: Durability,
    on_conflict: OnConflict,
) -> Start:
    """What the memory ``name`` starts with. Waits for the io and the memory lane.

    A memory that the store does not know begins with ``snapshot``, which is committed at once, or
    else empty. Raises what store and model raise; then nothing was written, unless the error came
    after the first version was committed.
    """
    found = call(engine.lanes.io, partial(read, engine.store, name))
    head, stored, records = found.head, found.snapshot, found.records
    if stored is None and not records and snapshot is not None:
        check_fingerprint(engine, snapshot)
        stored = Snapshot(
            memory_id=name,
            version=(head or 0) + 1,
            fingerprint=snapshot.fingerprint,
            state=snapshot.state,
            parent_digest=snapshot.digest,
            applied_keys=(),
            kind=kind,
            metadata=snapshot.metadata,
            contains_user_data=snapshot.contains_user_data,
        )
        value = call(engine.lanes.memory, partial(engine.model.load, stored.state))
        call(engine.lanes.io, partial(engine.store.commit, stored, expect=head))
        head = stored.version
    elif stored is not None:
        check_fingerprint(engine, stored)
        value = call(engine.lanes.memory, partial(engine.model.load, stored.state))
    else:
        value = call(engine.lanes.memory, engine.model.initial_memory)
    start = Start(
        value=value,
        version=head or 0,
        stored=head,
        durability=durability,
        on_conflict=on_conflict,
    )
    if stored is not None:
        start.digest, start.log_seq = stored.digest, stored.log_seq
        start.keys = dict.fromkeys(stored.applied_keys, stored.version)
    _redo(engine, name, start, to_fold(records, start.keys))
    return start


def _redo(engine: Engine, name: str, start: Start, records: Sequence[LogRecord]) -> None:
    """Fold in, in order, what was acknowledged but not yet part of the stored version."""
    for i in range(0, len(records), _BATCH):
        batch = records[i : i + _BATCH]
        try:
            start.value = call(engine.lanes.memory, partial(fold, engine.model, start.value, batch))
        except Exception as error:
            # Nothing is forgotten here: the model may be the one that is broken, not the record.
            raise MemoryUpdateError(
                f"memory {name!r}: log records {batch[0].seq} to {batch[-1].seq} could not be "
                f"folded in ({error}); the store is as it was. To go on without a record, call "
                f"store.forget({name!r}, seq)"
            ) from error
        for record in batch:
            start.version += 1
            start.log_seq, start.digest = record.seq, ""
            note_key(start.keys, record.key, start.version)
