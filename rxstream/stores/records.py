"""Log records and what is known of versions, as stored bytes, with checksums that tie them to
their place."""

from __future__ import annotations

import struct
import zlib
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import msgpack

from ..errors import StoreCorrupt
from ..model import CompletedInteraction
from ..store import LogRecord, VersionInfo
from .packing import pack

if TYPE_CHECKING:
    from ..snapshot import Snapshot

_HEAD = struct.Struct("<BI")
_PARTS = ("thinking", "thinking_ids", "tool_call", "tool_call_ids", "tool_result", "instruction")
"""What an interaction may have beside a query and its answer."""
_INFO = [f.name for f in fields(VersionInfo) if f.name not in ("memory", "version")]


class StoredRecord(NamedTuple):
    """A log record at rest; its ``seq`` is where it is kept."""

    remembered: bool
    payload: bytes
    checksum: int

    def frame(self) -> bytes:
        """As one run of bytes, for stores without columns."""
        return _HEAD.pack(self.remembered, self.checksum) + self.payload

    @classmethod
    def parse(cls, frame: bytes) -> StoredRecord:
        """The inverse of ``frame``; what is too short comes out as a record that is damaged."""
        if len(frame) < _HEAD.size:
            return cls.of(-1, frame, 0)
        remembered, checksum = _HEAD.unpack_from(frame)
        return cls.of(remembered, frame[_HEAD.size :], checksum)

    @classmethod
    def of(cls, remembered: int, payload: bytes, checksum: int) -> StoredRecord:
        """Of stored columns. A truth that is neither 0 nor 1 comes out as a damaged record: the
        checksum is over what it means, so it would not tell."""
        return cls(bool(remembered), payload, checksum if remembered in (0, 1) else ~checksum)


def store_record(key: str, record: LogRecord) -> StoredRecord:
    """A record, which has its ``seq``, as it is kept."""
    payload = encode(record)
    return StoredRecord(
        record.remembered, payload, checksum(key, record.seq, record.remembered, payload)
    )


def encode(record: LogRecord) -> bytes:
    """All of a record but ``seq`` and ``remembered``, which a store keeps beside it."""
    content = {
        "interaction": record.interaction,
        "conversation": record.conversation,
        "query": record.completed.query,
        "answer": record.completed.answer,
        "token_ids": record.completed.token_ids,
        "key": record.key,
        "created_at": record.created_at,
    }
    # Only where there is some: a plain interaction is the bytes that it always was.
    others = {name: getattr(record.completed, name) for name in _PARTS}
    return pack(content | {name: value for name, value in others.items() if value})


def checksum(key: str, seq: int, remembered: bool, payload: bytes) -> int:
    """CRC-32 over a stored record and where it stands, so that a moved record is noticed too."""
    place = f"{key}\0{seq}\0{int(remembered)}\0".encode("utf-8", "surrogatepass")
    return zlib.crc32(payload, zlib.crc32(place))


def decode(key: str, seq: int, stored: StoredRecord) -> LogRecord:
    """The inverse of ``store_record``. Raises ``StoreCorrupt`` naming memory and record."""
    remembered, payload, stored_checksum = stored
    if checksum(key, seq, bool(remembered), payload) != stored_checksum:
        raise damaged(key, seq, "its checksum does not match")
    try:
        return parse(payload, seq, bool(remembered))
    except ValueError as exc:
        raise damaged(key, seq, str(exc)) from exc


def parse(payload: bytes, seq: int, remembered: bool) -> LogRecord:
    """The inverse of ``encode``. Raises ``ValueError`` for anything else."""
    try:
        content = _read_map(payload)
        _check_types(content)
        return LogRecord(
            seq=seq,
            interaction=content["interaction"],
            conversation=content["conversation"],
            completed=CompletedInteraction(
                query=content["query"],
                answer=content["answer"],
                token_ids=tuple(content["token_ids"]),
                thinking=content.get("thinking", ""),
                thinking_ids=tuple(content.get("thinking_ids", ())),
                tool_call=content.get("tool_call", ""),
                tool_call_ids=tuple(content.get("tool_call_ids", ())),
                tool_result=content.get("tool_result", False),
                instruction=content.get("instruction", ""),
            ),
            key=content["key"],
            remembered=remembered,
            created_at=content["created_at"],
        )
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as exc:
        raise ValueError(f"it cannot be read ({type(exc).__name__})") from exc


def damaged(key: str, seq: int, reason: str) -> StoreCorrupt:
    """The error for one record of a log."""
    return StoreCorrupt(
        f"memory {key!r}: log record {seq} is damaged: {reason}; restore the store from a copy, "
        "or delete the memory"
    )


def describe(snapshot: Snapshot, nbytes: int) -> VersionInfo:
    """What is known of a version whose file takes ``nbytes``."""
    return VersionInfo(
        memory=snapshot.memory_id,
        version=snapshot.version,
        digest=snapshot.digest,
        parent_digest=snapshot.parent_digest,
        kind=snapshot.kind,
        fingerprint=snapshot.fingerprint,
        log_seq=snapshot.log_seq,
        created_at=snapshot.created_at,
        nbytes=nbytes,
        contains_user_data=snapshot.contains_user_data,
        metadata=dict(snapshot.metadata),
    )


def encode_info(info: VersionInfo) -> bytes:
    """All but memory and version, which say where it is kept, after a checksum over everything."""
    content = pack({name: getattr(info, name) for name in _INFO})
    check = zlib.crc32(content, zlib.crc32(f"{info.memory}\0{info.version}\0".encode()))
    return struct.pack("<I", check) + content


def decode_info(key: str, version: int, data: bytes) -> VersionInfo:
    """The inverse of ``encode_info``. Raises ``ValueError`` for anything else."""
    check = zlib.crc32(data[4:], zlib.crc32(f"{key}\0{version}\0".encode()))
    if data[:4] != struct.pack("<I", check):
        raise ValueError("the checksum of its description does not match")
    try:
        return VersionInfo(memory=key, version=version, **_read_map(data[4:]))
    except (KeyError, TypeError, msgpack.UnpackException) as exc:
        raise ValueError(f"its description cannot be read ({type(exc).__name__})") from exc


def _read_map(data: bytes) -> dict[str, Any]:
    content = msgpack.unpackb(
        data, unicode_errors="surrogatepass", ext_hook=_refuse, max_ext_len=0, strict_map_key=True
    )
    if not isinstance(content, dict):
        raise TypeError("not a map")
    return content


def _check_types(content: dict[str, Any]) -> None:
    texts = [content[name] for name in ("interaction", "conversation", "query", "answer")]
    if content["key"] is not None:
        texts.append(content["key"])
    texts += [content[name] for name in ("thinking", "tool_call", "instruction") if name in content]
    ids, moment = content["token_ids"], content["created_at"]
    if not all(type(text) is str for text in texts) or type(moment) not in (int, float):
        raise TypeError("a field is of another type")
    for some in (ids, content.get("thinking_ids", []), content.get("tool_call_ids", [])):
        if type(some) is not list or not all(type(number) is int for number in some):
            raise TypeError("token ids are no numbers")
    if type(content.get("tool_result", False)) is not bool:
        raise TypeError("a flag is of another type")


def _refuse(code: int, data: bytes) -> Any:
    raise ValueError(f"extension type {code} is not allowed")
