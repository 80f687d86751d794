"""One memory of a directory store: a journal of everything, and a file for each version."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rxstream._hashing import PART
from rxstream.errors import StoreCorrupt
from rxstream.stores.frames import OVERHEAD, DamagedFrame, frame, frames
from rxstream.stores.records import StoredRecord
from rxstream.stores.rows import UNREADABLE, Meta, Parts, unreadable
from rxstream.stores.rules import damaged_memory

from . import _directory_files as files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from rxstream._snapshot_file import Packing
    from rxstream.stores.buffered import Buffered

JOURNAL = "journal.rxlog"
LOCK = "lock"
FORMAT = {"format": "rxstream.log", "version": 1}
_SUFFIX = ".stm.safetensors"


class DirectoryMemory:
    """The reading half of ``Rows``, as the journal tells it, which is read once and then followed.

    The journal is the truth: what it does not mention is not there, whatever files lie around. It
    begins with a frame that names the memory and an identity; a journal that was written anew has
    another one.
    """

    def __init__(self, folder: Path, key: str, now: Callable[[], float]) -> None:
        self.folder, self._key, self._now = folder, key, now
        self._begun: dict[int, files.Begun] = {}
        """Version -> its file, not named yet and without a head."""
        self._forget()

    def _forget(self) -> None:
        self._identity, self._position = "", 0
        self._last = (0, b"")
        """Where the frame that was followed last begins, and how: with its length and checksum."""
        self._meta = Meta()
        self._infos: dict[int, bytes] = {}
        self._log: dict[int, tuple[int, int]] = {}
        """seq -> where its frame begins and ends."""

    # Reading

    @property
    def seen(self) -> tuple[str, int, tuple[int, bytes]]:
        """How far the journal was followed; changes with every transaction."""
        return self._identity, self._position, self._last

    @property
    def now(self) -> float:
        return self._now()

    def meta(self) -> Meta:
        return self._meta

    def info(self, version: int) -> bytes | None:
        return self._infos.get(version)

    def packed(self, version: int) -> bytes | None:
        found = self.parts(version)
        return None if found is None else b"".join(found.parts)

    def parts(self, version: int) -> Parts | None:
        try:
            file = self._file(version).open("rb", buffering=0)
        except FileNotFoundError:
            return None
        return Parts(os.fstat(file.fileno()).st_size, files.read(file, PART))

    def versions(self, before: int | None, limit: int | None) -> list[int]:
        if limit == 1 and before is not None and before - 1 in self._infos:
            return [before - 1]  # the usual question, whether a version is there
        numbers = sorted(self._infos, reverse=True)
        return [n for n in numbers if before is None or n < before][:limit]

    def records(self, first: int, count: int) -> list[tuple[int, StoredRecord]]:
        wanted = [seq for seq in range(first, first + count) if seq in self._log]
        if not wanted:
            return []
        found = []
        with self._open() as journal:
            read = _reader(journal)
            try:
                if self._at(read, 0, os.fstat(journal.fileno()).st_size)["identity"] != (
                    self._identity
                ):
                    # Written anew since it was followed: the positions are those of another file.
                    raise damaged_memory(self._key, "its journal was changed meanwhile")
                for seq in wanted:
                    content = self._at(read, *self._log[seq])
                    found += [(seq, _record(row)) for n, row in content["put"] if n == seq]
            except DamagedFrame as exc:
                raise damaged_memory(self._key, str(exc)) from exc
        return found

    def _at(self, read: Callable[[int, int], bytes], start: int, end: int) -> dict[str, Any]:
        for _, _, content in frames(read, start, end):
            return content
        raise damaged_memory(self._key, "its journal was changed meanwhile")

    def follow(self) -> None:
        """Read what was written since the last time, here or by another process.

        It is damaged when two looks from the beginning find that of the same file. One could have
        come between what a writer does: it makes a journal before the first version file, and cuts
        a torn tail off before it writes over it.
        """
        found: tuple[int, ...] | None = None
        reason: Exception
        while True:
            state: tuple[int, ...] = ()
            try:
                with self._open() as journal:
                    status = os.fstat(journal.fileno())
                    state = status.st_ino, status.st_size, status.st_mtime_ns
                    return self._follow(_reader(journal), status.st_size)
            except FileNotFoundError as exc:
                if not (self._identity or any(self.folder.glob(f"v*{_SUFFIX}"))):
                    return None
                reason, told = exc, "its journal is missing"
            except UNREADABLE as exc:
                self._forget()
                reason, told = exc, str(exc) if isinstance(exc, DamagedFrame) else unreadable(exc)
            if state == found:
                raise damaged_memory(self._key, told) from reason
            found = state

    def _follow(self, read: Callable[[int, int], bytes], size: int) -> None:
        first = next(frames(read, 0, size), None)
        if first is None:
            raise DamagedFrame("its journal has no beginning")
        _, after, head = first
        if {name: head.get(name) for name in FORMAT} != FORMAT:
            raise DamagedFrame("its journal is of another format; upgrade rxstream")
        if head["memory"] != self._key:
            raise DamagedFrame(f"its journal is that of {head['memory'][:80]!r}")
        where, beginning = self._last
        if head["identity"] == self._identity and size < where:
            self._forget()
            raise damaged_memory(self._key, "its journal was cut off")
        if head["identity"] != self._identity or read(where, OVERHEAD) != beginning:
            # Written anew, or the last frame was taken back: it could not be brought to the disk.
            self._forget()
            self._identity, self._position = head["identity"], after
            self._last = (0, read(0, OVERHEAD))
        for start, after, content in frames(read, self._position, size):
            self._take(content, start, after)
            self._position, self._last = after, (start, read(start, OVERHEAD))

    def _take(self, content: dict[str, Any], start: int, after: int) -> None:
        meta = Meta.unpack(content["meta"])
        for version in content["remove"]:
            self._infos.pop(version, None)
        for version, info in content["add"]:
            self._infos[version] = info
        for seq, _ in content["put"]:
            self._log[seq] = (start, after)
        self._meta = meta

    # Writing, with the lock held and after ``follow``

    def begin(self, version: int, file: Packing) -> None:
        self._begun[version] = files.begin(self._file(version), file.head_size, file.body)

    def give_up(self) -> None:
        """Remove what was begun and not brought to its end."""
        while self._begun:
            files.give_up(self._begun.popitem()[1])

    def apply(self, changes: Buffered) -> None:
        """Bring a transaction to the disk: version files, then the journal, then what goes."""
        files.make_folder(self.folder)
        if not self._identity:  # before any version file: one without a journal is damage
            files.replace(self.folder / JOURNAL, self._head())
            self.follow()
        try:
            for version, (_, packed) in changes.added.items():
                files.replace(self._file(version), packed, self._begun.pop(version, None))
            if changes.dropped:
                self._rewrite(changes)
            else:
                content = _content(
                    changes.meta(),
                    add=((version, info) for version, (info, _) in changes.added.items()),
                    remove=changes.removed,
                    put=changes.logged.items(),
                )
                files.append(self.folder / JOURNAL, self._position, frame(content))
        except OSError:
            # A failed call may have taken effect. What the journal says now decides.
            with suppress(OSError, StoreCorrupt):
                self._forget()
                self.follow()
                for version in changes.added.keys() - self._infos.keys():
                    files.remove(self._file(version))
            raise
        for version in changes.removed:
            files.remove(self._file(version))
        self.follow()

    def _rewrite(self, changes: Buffered) -> None:
        """A new journal without what was dropped, so that deleted text is not on the disk."""
        infos = {v: info for v, info in self._infos.items() if v not in changes.removed}
        infos |= {version: info for version, (info, _) in changes.added.items()}
        parts = [
            self._head(),
            frame(_content(changes.meta(), add=infos.items(), remove=(), put=())),
        ]
        first = changes.dropped + 1
        last = max([*self._log, *changes.logged], default=0)
        for start in range(first, last + 1, 256):
            parts += [
                frame(_content(changes.meta(), add=(), remove=(), put=[row]))
                for row in changes.records(start, 256)
            ]
        files.replace(self.folder / JOURNAL, b"".join(parts))

    def _head(self) -> bytes:
        return frame({**FORMAT, "memory": self._key, "identity": secrets.token_hex(8)})

    def sweep(self) -> None:
        """Remove files that a killed writer left. With the lock held and after ``follow``."""
        known = {self._file(version).name for version in self._infos}
        for entry in list(os.scandir(self.folder)) if self.folder.is_dir() else []:
            stale = entry.name.endswith(_SUFFIX) and entry.name not in known
            if entry.is_file() and (stale or entry.name.endswith(files.TEMPORARY)):
                with suppress(OSError):
                    os.unlink(entry.path)

    def _file(self, version: int) -> Path:
        return self.folder / f"v{version:08}{_SUFFIX}"

    def _open(self) -> Any:
        return (self.folder / JOURNAL).open("rb", buffering=0)


def _content(
    meta: Meta,
    *,
    add: Iterable[tuple[int, bytes]],
    remove: Iterable[int],
    put: Iterable[tuple[int, StoredRecord]],
) -> dict[str, Any]:
    return {
        "meta": meta.pack(),
        "add": list(add),
        "remove": list(remove),
        "put": [(seq, record.frame()) for seq, record in put],
    }


def _record(row: bytes) -> StoredRecord:
    return StoredRecord.parse(row)


def _reader(journal: Any) -> Callable[[int, int], bytes]:
    descriptor = journal.fileno()
    return lambda position, size: os.pread(descriptor, size, position)
