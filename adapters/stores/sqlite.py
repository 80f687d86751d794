"""The default store: one SQLite file, durable per commit, shared by any number of processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl

from rxstream.errors import StoreNotFound, StoreUnavailable
from rxstream.snapshot import MAX_NUMBER, pack
from rxstream.stores import records
from rxstream.stores.rules import (
    check_append,
    check_commit,
    check_key,
    check_prune,
    damaged_version,
    no_such_version,
    unpack_stored,
)

from ._sqlite_connections import Connections
from ._sqlite_schema import prepare

if TYPE_CHECKING:
    import builtins
    import os
    import sqlite3
    from collections.abc import Iterator

    from rxstream.snapshot import Snapshot
    from rxstream.store import LogRecord

_PAGE = 256


class _Memory(NamedTuple):
    id: int
    head: int | None
    deleted: bool
    log_start: int
    last_seq: int


_ABSENT = _Memory(0, None, False, 1, 0)


class SqliteStore:
    """A ``Store`` in one file (and two beside it while open), in write-ahead-log mode.

    A commit is on the disk when it returns (``synchronous=FULL``). Any number of threads and
    processes of one machine may use the file; a network drive is not suitable. One memory version
    may take 1 GB. A file or folder that cannot be written is opened for reading.

    ``timeout`` is how many seconds to wait while another process writes. Raises
    ``StoreUnavailable`` when the file cannot be opened or belongs to another program, and
    ``StoreCorrupt`` when it is damaged.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, read_only: bool = False, timeout: float = 30.0
    ) -> None:
        self._db = Connections(path, prepare, read_only=read_only, timeout=timeout)

    @classmethod
    def from_url(cls, url: str) -> SqliteStore:
        """``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``sqlite:///~/path``.

        ``?mode=ro`` opens for reading only. A path with a ``?`` in it needs the class itself.
        """
        address, _, query = url.partition("?")
        path = address.removeprefix("sqlite:///")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if path in (address, "", ":memory:"):
            raise StoreUnavailable(
                f"{url!r} has no path; write sqlite:///file.db, or memory: for a store in memory"
            )
        if options.keys() - {"mode"} or options.get("mode", "rw") not in ("ro", "rw"):
            raise StoreUnavailable(f"{url!r} has an option that is not known; known: mode=ro|rw")
        try:
            expanded = Path(path).expanduser()
        except RuntimeError as exc:
            raise StoreUnavailable(f"{url!r}: {exc}; write the whole path") from exc
        return cls(expanded, read_only=options.get("mode") == "ro")

    def head(self, key: str) -> int | None:
        """See ``Store.head``."""
        check_key(key)
        with self._db.read() as connection:
            return _find(connection, key).head

    def load(self, key: str, version: int | None = None) -> Snapshot:
        """See ``Store.load``."""
        check_key(key)
        with self._db.read() as connection:
            memory = _find(connection, key)
            number = memory.head if version is None else version
            row = oldest = None
            if number is not None and 0 <= number <= MAX_NUMBER:
                row = connection.execute(
                    "SELECT packed FROM versions WHERE memory = ? AND version = ?",
                    (memory.id, number),
                ).fetchone()
            if row is None:
                (oldest,) = connection.execute(
                    "SELECT min(version) FROM versions WHERE memory = ?", (memory.id,)
                ).fetchone()
        if row is not None and number is not None:
            return unpack_stored(key, number, row[0])
        if number is not None and number == memory.head and not memory.deleted:
            raise damaged_version(key, number, "it is the newest, but missing")
        raise no_such_version(key, number, oldest)

    def commit(self, snapshot: Snapshot, *, expect: int | None) -> None:
        """See ``Store.commit``."""
        key = check_key(snapshot.memory_id)
        packed = pack(snapshot)
        with self._db.write() as connection:
            memory = _find(connection, key)
            check_commit(snapshot, expect=expect, found=memory.head)
            memory_id = memory.id or _create(connection, key)
            connection.execute(
                "INSERT INTO versions (memory, version, packed) VALUES (?, ?, ?)",
                (memory_id, snapshot.version, packed),
            )
            connection.execute(
                "UPDATE memories SET head = ?, deleted = 0 WHERE id = ?",
                (snapshot.version, memory_id),
            )

    def history(self, key: str) -> builtins.list[int]:
        """See ``Store.history``."""
        check_key(key)
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT version FROM versions WHERE memory = ? ORDER BY version DESC",
                (_find(connection, key).id,),
            )
            return [version for (version,) in rows]

    def append(self, key: str, record: LogRecord) -> LogRecord:
        """See ``Store.append``."""
        check_append(key, record)
        payload = records.encode(record)
        with self._db.write() as connection:
            memory = _find(connection, key)
            memory_id, seq = memory.id or _create(connection, key), memory.last_seq + 1
            connection.execute("UPDATE memories SET last_seq = ? WHERE id = ?", (seq, memory_id))
            check = records.checksum(key, seq, record.remembered, payload)
            connection.execute(
                "INSERT INTO log (memory, seq, remembered, record, checksum) "
                "VALUES (?, ?, ?, ?, ?)",
                (memory_id, seq, record.remembered, payload, check),
            )
        return replace(record, seq=seq)

    def log(self, key: str, after: int = 0) -> Iterator[LogRecord]:
        """See ``Store.log``. Reads in pages, so a long log takes little memory."""
        check_key(key)
        return self._pages(key, after)

    def forget(self, key: str, seq: int) -> None:
        """See ``Store.forget``."""
        check_key(key)
        with self._db.write() as connection:
            memory = _find(connection, key)
            rows = _log_rows(connection, memory.id, seq, 1) if 0 < seq <= MAX_NUMBER else []
            if not rows or rows[0][0] != seq:
                if memory.log_start <= seq <= memory.last_seq:
                    raise records.damaged(key, seq, "it is missing")
                raise StoreNotFound(f"memory {key!r} has no log record {seq}")
            _, remembered, payload, check = rows[0]
            records.decode(key, seq, remembered, payload, check)
            connection.execute(
                "UPDATE log SET remembered = 0, checksum = ? WHERE memory = ? AND seq = ?",
                (records.checksum(key, seq, False, payload), memory.id, seq),
            )

    def list(self, prefix: str = "") -> builtins.list[str]:
        """See ``Store.list``."""
        start = prefix.encode("utf-8", "surrogatepass")
        # No byte of UTF-8 is 0xFF, so this is beyond everything that starts so.
        with self._db.read() as connection:
            rows = connection.execute(
                "SELECT key FROM memories WHERE key >= ? AND key < ? AND "
                "((head IS NOT NULL AND NOT deleted) OR last_seq >= log_start) ORDER BY key",
                (start, start + b"\xff"),
            )
            return [key.decode("utf-8") for (key,) in rows]

    def delete(self, key: str) -> None:
        """See ``Store.delete``. The bytes in the file are overwritten too.

        If somebody is reading an older state just now, that happens with a later checkpoint.
        """
        check_key(key)
        with self._db.write() as connection:
            memory = _find(connection, key)
            if memory.last_seq < memory.log_start and (memory.deleted or memory.head is None):
                return
            connection.execute("DELETE FROM versions WHERE memory = ?", (memory.id,))
            connection.execute("DELETE FROM log WHERE memory = ?", (memory.id,))
            connection.execute(
                "UPDATE memories SET head = ?, deleted = 1, log_start = last_seq + 1 WHERE id = ?",
                (0 if memory.head is None else memory.head + 1, memory.id),
            )
        self._db.checkpoint()

    def prune(self, key: str, *, keep_last: int) -> int:
        """See ``Store.prune``."""
        check_prune(key, keep_last)
        with self._db.write() as connection:
            return connection.execute(
                "DELETE FROM versions WHERE memory = :memory AND version NOT IN (SELECT version "
                "FROM versions WHERE memory = :memory ORDER BY version DESC LIMIT :keep)",
                {"memory": _find(connection, key).id, "keep": min(keep_last, MAX_NUMBER)},
            ).rowcount

    def close(self) -> None:
        """See ``Store.close``. Waits for calls that are running in other threads."""
        self._db.close()

    def _pages(self, key: str, after: int) -> Iterator[LogRecord]:
        start: int | None = None
        while True:
            with self._db.read() as connection:
                memory = _find(connection, key)
                rows = _log_rows(connection, memory.id, after + 1, _PAGE)
            if start not in (None, memory.log_start):
                return  # deleted meanwhile
            start = memory.log_start
            expected = range(max(after + 1, start), memory.last_seq + 1)[:_PAGE]
            found = {row[0]: row for row in rows}
            for seq in expected:
                if seq not in found:
                    raise records.damaged(key, seq, "it is missing")
                yield records.decode(key, *found[seq])
            if not expected:
                return
            after = expected[-1]


def _find(connection: sqlite3.Connection, key: str) -> _Memory:
    row = connection.execute(
        "SELECT id, head, deleted, log_start, last_seq FROM memories WHERE key = ?",
        (key.encode("utf-8"),),
    ).fetchone()
    return _ABSENT if row is None else _Memory(*row)


def _create(connection: sqlite3.Connection, key: str) -> int:
    cursor = connection.execute("INSERT INTO memories (key) VALUES (?)", (key.encode("utf-8"),))
    return int(cursor.lastrowid or 0)


def _log_rows(
    connection: sqlite3.Connection, memory: int, first: int, count: int
) -> list[tuple[int, bool, bytes, int]]:
    return connection.execute(
        "SELECT seq, remembered, record, checksum FROM log WHERE memory = ? AND seq >= ? "
        "ORDER BY seq LIMIT ?",
        (memory, max(0, min(first, MAX_NUMBER)), count),
    ).fetchall()
