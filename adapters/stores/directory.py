"""A folder of snapshot files, one for each version, and a journal for each memory."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections import OrderedDict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rxstream._forks import renew_in_child
from rxstream.errors import StoreCorrupt, StoreNotFound, StoreUnavailable
from rxstream.stores.base import BaseStore
from rxstream.stores.buffered import Buffered
from rxstream.stores.gate import Gate

from . import _directory_files as files
from ._directory_memory import LOCK, DirectoryMemory
from ._directory_names import folder_of, keys_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rxstream.stores.rows import Rows

T = TypeVar("T")

MARK = "rxstream-store.json"
FORMAT = {"format": "rxstream.directory", "version": 1}
_KEPT = 1024
"""How many memories' journals are kept in mind."""


class DirectoryStore(BaseStore):
    """A ``Store`` in a folder, for people who want to look at it, copy it, or put it under git.

    ``user-42/v00000007.stm.safetensors`` is version 7 of the memory ``user-42``, a snapshot file as
    ``rxt memory verify`` reads it; ``user-42/journal.rxlog`` says which versions there are, and
    holds the interaction log, labels and lifetime. Letters other than a-z are written as ``%41`` in
    folder names.

    A commit is on the disk when it returns. Any number of threads and processes of one machine may
    use the folder; network drives, where locks do not hold, are not suitable, nor is Windows.
    Raises ``StoreUnavailable`` when the folder cannot be used or belongs to something else.
    """

    capabilities = frozenset({"persistent", "durable", "shared"})
    _hashes_beside = True

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(path).absolute()
        self._memories: OrderedDict[str, tuple[DirectoryMemory, threading.Lock]] = OrderedDict()
        self._guard = threading.Lock()
        self._gate = Gate(f"the store {self.path}")
        with self._translated():
            self._open()
        renew_in_child(self, DirectoryStore._after_fork)

    @classmethod
    def from_url(cls, url: str) -> DirectoryStore:
        """``dir:///relative/folder``, ``dir:////absolute/folder`` or ``dir:///~/folder``."""
        path = url.removeprefix("dir:///")
        if path in (url, ""):
            raise StoreUnavailable(f"{url!r} has no path; write dir:///folder")
        try:
            return cls(Path(path).expanduser())
        except RuntimeError as exc:
            raise StoreUnavailable(f"{url!r}: {exc}; write the whole path") from exc

    def erase(self) -> None:
        """Remove the folder, also what keeps version numbers from being used again. The store is
        closed then; nobody else may have it open."""
        self.close()
        with self._translated():
            shutil.rmtree(self.path)

    def _clean(self) -> None:
        with self._gate, self._translated():
            for key in list(keys_in(self.path)):
                memory, lock = self._memory(key)
                with lock, files.locked(memory.folder / LOCK), suppress(StoreCorrupt):
                    memory.follow()  # of a damaged memory nobody knows what is out of use
                    memory.sweep()

    def _read(self, key: str, work: Callable[[Rows], T]) -> T:
        with self._gate:
            memory, lock = self._memory(key)
            with lock, self._translated():
                memory.follow()
                while True:
                    before = memory.seen
                    try:
                        return work(Buffered(memory))
                    except (StoreCorrupt, StoreNotFound):
                        # A file that a writer removed meanwhile was no damage.
                        memory.follow()
                        if memory.seen == before:
                            raise

    def _write(self, key: str, work: Callable[[Rows], T], *, repeatable: bool = False) -> T:
        with self._gate:
            memory, lock = self._memory(key)
            with lock, self._translated():
                files.make_folder(memory.folder)
                with files.locked(memory.folder / LOCK):
                    memory.follow()
                    changes = Buffered(memory)
                    try:
                        result = work(changes)
                        if changes:
                            memory.apply(changes)
                    finally:
                        memory.give_up()
                    return result

    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        with self._gate, self._translated():
            candidates = sorted(
                key for key in keys_in(self.path) if key.startswith(prefix) and key > after
            )
        found: list[str] = []
        for key in candidates:
            if len(found) == limit:
                break
            if self._may_be(key, lambda rows: rows.meta().at(rows.now).live):
                found.append(key)
        return found

    def _expired(self) -> list[str]:
        with self._gate, self._translated():
            keys = sorted(keys_in(self.path))
        return [
            key
            for key in keys
            if self._may_be(key, lambda rows: rows.meta().at(rows.now) is not rows.meta())
        ]

    def _may_be(self, key: str, wanted: Callable[[Rows], bool]) -> bool:
        """Whether a memory is as wanted; true of a damaged one, which says so when it is used."""
        try:
            return self._read(key, wanted)
        except StoreCorrupt:
            return True

    def _close(self) -> None:
        self._gate.close()

    def _open(self) -> None:
        if "\0" in str(self.path):
            raise StoreUnavailable(f"{str(self.path)!r} cannot be a path; remove the NUL")
        if not self.path.parent.is_dir():
            raise StoreUnavailable(f"{self.path.parent} is not a folder; create it first")
        if self.path.exists() and not self.path.is_dir():
            raise StoreUnavailable(f"{self.path} is not a folder; give another path")
        files.make_folder(self.path)
        mark = self.path / MARK
        if not mark.exists():
            if any(not name.startswith(MARK) for name in os.listdir(self.path)):
                if mark.exists():  # another process was quicker
                    return self._open()
                raise StoreUnavailable(f"{self.path} is not empty and no store; give another path")
            files.replace(mark, json.dumps(FORMAT).encode())
        try:
            found = json.loads(mark.read_bytes())
        except ValueError as exc:
            raise StoreCorrupt(f"{mark} is damaged; restore it from a copy") from exc
        if found != FORMAT:
            raise StoreUnavailable(f"{self.path} is a store of another version: {found}; upgrade")
        return None

    def _memory(self, key: str) -> tuple[DirectoryMemory, threading.Lock]:
        with self._guard:
            found = self._memories.get(key)
            if found is None:
                memory = DirectoryMemory(folder_of(self.path, key), key, self._now)
                found = self._memories[key] = (memory, threading.Lock())
                if len(self._memories) > _KEPT:
                    self._memories.popitem(last=False)
            self._memories.move_to_end(key)
            return found

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ImportError as exc:
            raise StoreUnavailable(
                "a directory store needs the file locks of a POSIX system; use sqlite:"
            ) from exc
        except OSError as exc:
            advice = _ADVICE.get(exc.errno or 0, "check path, disk and permissions")
            raise StoreUnavailable(f"{self.path}: {exc.strerror or exc}; {advice}") from exc

    def _after_fork(self) -> None:
        # Locks and half-followed journals of threads that do not exist in the child.
        self._guard = threading.Lock()
        self._memories.clear()


_ADVICE = {
    errno.ENOSPC: "nothing was written, free space",
    errno.EDQUOT: "nothing was written, free space",
    errno.EFBIG: "nothing was written, raise the limit on file size",
    errno.EACCES: "give write permission on the folder and what is in it",
    errno.EROFS: "it can be read, but not written; use a copy elsewhere",
    errno.EIO: "nothing was acknowledged, check the disk",
}
