"""Files that are read and replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Put ``data`` at ``path``: other readers see the old or the new file, also after power loss.

    Raises ``OSError``; the old file, if any, is then as it was.
    """
    folder, name = os.path.split(os.path.abspath(os.fspath(path)))
    temporary = os.path.join(folder, f".{name[:40]}.{secrets.token_hex(8)}.tmp")
    with contextlib.ExitStack() as on_failure:
        with open(temporary, "xb") as file:
            on_failure.callback(_remove, temporary)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        on_failure.pop_all()
    _sync_folder(folder)


def read_regular(path: str | os.PathLike[str], *, refuse: Callable[[bytes], bool]) -> bytes:
    """A copy of a regular file, or only its first 8 bytes if ``refuse`` says so when shown them.

    A copy, so that nobody can change it between check and use. Raises ``OSError``, also for
    folders, pipes and devices.
    """
    # Non-blocking, or opening a named pipe would wait for a writer for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("not a file")
        with open(descriptor, "rb", closefd=False) as file:
            start = file.read(8)
            return start if refuse(start) else start + file.read(max(0, status.st_size - 8))
    finally:
        os.close(descriptor)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # a folder cannot be opened there; the rename is journalled
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
