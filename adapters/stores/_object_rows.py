"""``Rows`` in an object store: immutable objects, and one small document that says which count.

A transaction puts its objects first, each under a name that nobody has, then swaps the document.
"""

from __future__ import annotations

import secrets
import struct
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from rxstream.errors import StoreUnavailable
from rxstream.stores.records import StoredRecord
from rxstream.stores.remote import Lost
from rxstream.stores.rows import Meta, Parts

from ._object_document import Document, document_name, parse_object, record_name, version_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rxstream.stores.buffered import Buffered

    from ._known_documents import Known

_LENGTH = struct.Struct("<I")
_FIRST_READ = 4096
"""Bytes of a version that nearly always hold its info."""


class Objects(Protocol):
    """The calls of an object store that are needed."""

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Content and tag, or None."""

    def stream(self, name: str) -> tuple[int, Iterator[bytes]] | None:
        """Size, and the content as it comes."""

    def get_start(self, name: str, size: int) -> bytes | None:
        """At most the first ``size`` bytes."""

    def create(self, name: str, data: bytes) -> bool:
        """Put an object unless the name is taken."""

    def swap(self, name: str, tag: str | None, data: bytes) -> str | None:
        """Replace an object if it has this tag (None: does not exist); its new tag, else None."""

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects that may be there."""


class ObjectMemory:
    """The reading half of ``Rows``; of the document that is there, or of one that is ``known``."""

    def __init__(self, objects: Objects, key: str, now: float, known: Known | None = None) -> None:
        self.now = now
        self._objects, self._key = objects, key
        self.tag: str | None
        if known is not None:
            self.document, self.tag = known.document, known.tag
        else:
            found = objects.get(document_name(key))
            self.tag = None if found is None else found[1]
            self.document = Document() if found is None else Document.unpack(key, found[0])
        self._read: tuple[int, bytes] | None = None
        """A version, and how its object begins, with all of its info."""

    def is_outrun(self) -> bool:
        """Whether somebody wrote since this was read."""
        found = self._objects.get(document_name(self._key))
        return (None if found is None else found[1]) != self.tag

    def meta(self) -> Meta:
        return self.document.meta

    def info(self, version: int) -> bytes | None:
        if self._read is not None and self._read[0] == version:
            start: bytes | None = self._read[1]
        else:
            start = self._objects.get_start(self._version(version), _FIRST_READ)
        if start is None or len(start) < _LENGTH.size:
            return start and b""
        length = _LENGTH.unpack_from(start)[0] + _LENGTH.size
        if length > len(start) and len(start) == _FIRST_READ:
            start = self._objects.get_start(self._version(version), length) or b""
        return start[_LENGTH.size : length]

    def packed(self, version: int) -> bytes | None:
        found = self.parts(version)
        return None if found is None else b"".join(found.parts)

    def parts(self, version: int) -> Parts | None:
        found = self._objects.stream(self._version(version))
        if found is None:
            return None
        size, chunks = found
        start, head = b"", _LENGTH.size
        for chunk in chunks:
            start += chunk
            if len(start) >= _LENGTH.size:
                head = _LENGTH.size + _LENGTH.unpack_from(start)[0]
            if len(start) >= head:
                break
        self._read = version, start[:head]
        return Parts(max(0, size - head), chain((start[head:],), chunks))

    def versions(self, before: int | None, limit: int | None) -> list[int]:
        numbers = reversed(self.document.versions)
        return [n for n in numbers if before is None or n < before][:limit]

    def records(self, first: int, count: int) -> list[tuple[int, StoredRecord]]:
        last = min(first + count - 1, self.document.meta.last_seq)
        found = []
        for seq in range(first, last + 1):
            row = self._objects.get(self.named(record_name(self._key, seq)))
            if row is not None:
                found.append((seq, StoredRecord.parse(row[0])))
        return found

    def _version(self, version: int) -> str:
        return self.named(version_name(self._key, version))

    def named(self, usual: str) -> str:
        """What an object that counts is really called."""
        return usual + self.document.unusual.get(usual, "")

    def apply(self, changes: Buffered) -> tuple[Document, str] | None:
        """Store a transaction; returns the document and its tag. None, and nothing is stored, when
        somebody was quicker."""
        put: list[str] = []
        unusual = dict(self.document.unusual)
        gone = [self._version(version) for version in changes.removed]
        unusual = self._without(unusual, changes.removed, changes.dropped)
        gone += self._dropped(changes.dropped)
        for usual, data in self._new(changes):
            if usual in self.document.unusual or not self._objects.create(usual, data):
                if self._is_replaced(usual, changes):
                    gone.append(self.named(usual))
                unusual[usual] = f".{secrets.token_hex(6)}"
                self._objects.create(usual + unusual[usual], data)
                put.append(usual + unusual[usual])
            else:
                unusual.pop(usual, None)
                put.append(usual)
        numbers = {*self.document.versions, *changes.added} - set(changes.removed)
        document = replace(
            self.document,
            meta=changes.meta(),
            versions=tuple(sorted(numbers)),
            unusual=unusual,
        )
        packed = document.pack(self._key)
        if (tag := self._objects.swap(document_name(self._key), self.tag, packed)) is None:
            self._tidy(put)
            return None
        self._tidy(gone)
        return document, tag

    def _tidy(self, names: Sequence[str]) -> None:
        """Remove what is out of use. What was decided by then stays so, also when that fails."""
        for _ in range(3):
            with suppress(Lost, StoreUnavailable):  # what is left is found by ``sweep``
                return self._objects.remove(names)

    def _new(self, changes: Buffered) -> Iterable[tuple[str, bytes]]:
        for version, (info, packed) in changes.added.items():
            name = version_name(self._key, version)
            yield name, b"".join((_LENGTH.pack(len(info)), info, packed))
        for seq, record in changes.logged.items():
            yield record_name(self._key, seq), record.frame()

    def _is_replaced(self, usual: str, changes: Buffered) -> bool:
        kind, number = parse_object(usual)
        if kind == "v":
            return number in self.document.versions and number not in changes.removed
        return changes.dropped < number <= self.document.meta.last_seq

    def _dropped(self, through: int) -> list[str]:
        first = self.document.meta.log_start
        last = min(through, self.document.meta.last_seq)
        return [self.named(record_name(self._key, seq)) for seq in range(first, last + 1)]

    @staticmethod
    def _without(unusual: dict[str, str], removed: Sequence[int], dropped: int) -> dict[str, str]:
        kept = {}
        for usual, suffix in unusual.items():
            kind, number = parse_object(usual)
            if not (number in removed if kind == "v" else number <= dropped):
                kept[usual] = suffix
        return kept
