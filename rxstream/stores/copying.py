"""Copying memories from store to store, with every version, the log and labels."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import StoreError, StoreNotFound, VersionConflict
from ..model import CompletedInteraction
from ..store import LogRecord

if TYPE_CHECKING:
    from ..store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied of one memory this time."""

    versions: int
    records: int


def copy_memory(source: Store, target: Store, key: str) -> Copied:
    """Bring ``target`` up to what ``source`` has of ``key``; numbers and digests stay the same.

    A copy that was interrupted, or made before the memory went on, is continued. What the source
    has pruned or trimmed since stays in the target; if it has trimmed records that the target never
    had, the target stays as it is. A memory that expires does so in both; in the target, each later
    commit lets it live for as long as was left of it now. Raises VersionConflict when records are
    missing so or the target holds something else under that name, and what stores raise.
    """
    versions = records = 0
    while True:
        # Labels before versions, so that none is of a version that came later; and the log before
        # versions, which must not come before the records that they hold.
        labels = source.tags(key)
        records += _copy_log(source, target, key)
        copied = _copy_versions(source, target, key)
        versions += copied
        if not copied and target.last_seq(key) == source.last_seq(key):
            break
    for label, version in labels.items():
        try:
            target.tag(key, label, version)
        except StoreNotFound:
            if source.tags(key).get(label) == version:
                raise
    expires_at = source.expires_at(key)
    if expires_at is not None:
        target.expire(key, max(1.0, expires_at - time.time()))
    return Copied(versions=versions, records=records)


def _copy_versions(source: Store, target: Store, key: str) -> int:
    head, there = target.head(key), target.history(key)
    for version in there:
        try:
            same = source.info(key, version).digest == target.info(key, version).digest
        except StoreError:
            continue  # pruned in the source
        if not same:
            raise VersionConflict(key, version, version)
        break
    copied = 0
    for version in reversed(source.history(key)):
        if head is None or version > head:
            try:
                snapshot = source.load(key, version)
            except StoreNotFound:  # pruned just now; what there is has changed
                return copied + _copy_versions(source, target, key)
            target.commit(snapshot, expect=head)
            head, copied = version, copied + 1
    return copied


def _copy_log(source: Store, target: Store, key: str) -> int:
    last, copied = target.last_seq(key), 0
    first = next(iter(source.log(key, after=last)), None)
    missing = (source.last_seq(key) if first is None else first.seq - 1) - last
    if missing > 0:
        if target.history(key) or next(iter(target.log(key)), None) is not None:
            raise VersionConflict(key, last + missing, last, (
                f"its log was trimmed up to record {last + missing}, but the copy has it only up "
                f"to {last}; copy the memory to a store that never had it, and from then on "
                "copy before you trim"
            ))  # fmt: skip
        # Trimmed or deleted records: their numbers are used up in the copy too.
        blank = CompletedInteraction(query="", answer="")
        for _ in range(missing):
            target.append(key, LogRecord(seq=0, interaction="", conversation="", completed=blank))
        target.delete(key)
    for record in source.log(key, after=last):
        if record.seq != target.append(key, replace(record, seq=0)).seq:
            raise VersionConflict(key, record.seq, target.last_seq(key))
        copied += 1
    return copied
