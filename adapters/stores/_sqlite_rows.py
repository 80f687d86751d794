"""``Rows`` of SQLite, whose large values are written and read in place."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from rxstream._hashing import LARGE

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

    def parts(self, version: int) -> Iterator[bytes]:
        if not self._is_blob(version):  # nothing, or damaged so that it cannot be opened as one
            whole = self.packed(version)
            return iter(() if whole is None else (whole,))
        return self._read(version)

    def _read(self, version: int) -> Iterator[bytes]:
        with self._open(version, readonly=True) as blob:
            while part := blob.read(LARGE):
                yield part

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

    def _is_blob(self, version: int) -> bool:
        rows = self._execute(
            "SELECT typeof(packed) FROM versions WHERE memory = ? AND version = ?",
            [self._id, version],
        )
        return [tuple(row) for row in rows] == [("blob",)]

    def _open(self, version: int, *, readonly: bool = False) -> sqlite3.Blob:
        ((row,),) = self._execute(
            "SELECT rowid FROM versions WHERE memory = ? AND version = ?", [self._id, version]
        )
        return self._connection.blobopen("versions", "packed", row, readonly=readonly)


def execute(
    connection: sqlite3.Connection, statement: str, values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """All rows of a statement."""
    return connection.execute(statement, values).fetchall()
