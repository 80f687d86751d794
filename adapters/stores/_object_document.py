"""What an object store has of a memory: the document that says what counts, and names of objects.

Of a memory, whose name is written as base64::

    d/NAME             the document: Meta, version numbers, objects with unusual names, a revision
    o/NAME/v/0…07      version 7: length of the info, info, snapshot file
    o/NAME/l/0…03      record 3

An object that was put and never named by a document is garbage; when its usual name was taken by
such garbage, the one that counts has another, which the document tells.
"""

from __future__ import annotations

import base64
import re
import secrets
import zlib
from dataclasses import dataclass, field

import msgpack

from rxstream.stores.packing import pack
from rxstream.stores.rows import UNREADABLE, Meta, unreadable
from rxstream.stores.rules import damaged_memory

_OBJECT = re.compile(r"o/([\w-]+)/[vl]/\d{16}(?:\.[0-9a-f]{12})?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What counts of one memory."""

    meta: Meta = field(default_factory=Meta)
    versions: tuple[int, ...] = ()
    """Ascending."""
    unusual: dict[str, str] = field(default_factory=dict)
    """Usual name of an object -> what to add to it."""

    def pack(self, key: str) -> bytes:
        content = {
            "format": "rxstream.memory",
            "version": 1,
            "memory": key,
            "meta": self.meta.pack(),
            "versions": self.versions,
            "unusual": self.unusual,
            "revision": secrets.token_bytes(8),  # or equal documents would have equal tags
        }
        packed = pack(content)
        return zlib.crc32(packed).to_bytes(4, "little") + packed

    @classmethod
    def unpack(cls, key: str, packed: bytes) -> Document:
        """Raises ``StoreCorrupt``."""
        try:
            if zlib.crc32(packed[4:]).to_bytes(4, "little") != packed[:4]:
                raise ValueError("its checksum does not match")
            content = msgpack.unpackb(packed[4:])
            if (content["format"], content["version"]) != ("rxstream.memory", 1):
                raise ValueError("another format; upgrade rxstream")
            if content["memory"] != key:
                raise ValueError(f"it is that of {content['memory'][:80]!r}")
            return cls(
                meta=Meta.unpack(content["meta"]),
                versions=tuple(content["versions"]),
                unusual=content["unusual"],
            )
        except UNREADABLE as exc:
            raise damaged_memory(key, unreadable(exc)) from exc


def coded(key: str) -> str:
    """A memory's name in the names of objects."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decoded(name: str) -> str | None:
    """The inverse of ``coded``; None for anything else."""
    try:
        key = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
        return key if coded(key) == name else None
    except ValueError:
        return None


def owner_of(name: str) -> str | None:
    """The memory whose object has this name; None when it is not an object of ours."""
    found = _OBJECT.fullmatch(name)
    return None if found is None else decoded(found[1])


def document_name(key: str) -> str:
    """Where the document of a memory is."""
    return f"d/{coded(key)}"


def version_name(key: str, version: int) -> str:
    """The usual name of a version's object."""
    return f"o/{coded(key)}/v/{version:016}"


def record_name(key: str, seq: int) -> str:
    """The usual name of a record's object."""
    return f"o/{coded(key)}/l/{seq:016}"


def parse_object(name: str) -> tuple[str, int]:
    """``v`` or ``l``, and the number, of an object's name."""
    kind, number = name.split("/")[-2:]
    return kind, int(number.partition(".")[0])


def counts(document: Document, name: str) -> bool:
    """Whether an object is part of a memory."""
    kind, number = parse_object(name)
    usual, dot, suffix = name.partition(".")
    if document.unusual.get(usual, "") != dot + suffix:
        return False
    if kind == "v":
        return number in document.versions
    return document.meta.log_start <= number <= document.meta.last_seq
