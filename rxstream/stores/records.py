"""Log records as stored bytes: msgpack with a checksum that also ties them to their place."""

from __future__ import annotations

import zlib
from typing import Any

import msgpack

from ..errors import StoreCorrupt
from ..model import CompletedInteraction
from ..store import LogRecord


def encode(record: LogRecord) -> bytes:
    """All of a record but ``seq`` and ``remembered``, which a store keeps beside it."""
    fields = {
        "interaction": record.interaction,
        "conversation": record.conversation,
        "query": record.completed.query,
        "answer": record.completed.answer,
        "token_ids": record.completed.token_ids,
        "key": record.key,
        "created_at": record.created_at,
    }
    # A lone surrogate can arrive through JSON; an interaction must not be lost for it.
    packed = msgpack.packb(fields, unicode_errors="surrogatepass")
    return packed  # type: ignore[no-any-return]


def checksum(key: str, seq: int, remembered: bool, payload: bytes) -> int:
    """CRC-32 over a stored record and where it stands, so that a moved record is noticed too."""
    place = f"{key}\0{seq}\0{int(remembered)}\0".encode("utf-8", "surrogatepass")
    return zlib.crc32(payload, zlib.crc32(place))


def decode(key: str, seq: int, remembered: bool, payload: bytes, stored_checksum: int) -> LogRecord:
    """The inverse of ``encode``. Raises ``StoreCorrupt`` naming memory and record."""
    if checksum(key, seq, remembered, payload) != stored_checksum:
        raise damaged(key, seq, "its checksum does not match")
    try:
        fields: dict[str, Any] = msgpack.unpackb(payload, unicode_errors="surrogatepass")
        return LogRecord(
            seq=seq,
            interaction=fields["interaction"],
            conversation=fields["conversation"],
            completed=CompletedInteraction(
                query=fields["query"],
                answer=fields["answer"],
                token_ids=tuple(fields["token_ids"]),
            ),
            key=fields["key"],
            remembered=bool(remembered),
            created_at=fields["created_at"],
        )
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as exc:
        raise damaged(key, seq, f"it cannot be read ({type(exc).__name__})") from exc


def damaged(key: str, seq: int, reason: str) -> StoreCorrupt:
    """The error for one record of a log."""
    return StoreCorrupt(
        f"memory {key!r}: log record {seq} is damaged: {reason}; restore the store from a copy, "
        "or delete the memory"
    )
