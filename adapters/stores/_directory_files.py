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
    from io import RawIOBase
    from pathlib import Path

TEMPORARY = ".tmp"


def begin(path: Path, position: int, data: bytes | memoryview) -> Path:
    """Write ``data`` behind what ``replace`` will be given for ``path``, to the file returned.

    It is only on its way to the disk then.
    """
    temporary = _temporary(path)
    try:
        _write(temporary, os.O_CREAT | os.O_EXCL, data, position, sync=False)
    except BaseException:
        remove(temporary)
        raise
    return temporary


def replace(path: Path, data: bytes, begun: Path | None = None) -> None:
    """Put ``data`` at ``path`` in one step, before what was ``begun``."""
    temporary = begun or _temporary(path)
    try:
        _write(temporary, 0 if begun else os.O_CREAT | os.O_EXCL, data)
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


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")


def _write(
    path: Path, flags: int, data: bytes | memoryview, position: int = 0, *, sync: bool = True
) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        if position:
            os.ftruncate(descriptor, position)
        rest = memoryview(data)
        while rest:
            written = os.pwrite(descriptor, rest, position)
            rest, position = rest[written:], position + written
        if sync:
            os.fsync(descriptor)
        elif hasattr(os, "posix_fadvise"):  # Linux begins to write then, and nobody waits for it
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
