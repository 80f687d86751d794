"""The tables of a SQLite store, and bringing a file up to date."""

from __future__ import annotations

import sqlite3
import time
from typing import TYPE_CHECKING

from rxstream.errors import StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION_ID = 0x52785374
"""Marks the file as ours, for ``file`` and for refusing other programs' databases: "RxSt"."""

# A version's info is beside it, in a table of its own: behind a large value it would be slow.
MIGRATIONS = (
    """
    CREATE TABLE memories (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        head INTEGER,
        deleted INTEGER NOT NULL DEFAULT 0,
        log_start INTEGER NOT NULL DEFAULT 1,
        last_seq INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE versions (
        memory INTEGER NOT NULL REFERENCES memories (id),
        version INTEGER NOT NULL,
        packed BLOB NOT NULL,
        UNIQUE (memory, version)
    );
    CREATE TABLE log (
        memory INTEGER NOT NULL REFERENCES memories (id),
        seq INTEGER NOT NULL,
        remembered INTEGER NOT NULL,
        record BLOB NOT NULL,
        checksum INTEGER NOT NULL,
        PRIMARY KEY (memory, seq)
    ) WITHOUT ROWID;
    """,
    """
    ALTER TABLE memories ADD COLUMN expires_at REAL;
    ALTER TABLE memories ADD COLUMN extras BLOB;
    ALTER TABLE memories ADD COLUMN checksum INTEGER;
    CREATE INDEX expiring ON memories (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE infos (
        memory INTEGER NOT NULL REFERENCES memories (id),
        version INTEGER NOT NULL,
        info BLOB NOT NULL,
        PRIMARY KEY (memory, version)
    ) WITHOUT ROWID;
    """,
)
"""``user_version`` n means that the first n have run. Never change one that was released."""


def prepare(connection: sqlite3.Connection, path: Path, writable: bool, timeout: float) -> None:
    """Bring the schema up to date; any number of processes may do so at once.

    ``timeout`` in seconds. Raises ``StoreUnavailable`` for a database that is not ours, is newer,
    or would have to be changed when it is not ``writable``; and errors of sqlite3.
    """
    if _schema_version(connection, path) == len(MIGRATIONS):
        return
    if not writable:
        raise StoreUnavailable(
            f"{path} has no store of this version and cannot be written; open it once with write "
            "permission"
        )
    _enter_wal(connection, timeout)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migration in MIGRATIONS[_schema_version(connection, path) :]:
            for statement in migration.split(";"):
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _schema_version(connection: sqlite3.Connection, path: Path) -> int:
    # Tables first: another process may create all three between these reads.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID and (tables or version or application):
        raise StoreUnavailable(f"{path} is a database of another program; give another path")
    if version > len(MIGRATIONS):
        raise StoreUnavailable(
            f"{path} was written by a newer version (schema {version}, this one knows "
            f"{len(MIGRATIONS)}); upgrade rxstream"
        )
    return int(version)


def _enter_wal(connection: sqlite3.Connection, timeout: float) -> None:
    # Several processes that create one file collide here, and SQLite does not wait for this lock.
    deadline = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").fetchone()
            return
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
