"""A schema in a PostgreSQL database, for any number of machines. Needs ``rxstream[postgres]``."""

from __future__ import annotations

import os
import re
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import psycopg

from rxstream.errors import StoreCorrupt, StoreUnavailable
from rxstream.stores.remote import Lost, Outrun, RemoteStore

from . import _sql_rows
from ._postgres_rows import Connection, PostgresRows, execute
from ._postgres_schema import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.stores.rows import Rows

T = TypeVar("T")

_IDLE = 8
"""Connections kept open while nobody uses them."""
_LOCK_WAIT = 30
"""Seconds to wait for another writer of the same memory."""
_SCHEMA = re.compile("[a-z_][a-z0-9_]{0,62}")


class PostgresStore(RemoteStore):
    """A ``Store`` in the tables of one schema, which is made when it is not there.

    A commit is as durable as the server's ``synchronous_commit``, which is on by default. One
    version may take 1 GB. Lifetimes are measured by the server's clock. ``patience`` is how many
    seconds to go on trying when the connection breaks. Raises ``StoreUnavailable``.
    """

    capabilities = frozenset({"persistent", "durable", "shared"})

    def __init__(self, conninfo: str, *, schema: str = "rxstream", patience: float = 5.0) -> None:
        if not _SCHEMA.fullmatch(schema):
            raise StoreUnavailable(
                f"{schema!r} cannot be a schema; use lower-case letters, digits and _"
            )
        super().__init__(f"PostgreSQL schema {schema}", patience)
        self._conninfo, self._schema = conninfo, schema
        self._guard = threading.Lock()
        self._idle: list[Connection] = []
        self._process = os.getpid()
        self._persist(self._prepare, repeatable=True)

    @classmethod
    def from_url(cls, url: str) -> PostgresStore:
        """``postgresql://user@host:port/database?schema=rxstream``, or with libpq's parameters."""
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        schema = options.pop("schema", "rxstream")
        return cls(urlunsplit(parts._replace(query=urlencode(options))), schema=schema)

    def erase(self) -> None:
        """Drop the schema with everything in it, also what keeps version numbers from being used
        again. The store is closed then."""

        def drop() -> None:
            with self._transaction("BEGIN") as connection:
                connection.execute(f"DROP SCHEMA IF EXISTS {self._schema} CASCADE")

        self._persist(drop, repeatable=True)
        self.close()

    def _prepare(self) -> None:
        with self._transaction("BEGIN") as connection:
            prepare(connection, self._schema)

    def _read_once(self, key: str, work: Callable[[Rows], T]) -> T:
        with self._transaction(_READ) as connection:
            return work(self._rows(connection, key, ""))

    def _write_once(self, key: str, work: Callable[[Rows], T]) -> T:
        with self._transaction("BEGIN") as connection:
            return work(self._rows(connection, key, " FOR UPDATE"))

    def _rows(self, connection: Connection, key: str, lock: str) -> PostgresRows:
        return PostgresRows(connection, key, self._now(), f"{_CLOCK} + {self._skew}", lock)

    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        def names() -> list[str]:
            with self._transaction(_READ) as connection:
                run = partial(execute, connection)
                return _sql_rows.names(run, self._clock(run), prefix, after, limit)

        return self._persist(names)

    def _expired(self) -> list[str]:
        def expired() -> list[str]:
            with self._transaction(_READ) as connection:
                run = partial(execute, connection)
                return _sql_rows.expired(run, self._clock(run))

        return self._persist(expired)

    def _clock(self, execute: _sql_rows.Execute) -> float:
        ((now,),) = execute(f"SELECT {_CLOCK}", [])
        return float(now) + self._skew

    def _close(self) -> None:
        if self._gate.close():
            with self._guard:
                idle, self._idle = self._idle, []
            for connection in idle:
                connection.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        committing = False
        connection: Connection | None = None
        try:
            connection = self._take()
            connection.execute(begin)
            yield connection
            committing = True
            connection.execute("COMMIT")
        except psycopg.Error as exc:
            self._give_back(connection, broken=True)
            raise self._explain(exc, in_doubt=committing and begin is not _READ) from exc
        except BaseException:
            try:
                if connection is not None:
                    connection.execute("ROLLBACK")
                self._give_back(connection)
            except psycopg.Error:
                self._give_back(connection, broken=True)
            raise
        self._give_back(connection)

    def _take(self) -> Connection:
        with self._guard:
            if self._process != os.getpid():  # forked: the connections are the parent's
                self._idle, self._process = [], os.getpid()
            if self._idle:
                return self._idle.pop()
        connection = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=10)
        connection.prepare_threshold = 3
        connection.execute(f"SET search_path TO {self._schema}")
        connection.execute(f"SET lock_timeout TO '{_LOCK_WAIT}s'")
        return connection

    def _give_back(self, connection: Connection | None, broken: bool = False) -> None:
        if connection is None:
            return
        with self._guard:
            if not broken and len(self._idle) < _IDLE and self._process == os.getpid():
                self._idle.append(connection)
                return
        connection.close()

    def _explain(self, exc: psycopg.Error, in_doubt: bool) -> Exception:
        reason = " ".join(str(exc).split())
        if isinstance(exc, psycopg.errors.UniqueViolation | psycopg.errors.SerializationFailure):
            return Outrun()  # another process made the memory first
        if isinstance(exc, psycopg.errors.DeadlockDetected):
            return Outrun()
        if isinstance(exc, psycopg.errors.DataCorrupted | psycopg.errors.IndexCorrupted):
            return StoreCorrupt(f"{self._place} is damaged ({reason}); restore it from a copy")
        for kinds, advice in _ADVICE:
            if isinstance(exc, kinds):
                return StoreUnavailable(f"{self._place}: {advice} ({reason})")
        if isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError):
            message = f"the server cannot be reached ({reason}); check address and server."
            return Lost(message, in_doubt=in_doubt)
        return StoreUnavailable(f"{self._place} cannot be used ({reason})")


_CLOCK = "extract(epoch FROM clock_timestamp())::float8"
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_ADVICE: tuple[tuple[Any, str], ...] = (
    (psycopg.errors.DiskFull, "the disk is full; nothing was written, free space"),
    (psycopg.errors.LockNotAvailable, f"locked by another writer for {_LOCK_WAIT} s; try again"),
    (psycopg.errors.InsufficientPrivilege, "not permitted; grant it to this user"),
    (psycopg.errors.ReadOnlySqlTransaction, "open for reading only; connect to the primary"),
    (psycopg.errors.InvalidCatalogName, "there is no such database; create it"),
    (psycopg.errors.InvalidPassword, "the password is wrong; give another"),
    (psycopg.errors.InvalidAuthorizationSpecification, "the user may not log in; give another"),
)
