"""The files of a directory store, written so that a kill or a full disk leaves them whole.

Every function that writes, but ``begin``, has reached the disk when it returns. They raise
``OSError``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import RawIOBase
    from pathlib import Path

TEMPORARY = ".tmp"


class Begun(NamedTuple):
    """A file that has no name of its own yet."""

    temporary: Path
    descriptor: int


def begin(path: Path, position: int = 0, data: bytes | memoryview = b"") -> Begun:
    """A file that is to be put at ``path``, with ``data`` at ``position``, on its way to the disk.

    It stays open, so that an error on that way is told by ``replace``.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_CREAT | os.O_EXCL
    begun = Begun(temporary, os.open(temporary, flags, 0o600))
    try:
        _write(begun.descriptor, data, position)
        if data and hasattr(os, "posix_fadvise"):  # Linux begins to write then, and does not wait
            os.posix_fadvise(begun.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    except BaseException:
        give_up(begun)
        raise
    return begun


def give_up(begun: Begun) -> None:
    """Remove what was begun."""
    os.close(begun.descriptor)
    remove(begun.temporary)


def replace(path: Path, data: bytes, begun: Begun | None = None) -> None:
    """Put ``data`` at ``path`` in one step; or what was ``begun``, with ``data`` at its start."""
    begun = begun or begin(path)
    try:
        try:
            _write(begun.descriptor, data, 0)
            os.fsync(begun.descriptor)
        finally:
            os.close(begun.descriptor)
        os.replace(begun.temporary, path)
        sync_folder(path.parent)
    except BaseException:
        remove(begun.temporary)
        raise


def append(path: Path, position: int, data: bytes) -> None:
    """Write ``data`` at ``position`` and cut off what was behind it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, position)
            _write(descriptor, data, position)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
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


def read(file: RawIOBase, size: int) -> Iterator[bytes]:
    """An open file in parts of ``size`` bytes; then it is closed."""
    with file:
        while part := file.read(size):
            yield part


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


def _write(descriptor: int, data: bytes | memoryview, position: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, position)
        rest, position = rest[written:], position + written
