"""Opening each of our stores in a place of its own, for tests that all of them must pass."""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adapters.stores.directory import DirectoryStore
from adapters.stores.postgres import PostgresStore
from adapters.stores.redis import RedisStore
from adapters.stores.s3 import S3Store
from adapters.stores.sqlite import SqliteStore
from rxstream.stores.memory import MemoryStore

from .services import BUCKET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from rxstream.store import Store

PERSISTENT = ["sqlite", "dir", "postgres", "redis", "s3"]
KINDS = ["memory", *PERSISTENT]


@contextmanager
def place(kind: str, request: pytest.FixtureRequest) -> Iterator[Callable[[], Store]]:
    """A function that opens the store of a kind; each call opens the same data again."""
    name = "t" + secrets.token_hex(6)
    if kind == "memory":
        yield MemoryStore
        return
    opener = opener_of(kind, name, options_of(kind, request))
    yield opener
    if kind in ("postgres", "redis"):
        opener().erase()  # type: ignore[attr-defined]


def options_of(kind: str, request: pytest.FixtureRequest) -> str:
    """What ``opener_of`` needs to know of the service or folder."""
    service = {"postgres": "postgres_url", "redis": "redis_url", "s3": "s3_endpoint"}
    return str(request.getfixturevalue(service.get(kind, "tmp_path")))


def opener_of(kind: str, name: str, where: str) -> Callable[[], Any]:
    """Also for other processes: from plain text."""
    openers: dict[str, Callable[[], Any]] = {
        "sqlite": lambda: SqliteStore(f"{where}/{name}.db"),
        "dir": lambda: DirectoryStore(f"{where}/{name}"),
        "postgres": lambda: PostgresStore(where, schema=name),
        "redis": lambda: RedisStore(where, prefix=name),
        "s3": lambda: S3Store(
            BUCKET,
            name,
            endpoint=where,
            region="us-east-1",
            access_key_id="tests",
            secret_access_key="tests",
        ),
    }
    return openers[kind]
