"""Rules that every store keeps, and the errors in which they end; for authors of stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import SnapshotError, StoreCorrupt, StoreNotFound, VersionConflict
from ..snapshot import unpack

if TYPE_CHECKING:
    from ..snapshot import Snapshot
    from ..store import LogRecord

MAX_KEY_BYTES = 512


def check_key(key: str) -> str:
    """Return ``key`` when it may name a memory, else raise ``ValueError``.

    A name is any text of 1 to 512 bytes of UTF-8, taken as it is: no character has a meaning.
    """
    try:
        size = len(key.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError(f"memory name {key[:80]!r} cannot be encoded as UTF-8") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise ValueError(f"a memory name must have 1 to {MAX_KEY_BYTES} bytes, not {size}")
    return key


def check_commit(snapshot: Snapshot, *, expect: int | None, found: int | None) -> None:
    """Raise unless ``snapshot`` may follow version ``found``; to be called inside the transaction.

    ``VersionConflict`` when ``expect`` is not ``found``, ``ValueError`` when the snapshot's own
    version does not count up.
    """
    if expect != found:
        raise VersionConflict(snapshot.memory_id, expect, found)
    if found is not None and snapshot.version <= found:
        raise ValueError(
            f"memory {snapshot.memory_id!r}: version {snapshot.version} must be greater than the "
            f"newest, {found}"
        )


def check_append(key: str, record: LogRecord) -> None:
    """Raise ``ValueError`` when ``record`` cannot be appended to the log of ``key``."""
    check_key(key)
    if record.seq != 0:
        raise ValueError(f"a log record is given its seq by the store; pass 0, not {record.seq}")


def check_prune(key: str, keep_last: int) -> None:
    """Raise ``ValueError`` when pruning so would remove the newest version."""
    check_key(key)
    if keep_last < 1:
        raise ValueError(f"keep_last must be >= 1, not {keep_last}; to remove all, delete")


def unpack_stored(key: str, version: int, data: bytes) -> Snapshot:
    """Unpack what a store holds as ``version`` of ``key``. Raises ``StoreCorrupt`` naming both."""
    try:
        snapshot = unpack(data)
    except SnapshotError as exc:
        raise damaged_version(key, version, str(exc)) from exc
    if (snapshot.memory_id, snapshot.version) != (key, version):
        raise damaged_version(
            key, version, f"it holds version {snapshot.version} of {snapshot.memory_id!r}"
        )
    return snapshot


def damaged_version(key: str, version: int, reason: str) -> StoreCorrupt:
    """The error for one version of a memory."""
    return StoreCorrupt(
        f"memory {key!r}: version {version} is damaged: {reason}; load another version from its "
        "history or restore the store from a copy"
    )


def no_such_version(key: str, version: int | None, oldest: int | None) -> StoreNotFound:
    """The error for a memory without versions (``oldest`` None) or without that version."""
    if oldest is None:
        return StoreNotFound(f"there is no memory {key!r}; commit a first version")
    return StoreNotFound(
        f"memory {key!r} has no version {version}; its oldest is {oldest}, see its history"
    )
