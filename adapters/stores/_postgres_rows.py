"""``Rows`` of PostgreSQL, whose large values are read as they come."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import psycopg

from rxstream._hashing import STREAMED
from rxstream.stores.rows import Parts

from ._sql_rows import SqlRows

if TYPE_CHECKING:
    from collections.abc import Sequence

Connection = psycopg.Connection[tuple[Any, ...]]

# One row a part, sent while the one before is hashed; of stored bytes only those of the part are
# read, since they are not compressed. They come in order: the series depends on the one row, so it
# is the inner side of the join. To sort them would be to have them all first.
_PARTS = f"""
    SELECT octet_length(packed), substring(packed FROM at FOR {STREAMED})
    FROM versions, generate_series(1, greatest(1, octet_length(packed)), {STREAMED}) AS at
    WHERE memory = %b AND version = %b
"""


class PostgresRows(SqlRows):
    """One memory inside a transaction of ``connection``; see ``SqlRows``."""

    def __init__(self, connection: Connection, key: str, now: float, clock: str, lock: str) -> None:
        super().__init__(partial(execute, connection), key, now, clock=clock, lock=lock)
        self._connection = connection

    def packed(self, version: int) -> bytes | None:
        found = self.parts(version)
        return None if found is None else b"".join(found.parts)

    def parts(self, version: int) -> Parts | None:
        rows = self._connection.cursor().stream(_PARTS, [self._id, version], binary=True)
        first = next(rows, None)
        if first is None:
            return None
        return Parts(first[0], chain((first[1],), (part for _, part in rows)))


def execute(connection: Connection, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All rows of a statement, with ``?`` for values."""
    cursor = connection.execute(statement.replace("?", "%b"), values, binary=True)
    return cursor.fetchall() if cursor.description else []
