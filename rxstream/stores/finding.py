"""What is there: of the rows of one memory, as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..snapshot import MAX_NUMBER
from . import records, rules

if TYPE_CHECKING:
    from ..store import LogRecord
    from .rows import Meta, Rows


def meta_of(rows: Rows) -> Meta:
    """For reading: what has expired is gone."""
    return rows.meta().at(rows.now)


def record_of(key: str, seq: int, stored: records.StoredRecord | None) -> LogRecord:
    """Raises StoreCorrupt when it is missing or damaged."""
    if stored is None:
        raise records.damaged(key, seq, "it is missing")
    return records.decode(key, seq, stored)


def alive(rows: Rows) -> Meta:
    """For writing: what has expired is deleted first."""
    before = rows.meta()
    meta = before.at(rows.now)
    if meta is not before:
        remove_all(rows, meta)
    return meta


def remove_all(rows: Rows, meta: Meta) -> None:
    """Everything but ``meta``, which says what was."""
    rows.remove(rows.versions(None, None))
    rows.drop(meta.last_seq)
    rows.save(meta)


def find(rows: Rows, key: str, version: int | None) -> tuple[Meta, int]:
    """The number of a version that is there or ought to be."""
    meta = meta_of(rows)
    number = meta.head if version is None else version
    if number is None or meta.deleted:
        raise rules.no_such_version(key, number, None)
    if not 0 <= number <= MAX_NUMBER or not rows.versions(number + 1, 1) == [number]:
        if number == meta.head:
            raise rules.damaged_version(key, number, "it is the newest, but missing")
        kept = rows.versions(None, None)
        raise rules.no_such_version(key, number, min(kept, default=None))
    return meta, number
