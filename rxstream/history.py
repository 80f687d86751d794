"""What the interaction log says a memory must be: checking its versions, and building it anew."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ._replay import fold, to_fold
from .errors import MemoryUpdateError, SnapshotIncompatible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .model import ReactiveModel
    from .snapshot import Snapshot
    from .store import LogRecord, Store

Outcome = Literal["same", "close", "different", "given"]

CLOSE = 1e-4
"""Distance up to which a version is what the log says but for rounding, as by another processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One stored version, beside what the log says it must be."""

    version: int
    kind: str
    digest: str
    interactions: int
    """Folded in since the version before."""
    outcome: Outcome
    """``close``: up to rounding. ``given``: it does not follow from the log (imported, restored, or
    the log was trimmed)."""
    distance: float = 0.0
    """As ``model.distance`` says, where the model has one."""


def check(store: Store, model: ReactiveModel[Any], key: str) -> Iterator[Replayed]:
    """Compute every stored version of a memory from the one before it, oldest first.

    On the machine that made them the states must be the same bit by bit. On others they may differ
    by rounding, which is told apart for a model that has ``distance(value, other)``: the largest
    difference of two memories over the largest number. Raises what stores and models raise, and
    SnapshotIncompatible for versions of another model.
    """
    value, seq, applied = _beginning(store, model, key)
    for version in reversed(store.history(key)):
        snapshot = store.load(key, version)
        _check_model(model, snapshot)
        folded, distance = 0, 0.0
        stored = model.load(snapshot.state)
        if snapshot.kind == "update" and value is not None:
            records = _between(store, key, seq, snapshot.log_seq, applied)
            folded = len(records)
            value = fold(model, value, records)
            outcome: Outcome = "same"
            if model.dump(value) != snapshot.state:
                measure = getattr(model, "distance", None)
                distance = math.inf if measure is None else measure(value, stored)
                outcome = "close" if distance <= CLOSE else "different"
        else:
            outcome = "given"
        # From the stored value on: one that differs is found once, not in all that follow it.
        value, seq, applied = stored, snapshot.log_seq, snapshot.applied_keys
        yield Replayed(
            version=version,
            kind=snapshot.kind,
            digest=snapshot.digest,
            interactions=folded,
            outcome=outcome,
            distance=distance,
        )


def rebuild(store: Store, model: ReactiveModel[Any], key: str) -> tuple[Any, int]:
    """The value that a memory has when all it remembers is told to ``model`` anew, and the number
    of interactions told: for a model that cannot load the old versions.

    Rollbacks are followed. Raises MemoryUpdateError when the log does not reach back to the
    beginning, or the memory was restored or imported from elsewhere.
    """
    value, seq, told = model.initial_memory(), 0, 0
    records = list(store.log(key))
    if not records or records[0].seq != 1:
        raise MemoryUpdateError(
            f"memory {key!r} cannot be built anew: its log does not begin with its first "
            "interaction"
        )
    by_digest: dict[str, tuple[Any, int]] = {}
    for version in reversed(store.history(key)):
        info = store.info(key, version)
        if info.kind == "update":
            chosen = to_fold([r for r in records if seq < r.seq <= info.log_seq], ())
            value, told = fold(model, value, chosen), told + len(chosen)
        elif info.kind == "rollback" and info.parent_digest in by_digest:
            value, told = by_digest[info.parent_digest]
        else:
            raise MemoryUpdateError(
                f"memory {key!r} cannot be built anew: version {version} does not come from its "
                f"log ({info.kind})"
            )
        seq = info.log_seq
        by_digest[info.digest] = (value, told)
    rest = to_fold([r for r in records if r.seq > seq], ())
    return fold(model, value, rest), told + len(rest)


def _beginning(
    store: Store, model: ReactiveModel[Any], key: str
) -> tuple[Any, int, tuple[str, ...]]:
    """What the first update was applied to, or None when nobody knows."""
    first = next(iter(store.log(key)), None)
    if first is not None and first.seq == 1:
        return model.initial_memory(), 0, ()
    return None, 0, ()


def _between(
    store: Store, key: str, after: int, through: int, applied: tuple[str, ...]
) -> list[LogRecord]:
    records = []
    for record in store.log(key, after=after):
        if record.seq > through:
            break
        records.append(record)
    return to_fold(records, applied)


def _check_model(model: ReactiveModel[Any], snapshot: Snapshot) -> None:
    if snapshot.fingerprint != model.fingerprint:
        raise SnapshotIncompatible(
            f"memory {snapshot.memory_id!r}: version {snapshot.version} was made by model "
            f"{snapshot.fingerprint[:200]!r}, this one is {model.fingerprint[:200]!r}; replay it "
            "with the model that made it, or build the memory anew"
        )
