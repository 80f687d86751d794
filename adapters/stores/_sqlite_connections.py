"""Connections to one SQLite file: one that writes, a few that read, none that a fork inherits.

SQLite keeps its file locks in process memory, and a forked child would believe in locks that only
its parent holds. So every connection is closed before a fork, and each side opens its own after it.
Source: https://www.sqlite.org/howtocorrupt.html section 2.6
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from rxstream.errors import ClosedError, StoreUnavailable

from ._sqlite_errors import NOT_WRITABLE, code_of, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MAX_IDLE_READERS = 4


class Connections:
    """Transactions on one file, from any thread.

    ``prepare(connection, path, writable, timeout)`` runs on the first connection; it may create and
    migrate the schema when ``writable``. ``timeout`` is how many seconds to wait for a lock that
    another process holds. Opening and transactions raise ``StoreUnavailable``, ``StoreCorrupt`` and
    ``ClosedError``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        prepare: Callable[[sqlite3.Connection, Path, bool, float], None],
        *,
        read_only: bool,
        timeout: float,
    ) -> None:
        self.path = Path(path).absolute()
        self._prepare = prepare
        self._read_only = read_only
        self._timeout = timeout
        self._writing = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._readers = threading.Condition(threading.Lock())
        self._idle: list[sqlite3.Connection] = []
        self._busy = 0
        self._closed = False
        with _fork_lock:
            _all.add(self)
        with self._writing:
            self._open_first()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock; durable when the block ends normally."""
        with self._writing, translated(self.path, self._timeout):
            self._check_open()
            if self._read_only:
                raise StoreUnavailable(
                    f"{self.path} is open for reading only; give write permission on the file and "
                    "its folder and open it again"
                )
            if self._writer is None:
                self._writer = self._connect("mode=rw")
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state of the file, beside writers and other readers."""
        with self._readers:
            self._check_open()
            self._busy += 1
            connection = self._idle.pop() if self._idle else None
        keep = done = False
        try:
            with translated(self.path, self._timeout):
                if connection is None:
                    connection, keep = self._connect_reader()
                else:
                    keep = True
                connection.execute("BEGIN")
                yield connection
                connection.execute("COMMIT")
                done = True
        finally:
            with self._readers:
                self._busy -= 1
                if connection is not None:
                    if keep and done and not self._closed and len(self._idle) < _MAX_IDLE_READERS:
                        self._idle.append(connection)
                    else:
                        connection.close()
                self._readers.notify_all()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file, if no reader of an older state is in the way."""
        with self._writing, contextlib.suppress(sqlite3.Error):
            if self._writer is not None:
                try:
                    self._writer.execute("PRAGMA busy_timeout=1000")
                    self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    self._writer.execute(f"PRAGMA busy_timeout={int(self._timeout * 1000)}")

    def close(self) -> None:
        """Wait for what is running, then close; idempotent."""
        self._pause()
        self._closed = True
        self._resume()

    def _pause(self) -> None:
        self._writing.acquire()
        self._readers.acquire()
        self._readers.wait_for(lambda: self._busy == 0)
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        self._close_writer()

    def _resume(self) -> None:
        self._readers.release()
        self._writing.release()

    def _open_first(self) -> None:
        if "\0" in str(self.path):
            raise StoreUnavailable(f"{str(self.path)!r} cannot be a path; remove the NUL")
        if os.path.isdir(self.path):
            raise StoreUnavailable(f"{self.path} is a folder; give the path of a file in it")
        if not os.path.isdir(self.path.parent):
            raise StoreUnavailable(f"{self.path.parent} is not a folder; create it first")
        with translated(self.path, self._timeout):
            if not self._read_only:
                try:
                    self._writer = self._connect("mode=rwc")
                    self._prepare(self._writer, self.path, True, self._timeout)
                    return
                except sqlite3.Error as exc:
                    self._close_writer()
                    if code_of(exc) not in NOT_WRITABLE or not os.path.isfile(self.path):
                        raise
                    self._read_only = True
                except BaseException:
                    self._close_writer()
                    raise
            connection, _ = self._connect_reader()
            with contextlib.closing(connection):
                self._prepare(connection, self.path, False, self._timeout)

    def _roll_back(self) -> None:
        try:
            if self._writer is not None and self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except sqlite3.Error:
            self._close_writer()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _connect(self, options: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?{options}",
            uri=True,
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA secure_delete=ON")
            # A large version that does not fit is written twice, and read again when it is hashed.
            connection.execute(f"PRAGMA cache_size=-{16 << 10}")
            connection.execute("PRAGMA trusted_schema=OFF")
            connection.execute(f"PRAGMA journal_size_limit={64 << 20}")
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_reader(self) -> tuple[sqlite3.Connection, bool]:
        """A reader, and whether it may be kept: one that sees no changes is for one use."""
        try:
            return self._connect("mode=ro"), True
        except sqlite3.Error as exc:
            if code_of(exc) not in NOT_WRITABLE:
                raise
        # Where not even the shared-memory file can be made, the database can only be read as a file
        # that nobody changes; and that is the truth only if no commits wait in a write-ahead log.
        wal = Path(f"{self.path}-wal")
        try:
            unfinished = wal.stat().st_size > 0
        except FileNotFoundError:
            unfinished = False
        if unfinished:
            raise StoreUnavailable(
                f"{self.path} has unfinished work in {wal.name}, which cannot be read without "
                "write permission; copy both files to a folder where you may write"
            )
        return self._connect("mode=ro&immutable=1"), False

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError(f"the store {self.path} is closed; open it again")


_all: weakref.WeakSet[Connections] = weakref.WeakSet()
_fork_lock = threading.Lock()
_paused: list[Connections] = []


def _before_fork() -> None:
    _fork_lock.acquire()
    _paused[:] = _all
    for connections in _paused:
        connections._pause()


def _after_fork() -> None:
    for connections in _paused:
        connections._resume()
    _paused.clear()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )
