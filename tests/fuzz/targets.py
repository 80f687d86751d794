"""What is fuzzed, the errors that are allowed, and the whole inputs that mutations begin with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from adapters.stores._object_document import Document
from adapters.stores.keyring import Keyring
from adapters.stores.sealing import Sealer
from rxstream.errors import SnapshotError, StoreCorrupt, Undecryptable
from rxstream.snapshot import Snapshot, pack, unpack
from rxstream.stores.frames import DamagedFrame, frame, frames
from rxstream.stores.records import (
    StoredRecord,
    decode,
    decode_info,
    describe,
    encode_info,
    parse,
    store_record,
)
from rxstream.stores.rows import UNREADABLE, Meta
from rxstream.tensorfile import encode
from rxstream.testing._store_samples import record, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable


def read_snapshot(data: bytes) -> None:
    pack(unpack(data))


def read_frames(data: bytes) -> None:
    for _ in frames(lambda at, size: data[at : at + size], 0, len(data)):
        pass


def read_events(data: bytes) -> None:
    """The msgpack of a log record, with and without the checksum before it."""
    try:
        parse(data, 1, True)
    except ValueError:
        pass
    decode("m", 1, StoredRecord.parse(data))


def read_info(data: bytes) -> None:
    decode_info("m", 1, data)


def read_meta(data: bytes) -> None:
    meta = Meta.unpack(data)
    assert Meta.unpack(meta.pack()) == meta
    _ = meta.at(2e9), meta.after_delete(), meta.renewed(1.0), meta.live


def read_document(data: bytes) -> None:
    Document.unpack("m", data)


SEALER = Sealer(Keyring({"k": bytes(32)}, "k"), max_bytes=1 << 20, clock=lambda: 1e9)


def read_sealed(data: bytes) -> None:
    SEALER.open(data, tenant="t")


TARGETS: dict[str, tuple[Callable[[bytes], None], tuple[type[Exception], ...]]] = {
    "snapshot": (read_snapshot, (SnapshotError,)),
    "frames": (read_frames, (DamagedFrame,)),
    "events": (read_events, (StoreCorrupt,)),
    "info": (read_info, (ValueError,)),
    "meta": (read_meta, UNREADABLE),
    "document": (read_document, (StoreCorrupt,)),
    "sealed": (read_sealed, (SnapshotError, Undecryptable)),
}
"""Name -> reader, and what it may raise."""


def seeds() -> dict[str, list[bytes]]:
    """Whole inputs of each target."""
    logged = replace(record("hello ü"), seq=1, key="k", created_at=1.5)
    tensors = {"stm.0": ("F32", (2, 2), bytes(16)), "stm.1": ("BF16", (3,), b"abcdef")}
    large = Snapshot("m", 1, "f", encode(tensors), applied_keys=("a", "b"), metadata={"x": "ü"})
    meta = Meta(
        head=3, last_seq=9, ttl=5.0, expires_at=1e9, tags={"a": 1}, requests={"r": ("x", 2)}
    )
    content = {"meta": meta.pack(), "add": [(1, b"info")], "remove": [2], "put": [(1, b"row")]}
    stored = store_record("m", logged)
    return {
        "snapshot": [pack(snapshot()), pack(large)],
        "frames": [frame({"format": "rxstream.log", "version": 1}) + frame(content), frame({})],
        "events": [stored.frame(), stored.payload],
        "info": [encode_info(describe(snapshot(), 9)), encode_info(describe(large, 9))],
        "meta": [meta.pack(), Meta().pack()],
        "document": [
            Document(meta=meta, versions=(1, 2, 3), unusual={"o/bQ/v/1": ".ab"}).pack("m"),
            Document().pack("m"),
        ],
        "sealed": [SEALER.seal(snapshot(), tenant="t")],
    }
