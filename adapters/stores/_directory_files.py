"""The files of a directory store, written so that a kill or a full disk leaves them whole.

Every function that writes has reached the disk when it returns. They raise ``OSError``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPORARY = ".tmp"


def replace(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path`` in one step."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        _write(temporary, os.O_CREAT | os.O_EXCL, data)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException:
        remove(temporary)
        raise


def append(path: Path, position: int, data: bytes) -> None:
    """Write ``data`` at ``position`` and cut off what was behind it."""
    try:
        _write(path, 0, data, position)
    except BaseException:
        with contextlib.suppress(OSError):
            os.truncate(path, position)
        raise


def make_folder(path: Path) -> None:
    """A folder, with those that it is in."""
    if not path.is_dir():
        if path.parent != path:
            make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Have the names in a folder reach the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file that may be there."""
    with contextlib.suppress(OSError):
        os.unlink(path)


def read(path: Path) -> bytes:
    """All of a file."""
    with path.open("rb") as file:
        return file.read()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that is the file ``path``; other threads and processes wait."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        # Closing would not do while a child that was forked meanwhile has the descriptor too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _write(path: Path, flags: int, data: bytes, position: int = 0) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        if position:
            os.ftruncate(descriptor, position)
        rest = memoryview(data)
        while rest:
            written = os.pwrite(descriptor, rest, position)
            rest, position = rest[written:], position + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
