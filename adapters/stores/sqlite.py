"""The default store: one SQLite file, durable per commit, shared by any number of processes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl

from rxstream.errors import StoreUnavailable
from rxstream.stores.base import BaseStore

from . import _sql_rows
from ._sqlite_connections import Connections
from ._sqlite_rows import SqliteRows, execute
from ._sqlite_schema import prepare

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from rxstream.stores.rows import Rows

T = TypeVar("T")


class SqliteStore(BaseStore):
    """A ``Store`` in one file (and two beside it while open), in write-ahead-log mode.

    A commit is on the disk when it returns (``synchronous=FULL``). Any number of threads and
    processes of one machine may use the file; a network drive is not suitable. One memory version
    may take 1 GB. A file or folder that cannot be written is opened for reading.

    ``timeout`` is how many seconds to wait while another process writes. Raises
    ``StoreUnavailable`` when the file cannot be opened or belongs to another program, and
    ``StoreCorrupt`` when it is damaged.
    """

    capabilities = frozenset({"persistent", "durable", "shared"})
    _hashes_beside = True

    def __init__(
        self, path: str | os.PathLike[str], *, read_only: bool = False, timeout: float = 30.0
    ) -> None:
        super().__init__()
        self._db = Connections(path, prepare, read_only=read_only, timeout=timeout)

    @classmethod
    def from_url(cls, url: str) -> SqliteStore:
        """``sqlite:///relative/path``, ``sqlite:////absolute/path`` or ``sqlite:///~/path``.

        ``?mode=ro`` opens for reading only. A path with a ``?`` in it needs the class itself.
        """
        address, _, query = url.partition("?")
        path = address.removeprefix("sqlite:///")
        options = dict(parse_qsl(query, keep_blank_values=True))
        if path in (address, "", ":memory:"):
            raise StoreUnavailable(
                f"{url!r} has no path; write sqlite:///file.db, or memory: for a store in memory"
            )
        if options.keys() - {"mode"} or options.get("mode", "rw") not in ("ro", "rw"):
            raise StoreUnavailable(f"{url!r} has an option that is not known; known: mode=ro|rw")
        try:
            expanded = Path(path).expanduser()
        except RuntimeError as exc:
            raise StoreUnavailable(f"{url!r}: {exc}; write the whole path") from exc
        return cls(expanded, read_only=options.get("mode") == "ro")

    def delete(self, key: str) -> None:
        """See ``Store.delete``. The bytes in the file are overwritten too.

        If somebody is reading an older state just now, that happens with a later checkpoint.
        """
        super().delete(key)
        self._db.checkpoint()

    def erase(self) -> None:
        """Remove the file, also what keeps version numbers from being used again. The store is
        closed then; nobody else may have it open."""
        self.close()
        try:
            for end in ("", "-wal", "-shm"):
                Path(f"{self._db.path}{end}").unlink(missing_ok=True)
        except OSError as exc:
            raise StoreUnavailable(
                f"{self._db.path} cannot be removed: {exc.strerror}; give permission on its folder"
            ) from exc

    def _read(self, key: str, work: Callable[[Rows], T]) -> T:
        with self._db.read() as connection:
            return work(SqliteRows(connection, key, self._now()))

    def _write(self, key: str, work: Callable[[Rows], T], *, repeatable: bool = False) -> T:
        with self._db.write() as connection:
            return work(SqliteRows(connection, key, self._now()))

    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        with self._db.read() as connection:
            return _sql_rows.names(partial(execute, connection), self._now(), prefix, after, limit)

    def _expired(self) -> list[str]:
        with self._db.read() as connection:
            return _sql_rows.expired(partial(execute, connection), self._now())

    def _close(self) -> None:
        self._db.close()
