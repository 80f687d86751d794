"""A flipped bit in what a store holds is damage, never absence and never another memory.

The long profile flips 256 bits in every store; every day the far ones get fewer.
"""

from __future__ import annotations

import os
import random
import sqlite3
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import psycopg
import pytest
import redis

from rxstream.errors import StoreCorrupt
from rxstream.testing._store_samples import record, snapshot

from ..profiles import LONG
from .store_kinds import PERSISTENT, opener_of, options_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.store import Store

    Cell = tuple[str, bytes, Callable[[bytes], object]]
    """Where, the bytes there, and how to put others in their place."""

FLIPS = dict.fromkeys(PERSISTENT, 256) | ({} if LONG else {"postgres": 48, "s3": 64})
COLUMNS = {"memories": ("extras",), "versions": ("packed",), "infos": ("info",), "log": ("record",)}
NUMBERS = ("head", "log_start", "last_seq", "checksum")


@contextmanager
def cells_of(kind: str, store: Any, where: str, name: str) -> Iterator[list[Cell]]:
    """All bytes that a store holds, but for names, which say where they are."""
    if kind == "sqlite":
        with closing(sqlite3.connect(f"{where}/{name}.db")) as connection:
            yield in_sql(connection, "?")
    elif kind == "postgres":
        with psycopg.connect(where, options=f"-c search_path={name}") as server:
            yield in_sql(server, "%s")
    elif kind == "dir":
        yield in_files(Path(where, name))
    elif kind == "redis":
        with closing(redis.Redis.from_url(where)) as client:
            yield in_redis(client, name)
    else:
        yield in_objects(store._objects._bucket)


def in_sql(connection: Any, mark: str) -> list[Cell]:
    found: list[Cell] = []

    def putter(table: str, column: str, row: list[Any], where: str) -> Callable[[Any], object]:
        def put(value: Any) -> None:
            statement = f"UPDATE {table} SET {column} = {mark} WHERE {where}"
            connection.execute(statement, [value, *row])
            connection.commit()

        return put

    for table, columns in COLUMNS.items():
        keys = {"memories": ["id"], "log": ["memory", "seq"]}.get(table, ["memory", "version"])
        where = " AND ".join(f"{key} = {mark}" for key in keys)
        for column in columns:
            for *row, data in connection.execute(
                f"SELECT {', '.join(keys)}, {column} FROM {table}"
            ).fetchall():
                if data is not None:
                    found.append(
                        (f"{table}.{column}", bytes(data), putter(table, column, row, where))
                    )
    for column in NUMBERS:
        for row_id, number in connection.execute(f"SELECT id, {column} FROM memories").fetchall():
            put = putter("memories", column, [row_id], f"id = {mark}")
            found.append(
                (
                    f"memories.{column}",
                    number.to_bytes(4, "big"),
                    lambda data, put=put: put(int.from_bytes(data, "big")),
                )
            )
    return found


def in_files(folder: Path) -> list[Cell]:
    files = [p for p in folder.rglob("*") if p.suffix in (".rxlog", ".safetensors")]
    return [(p.name, p.read_bytes(), p.write_bytes) for p in files]


def in_redis(client: Any, prefix: str) -> list[Cell]:
    found: list[Cell] = []
    for key in client.scan_iter(match=f"{prefix}*"):
        if client.type(key) == b"string":
            found.append((key.decode(), client.get(key), lambda d, k=key: client.set(k, d)))
        elif client.type(key) == b"hash":
            found += [
                (f"{key!r} {name!r}", data, lambda d, k=key, n=name: client.hset(k, n, d))
                for name, data in client.hgetall(key).items()
                if name != b"r"  # says only that something changed
            ]
    return found


def in_objects(bucket: Any) -> list[Cell]:
    return [
        (o["path"], bytes(obstore.get(bucket, o["path"]).bytes()),
         lambda d, p=o["path"]: obstore.put(bucket, p, d))
        for page in obstore.list(bucket)
        for o in page
    ]  # fmt: skip


def everything(store: Store) -> list[object]:
    """All that a store says. Raises StoreCorrupt as soon as something is damaged."""
    return [
        store.head("m"),
        store.history("m"),
        [store.load("m", version) for version in (1, 2, 3)],
        [store.info("m", version) for version in (1, 2, 3)],
        store.load("m"),
        store.tags("m"),
        store.last_seq("m"),
        list(store.log("m")),
    ]


@pytest.mark.parametrize("kind", PERSISTENT)
def test_every_random_bit_flip_is_reported_as_damage(
    kind: str, request: pytest.FixtureRequest
) -> None:
    name, where = f"flips{os.getpid()}", options_of(kind, request)
    opener, rng = opener_of(kind, name, where), random.Random(4)
    with closing(opener()) as store:
        try:
            for version in (1, 2, 3):
                store.append("m", record(str(version)))
                store.commit(snapshot("m", version), expect=version - 1 or None)
            store.tag("m", "label", 2)
            store.forget("m", 2)
            whole = everything(store)
            with cells_of(kind, store, where, name) as cells:
                cells.sort(key=lambda cell: cell[0])  # servers list keys in an order of theirs
                sizes = [len(data) for _, data, _ in cells]
                assert sum(sizes) > 1500
                for _ in range(FLIPS[kind]):
                    place, data, put = rng.choices(cells, sizes)[0]
                    position = rng.randrange(len(data))
                    flipped = bytes([data[position] ^ (1 << rng.randrange(8))])
                    put(data[:position] + flipped + data[position + 1 :])
                    with closing(opener()) as fresh, pytest.raises(StoreCorrupt, match="'m'"):
                        pytest.fail(f"{place} at {position}: {everything(fresh)}")
                    put(data)
            with closing(opener()) as fresh:
                assert everything(fresh) == whole
        finally:
            if kind in ("postgres", "redis"):
                store.erase()
