"""The raw clients that stores are measured against, and how each store is opened beside its own."""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import psycopg
import redis

from adapters.stores.directory import DirectoryStore
from adapters.stores.postgres import PostgresStore
from adapters.stores.redis import RedisStore
from adapters.stores.s3 import S3Store
from adapters.stores.sqlite import SqliteStore
from tests.adapters import services

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from rxstream.store import Store


class Raw:
    """One thing after another of the same bytes, and reading the last one."""

    def __init__(
        self,
        folder: str,
        put: Callable[[str, bytes], object],
        get: Callable[[str], bytes],
        clear: Callable[[str], object],
    ) -> None:
        self._folder = Path(folder)
        self._put, self._get, self._clear = put, get, clear
        self._names: list[str] = []

    def put(self, data: bytes) -> None:
        """Store the bytes under a name of their own."""
        name = secrets.token_hex(8)
        self._put(name, data)
        self._names.append(name)

    def get(self) -> bytes:
        """The last ones."""
        return self._get(self._names[-1])

    def clear(self) -> None:
        """Remove all of them."""
        for name in self._names:
            self._clear(name)
        self._names.clear()

    def write(self, data: bytes) -> None:
        """A file written and synced, for comparison."""
        path = self._folder / "plain"
        write_synced(path, data)
        path.unlink()


def write_synced(path: Path, data: bytes) -> None:
    """A new file, its bytes on the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sqlite(stack: ExitStack, folder: str) -> tuple[Store, Raw]:
    store = stack.enter_context(closing(SqliteStore(Path(folder, "store.db"))))
    raw = stack.enter_context(closing(sqlite3.connect(Path(folder, "raw.db"))))
    raw.execute("PRAGMA journal_mode=WAL").fetchone()
    raw.execute("PRAGMA synchronous=FULL")
    raw.execute("CREATE TABLE t (name TEXT PRIMARY KEY, data BLOB)")

    def put(name: str, data: bytes) -> None:
        with raw:
            raw.execute("INSERT INTO t VALUES (?, ?)", (name, data))

    def get(name: str) -> bytes:
        row = raw.execute("SELECT data FROM t WHERE name = ?", (name,)).fetchone()
        return bytes(row[0])

    def clear(name: str) -> None:
        with raw:
            raw.execute("DELETE FROM t WHERE name = ?", (name,))

    return store, Raw(folder, put, get, clear)


def _dir(stack: ExitStack, folder: str) -> tuple[Store, Raw]:
    store = stack.enter_context(closing(DirectoryStore(Path(folder, "store"))))
    place = Path(folder)
    return store, Raw(
        folder,
        lambda name, data: write_synced(place / name, data),
        lambda name: (place / name).read_bytes(),
        lambda name: (place / name).unlink(),
    )


def _postgres(stack: ExitStack, folder: str) -> tuple[Store, Raw]:
    url, schema = stack.enter_context(services.postgres_url()), f"b{secrets.token_hex(6)}"
    store = PostgresStore(url, schema=schema)
    stack.callback(store.erase)
    raw: Any = stack.enter_context(psycopg.connect(url, autocommit=True))
    raw.execute(f"CREATE TABLE {schema}.t (name TEXT PRIMARY KEY, data BYTEA)")
    raw.execute(f"ALTER TABLE {schema}.t ALTER COLUMN data SET STORAGE EXTERNAL")

    def get(name: str) -> bytes:
        statement = f"SELECT data FROM {schema}.t WHERE name = %s"
        return bytes(raw.execute(statement, [name], binary=True).fetchone()[0])

    return store, Raw(
        folder,
        lambda name, data: raw.execute(f"INSERT INTO {schema}.t VALUES (%s, %b)", [name, data]),
        get,
        lambda name: raw.execute(f"DELETE FROM {schema}.t WHERE name = %s", [name]),
    )


def _redis(stack: ExitStack, folder: str) -> tuple[Store, Raw]:
    url, prefix = stack.enter_context(services.redis_url()), f"b{secrets.token_hex(6)}"
    store = RedisStore(url, prefix=prefix)
    stack.callback(store.erase)
    raw: Any = stack.enter_context(closing(redis.Redis.from_url(url)))
    return store, Raw(
        folder,
        lambda name, data: raw.set(f"{prefix}raw{name}", data),
        lambda name: bytes(raw.get(f"{prefix}raw{name}")),
        lambda name: raw.delete(f"{prefix}raw{name}"),
    )


def _s3(stack: ExitStack, folder: str) -> tuple[Store, Raw]:
    store = S3Store(
        services.BUCKET,
        "bench",
        endpoint=stack.enter_context(services.s3_endpoint()),
        region="us-east-1",
        access_key_id="bench",
        secret_access_key="bench",
    )
    stack.callback(store.close)
    bucket = store._objects._bucket
    return store, Raw(
        folder,
        lambda name, data: obstore.put(bucket, name, data, use_multipart=False),
        lambda name: bytes(obstore.get(bucket, name).bytes()),
        lambda name: obstore.delete(bucket, name),
    )


RAW: dict[str, Callable[[ExitStack, str], tuple[Store, Raw]]] = {
    "sqlite": _sqlite,
    "dir": _dir,
    "postgres": _postgres,
    "redis": _redis,
    "s3": _s3,
}
