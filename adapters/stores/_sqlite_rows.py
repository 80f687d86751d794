"""``Rows`` of SQLite, whose large values are written and read in place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rxstream._hashing import PART
from rxstream.stores.rows import Parts

from ._sql_rows import SqlRows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from rxstream._snapshot_file import Packing


class SqliteRows(SqlRows):
    """One memory inside a transaction of ``connection``."""

    def __init__(self, connection: sqlite3.Connection, key: str, now: float) -> None:
        super().__init__(partial(execute, connection), key, now)
        self._connection = connection
        self._begun: set[int] = set()

    def packed(self, version: int) -> bytes | None:
        found = self.parts(version)
        return None if found is None else b"".join(found.parts)

    def parts(self, version: int) -> Parts | None:
        found = self._execute(
            "SELECT rowid, typeof(packed) FROM versions WHERE memory = ? AND version = ?",
            [self._id, version],
        )
        if not found:
            return None
        ((row, kind),) = found
        if kind != "blob":  # damaged, and cannot be opened
            return Parts(0, ())
        blob = self._connection.blobopen("versions", "packed", row, readonly=True)
        return Parts(len(blob), _read(blob))

    def begin(self, version: int, file: Packing) -> None:
        self._insert("versions", "packed", version, file.size, "zeroblob(?)")
        with self._open(version) as blob:
            blob.seek(file.head_size)
            blob.write(file.body)
        self._begun.add(version)

    def add(self, version: int, info: bytes, packed: bytes) -> None:
        if version not in self._begun:
            return super().add(version, info, packed)
        self._begun.remove(version)
        with self._open(version) as blob:
            blob.write(packed)
        return self._insert("infos", "info", version, info)

    def _open(self, version: int) -> sqlite3.Blob:
        ((row,),) = self._execute(
            "SELECT rowid FROM versions WHERE memory = ? AND version = ?", [self._id, version]
        )
        return self._connection.blobopen("versions", "packed", row)


def _read(blob: sqlite3.Blob) -> Iterator[bytes]:
    with blob:
        while part := blob.read(PART):
            yield part


def execute(
    connection: sqlite3.Connection, statement: str, values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """All rows of a statement."""
    return connection.execute(statement, values).fetchall()
