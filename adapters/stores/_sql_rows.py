"""``Rows`` in four tables of SQL, of which SQLite and PostgreSQL understand the same dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rxstream.snapshot import MAX_NUMBER
from rxstream.stores.records import StoredRecord
from rxstream.stores.rows import UNREADABLE, Meta, unreadable
from rxstream.stores.rules import damaged_memory, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Execute = Callable[[str, Sequence[Any]], Sequence[Sequence[Any]]]
    """Runs a statement with ``?`` for values and returns all its rows."""

_META = "head, deleted, log_start, last_seq, expires_at, extras, checksum"


class SqlRows:
    """One memory inside a transaction.

    Keys are bytes: SQLite would end text at NUL in places, and bytes sort as code points do.
    ``clock`` is what the database calls its clock, if that is to be used; ``lock`` locks the memory
    for writing, where the database does not lock as a whole.
    """

    def __init__(
        self, execute: Execute, key: str, now: float, *, clock: str = "NULL", lock: str = ""
    ) -> None:
        self._execute, self._key = execute, key
        found = execute(
            f"SELECT {clock}, id, {_META} FROM memories WHERE key = ?{lock}", [key.encode()]
        )
        self.now: float = found[0][0] if found and found[0][0] is not None else now
        self._id: int | None = found[0][1] if found else None
        self._meta = self._checked(*found[0][2:]) if found else Meta()

    def _checked(
        self,
        head: Any,
        deleted: Any,
        log_start: Any,
        last_seq: Any,
        expires_at: Any,
        extras: Any,
        checksum: Any,
    ) -> Meta:
        numbers = [0 if head is None else head, deleted, log_start, last_seq]
        if not all(type(number) is int for number in numbers):
            raise damaged_memory(self._key, "its numbers are none")
        try:
            meta = Meta(
                head=head,
                deleted=bool(deleted),
                log_start=log_start,
                last_seq=last_seq,
                expires_at=None if expires_at is None else float(expires_at),
            ).with_extras(None if extras is None else bytes(extras))
        except UNREADABLE as exc:
            raise damaged_memory(self._key, unreadable(exc)) from exc
        if checksum not in (None, meta.checksum()):  # rows of an older release have none
            raise damaged_memory(self._key, "its bookkeeping does not match its checksum")
        return meta

    def meta(self) -> Meta:
        return self._meta

    def save(self, meta: Meta) -> None:
        self._execute(
            "UPDATE memories SET head = ?, deleted = ?, log_start = ?, last_seq = ?, "
            "expires_at = ?, extras = ?, checksum = ? WHERE id = ?",
            [
                meta.head,
                int(meta.deleted),
                meta.log_start,
                meta.last_seq,
                meta.expires_at,
                meta.extras(),
                meta.checksum(),
                self._created(),
            ],
        )
        self._meta = meta

    def info(self, version: int) -> bytes | None:
        return self._bytes("SELECT info FROM infos WHERE memory = ? AND version = ?", version)

    def packed(self, version: int) -> bytes | None:
        return self._bytes("SELECT packed FROM versions WHERE memory = ? AND version = ?", version)

    def _bytes(self, statement: str, version: int) -> bytes | None:
        rows = self._execute(statement, [self._id, version]) if self._id is not None else []
        return bytes(rows[0][0]) if rows else None

    def versions(self, before: int | None, limit: int | None) -> list[int]:
        if self._id is None:
            return []
        rows = self._execute(
            "SELECT version FROM versions WHERE memory = ? AND version < ? "
            "ORDER BY version DESC LIMIT ?",
            [
                self._id,
                MAX_NUMBER + 1 if before is None else before,
                MAX_NUMBER if limit is None else limit,
            ],
        )
        return [version for (version,) in rows]

    def add(self, version: int, info: bytes, packed: bytes) -> None:
        self._insert("infos", "info", version, info)
        self._insert("versions", "packed", version, packed)

    def _insert(
        self, table: str, column: str, version: int, value: bytes | int, made: str = "?"
    ) -> None:
        self._execute(
            f"INSERT INTO {table} (memory, version, {column}) VALUES (?, ?, {made}) "
            f"ON CONFLICT (memory, version) DO UPDATE SET {column} = excluded.{column}",
            [self._created(), version, value],
        )

    def remove(self, versions: Sequence[int]) -> None:
        for start in range(0, len(versions), 500):
            some = versions[start : start + 500]
            marks = ", ".join("?" * len(some))
            for table in ("versions", "infos"):
                self._execute(
                    f"DELETE FROM {table} WHERE memory = ? AND version IN ({marks})",
                    [self._id, *some],
                )

    def records(self, first: int, count: int) -> list[tuple[int, StoredRecord]]:
        if self._id is None:
            return []
        rows = self._execute(
            "SELECT seq, remembered, record, checksum FROM log "
            "WHERE memory = ? AND seq >= ? AND seq < ? ORDER BY seq",
            [self._id, first, first + count],
        )
        return [
            (seq, StoredRecord.of(remembered, bytes(payload), check))
            for seq, remembered, payload, check in rows
        ]

    def put(self, seq: int, record: StoredRecord) -> None:
        self._execute(
            "INSERT INTO log (memory, seq, remembered, record, checksum) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (memory, seq) DO UPDATE SET remembered = excluded.remembered, "
            "record = excluded.record, checksum = excluded.checksum",
            [self._created(), seq, int(record.remembered), record.payload, record.checksum],
        )

    def drop(self, through: int) -> None:
        self._execute("DELETE FROM log WHERE memory = ? AND seq <= ?", [self._id, through])

    def _created(self) -> int:
        if self._id is None:
            key = self._key.encode()
            self._execute("INSERT INTO memories (key) VALUES (?)", [key])
            ((self._id,),) = self._execute("SELECT id FROM memories WHERE key = ?", [key])
        assert self._id is not None
        return self._id


def names(execute: Execute, now: float, prefix: str, after: str, limit: int | None) -> list[str]:
    """Names of live memories; see ``Store.list``."""
    start = prefix.encode("utf-8", "surrogatepass")
    # No byte of UTF-8 is 0xFF, so this is beyond everything that starts so.
    rows = execute(
        "SELECT key FROM memories WHERE key >= ? AND key < ? AND key > ? AND "
        "((head IS NOT NULL AND deleted = 0) OR last_seq >= log_start) AND "
        "(expires_at IS NULL OR expires_at > ?) ORDER BY key LIMIT ?",
        [
            start,
            start + b"\xff",
            after.encode("utf-8", "surrogatepass"),
            now,
            MAX_NUMBER if limit is None else limit,
        ],
    )
    return [key_of(bytes(key)) for (key,) in rows]


def expired(execute: Execute, now: float) -> list[str]:
    """Names of memories that have expired, but were not deleted."""
    rows = execute("SELECT key FROM memories WHERE expires_at <= ? ORDER BY key", [now])
    return [key_of(bytes(key)) for (key,) in rows]
