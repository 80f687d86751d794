"""The tables of a PostgreSQL store, and bringing a schema up to date."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxstream.errors import StoreUnavailable

if TYPE_CHECKING:
    from ._postgres_rows import Connection

# EXTERNAL: tensors hardly compress, and trying takes longer than writing them.
MIGRATIONS = (
    """
    CREATE TABLE memories (
        id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key BYTEA NOT NULL UNIQUE,
        head BIGINT,
        deleted BIGINT NOT NULL DEFAULT 0,
        log_start BIGINT NOT NULL DEFAULT 1,
        last_seq BIGINT NOT NULL DEFAULT 0,
        expires_at DOUBLE PRECISION,
        extras BYTEA,
        checksum BIGINT
    );
    CREATE INDEX expiring ON memories (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE versions (
        memory BIGINT NOT NULL REFERENCES memories (id),
        version BIGINT NOT NULL,
        packed BYTEA NOT NULL,
        PRIMARY KEY (memory, version)
    );
    ALTER TABLE versions ALTER COLUMN packed SET STORAGE EXTERNAL;
    CREATE TABLE infos (
        memory BIGINT NOT NULL REFERENCES memories (id),
        version BIGINT NOT NULL,
        info BYTEA NOT NULL,
        PRIMARY KEY (memory, version)
    );
    CREATE TABLE log (
        memory BIGINT NOT NULL REFERENCES memories (id),
        seq BIGINT NOT NULL,
        remembered BIGINT NOT NULL,
        record BYTEA NOT NULL,
        checksum BIGINT NOT NULL,
        PRIMARY KEY (memory, seq)
    );
    """,
)
"""The number in table ``format`` says how many have run. Never change one that was released."""


def prepare(connection: Connection, schema: str) -> None:
    """Bring a schema up to date, inside a transaction; any number of processes may do so at once.

    Raises ``StoreUnavailable`` for a schema that is not ours or newer, and errors of psycopg.
    """
    found = _version(connection, schema)
    if found == len(MIGRATIONS):
        return
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"rxstream {schema}"])
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
    found = _version(connection, schema)
    if found > len(MIGRATIONS):
        raise StoreUnavailable(
            f"schema {schema} was written by a newer version (format {found}, this one knows "
            f"{len(MIGRATIONS)}); upgrade rxstream"
        )
    connection.execute(f"SET LOCAL search_path TO {schema}")
    for migration in MIGRATIONS[found:]:
        connection.execute(migration)
    connection.execute("CREATE TABLE IF NOT EXISTS format (version BIGINT NOT NULL)")
    connection.execute("DELETE FROM format")
    connection.execute("INSERT INTO format VALUES (%s)", [len(MIGRATIONS)])


def _version(connection: Connection, schema: str) -> int:
    tables = {
        name
        for (name,) in connection.execute(
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = %s",
            [schema],
        )
    }
    if not tables:
        return 0
    if "format" not in tables:
        raise StoreUnavailable(
            f"schema {schema} has tables of another program; give another schema="
        )
    row = connection.execute(f"SELECT version FROM {schema}.format").fetchone()
    return int(row[0]) if row else 0
