"""What an error of SQLite means for whoever uses the store."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from rxstream.errors import StoreCorrupt, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOT_WRITABLE = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


@contextlib.contextmanager
def translated(path: Path, timeout: float) -> Iterator[None]:
    """Raises ``StoreCorrupt`` and ``StoreUnavailable`` in place of errors of SQLite and the system.

    ``timeout``: seconds that were waited for a lock.
    """
    try:
        yield
    except sqlite3.Error as exc:
        raise _explained(exc, path, timeout) from exc
    except UnicodeDecodeError as exc:  # in a key, or in the message of an error itself
        raise StoreCorrupt(f"{path} is damaged; restore it from a copy") from exc
    except OSError as exc:
        raise StoreUnavailable(f"{path}: {exc.strerror or exc}; check the path") from exc


def code_of(exc: sqlite3.Error) -> int:
    """The primary result code; 0 for errors that are not SQLite's own."""
    return int(getattr(exc, "sqlite_errorcode", 0)) & 0xFF


def _explained(exc: sqlite3.Error, path: Path, timeout: float) -> StoreError:
    code = code_of(exc)
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreCorrupt(f"{path} is damaged ({exc}); restore it from a copy")
    reason = {
        sqlite3.SQLITE_NOTADB: "is not a database of SQLite; give another path",
        sqlite3.SQLITE_FULL: "cannot grow, the disk is full; nothing was written, free space",
        sqlite3.SQLITE_READONLY: "cannot be written; give write permission on file and folder",
        sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that path and permissions are right",
        sqlite3.SQLITE_PERM: "cannot be opened; check its permissions",
        sqlite3.SQLITE_BUSY: f"was locked by another process for {timeout:g} s; "
        "end that process or try again",
        sqlite3.SQLITE_IOERR: "cannot be read or written; check disk space and hardware",
        sqlite3.SQLITE_TOOBIG: "takes at most 1 GB for one memory; use another store",
    }.get(code, "cannot be used")
    return StoreUnavailable(f"{path} {reason} ({exc})")
