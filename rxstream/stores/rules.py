"""Rules that every store keeps, and the errors in which they end; for authors of stores."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

from .._checks import check_text
from .._snapshot_file import Unpacking
from ..errors import RequestReused, SnapshotError, StoreCorrupt, StoreNotFound, VersionConflict
from ..snapshot import received
from . import records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..snapshot import Snapshot
    from ..store import LogRecord, VersionInfo
    from .rows import Meta, Rows

MAX_KEY_BYTES = 512
MAX_LABEL_BYTES = 128
MAX_TAGS = 1000


def check_key(key: str) -> str:
    """Return ``key`` when it may name a memory, else raise ``ValueError``.

    A name is any text of 1 to 512 bytes of UTF-8, taken as it is: no character has a meaning.
    """
    return check_text(key, "a memory name", longest=MAX_KEY_BYTES)


def key_of(stored: bytes) -> str:
    """The name that is kept as these bytes. Raises ``StoreCorrupt``."""
    try:
        return stored.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise StoreCorrupt(
            f"the name of a memory is damaged: {stored[:80]!r}; restore the store from a copy"
        ) from exc


def check_label(label: str) -> str:
    """Return ``label`` when it may name a version, else raise ``ValueError``."""
    return check_text(label, "a label", longest=MAX_LABEL_BYTES)


def check_request(request_id: str | None) -> None:
    """Raise ``ValueError`` unless ``request_id`` is None or may be kept."""
    if request_id is not None:
        check_text(request_id, "a request id", longest=MAX_LABEL_BYTES)


def check_limit(limit: int | None) -> None:
    """Raise ``ValueError`` for a number of results that is negative."""
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be >= 0 or None, not {limit}")


def check_ttl(ttl: float | None) -> None:
    """Raise ``ValueError`` unless a memory can live for ``ttl`` seconds."""
    if ttl is not None and not (0 < ttl < math.inf):
        raise ValueError(f"ttl must be a positive number of seconds or None, not {ttl}")


def check_tags(key: str, tags: Mapping[str, int]) -> None:
    """Raise ``ValueError`` when a memory would have too many labels."""
    if len(tags) > MAX_TAGS:
        raise ValueError(f"memory {key!r} has {MAX_TAGS} labels, the most there may be; untag some")


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


def is_repeated(key: str, meta: Meta, request_id: str | None, asked: str) -> bool:
    """Whether this very request was answered before. Raises ``RequestReused`` for another one."""
    if request_id is None or request_id not in meta.requests:
        return False
    if meta.requests[request_id][0] != asked:
        raise RequestReused(
            f"memory {key!r}: request {request_id!r} was made before with other content; "
            "give each request an id of its own"
        )
    return True


def content_of(record: LogRecord) -> str:
    """What tells one append from another."""
    whole = records.encode(record) + bytes([record.remembered])
    return f"append {hashlib.sha256(whole).hexdigest()}"


def check_append(key: str, record: LogRecord) -> None:
    """Raise ``ValueError`` when ``record`` cannot be appended to the log of ``key``."""
    check_key(key)
    if record.seq != 0:
        raise ValueError(f"a log record is given its seq by the store; pass 0, not {record.seq}")


def check_prune(key: str, keep_last: int | None, older_than: float | None) -> None:
    """Raise ``ValueError`` when pruning so would remove the newest version, or has no limit."""
    check_key(key)
    if keep_last is None and older_than is None:
        raise ValueError("say what to keep: keep_last=, older_than= or both; to remove all, delete")
    if keep_last is not None and keep_last < 1:
        raise ValueError(f"keep_last must be >= 1, not {keep_last}; to remove all, delete")
    if older_than is not None and not older_than >= 0:
        raise ValueError(f"older_than must be seconds >= 0, not {older_than}")


def check_trim(key: str, through: int, newest: VersionInfo) -> None:
    """Raise ``ValueError`` when a record would go that a redo needs."""
    if through > newest.log_seq:
        raise ValueError(
            f"memory {key!r}: its newest version holds the log up to record {newest.log_seq}; "
            f"records up to {through} cannot be removed yet"
        )


def made(key: str, version: int, rows: Rows) -> float:
    """When a version was made; a damaged one counts as new, so that it is not lost for being so."""
    try:
        return read_info(key, version, rows.info(version), lambda: rows.packed(version)).created_at
    except StoreCorrupt:
        return math.inf


def read_info(
    key: str, version: int, info: bytes | None, packed: Callable[[], bytes | None]
) -> VersionInfo:
    """What is known of a version. Raises ``StoreCorrupt`` naming it.

    A store of an older release has no ``info`` of its oldest versions; then ``packed`` tells.
    """
    if info is None:
        whole = packed()
        if whole is None:
            raise damaged_version(key, version, "it is missing")
        with Unpacking() as file:
            file.begin(len(whole))
            file.add(whole)
            return records.describe(unpack_stored(key, version, file, None), len(whole))
    try:
        return records.decode_info(key, version, info)
    except ValueError as exc:
        raise damaged_version(key, version, str(exc)) from exc


def unpack_stored(key: str, version: int, file: Unpacking, info: bytes | None) -> Snapshot:
    """Unpack what a store holds as ``version`` of ``key``. Raises ``StoreCorrupt`` naming both.

    ``info`` is what is known of it, which must be true.
    """
    try:
        snapshot = received(file)
    except SnapshotError as exc:
        raise damaged_version(key, version, str(exc)) from exc
    if (snapshot.memory_id, snapshot.version) != (key, version):
        raise damaged_version(
            key, version, f"it holds version {snapshot.version} of {snapshot.memory_id!r}"
        )
    if info is not None:
        known = read_info(key, version, info, lambda: None)
        if known != records.describe(snapshot, file.size):
            raise damaged_version(key, version, "it is not the version that was committed")
    return snapshot


def damaged_version(key: str, version: int, reason: str) -> StoreCorrupt:
    """The error for one version of a memory."""
    return StoreCorrupt(
        f"memory {key!r}: version {version} is damaged: {reason}; load another version from its "
        "history or restore the store from a copy"
    )


def damaged_memory(key: str, reason: str) -> StoreCorrupt:
    """The error for a memory of which nothing can be read."""
    return StoreCorrupt(f"memory {key!r} is damaged: {reason}; restore the store from a copy")


def no_such_version(key: str, version: int | None, oldest: int | None) -> StoreNotFound:
    """The error for a memory without versions (``oldest`` None) or without that version."""
    if oldest is None:
        return StoreNotFound(f"there is no memory {key!r}; commit a first version")
    return StoreNotFound(
        f"memory {key!r} has no version {version}; its oldest is {oldest}, see its history"
    )
