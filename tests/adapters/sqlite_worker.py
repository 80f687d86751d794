"""What tests of SQLite stores put into them."""

from __future__ import annotations

from rxstream.model import CompletedInteraction
from rxstream.snapshot import Snapshot
from rxstream.store import LogRecord
from rxstream.tensorfile import encode

SIZES = (1_000, 200_000)


def snapshot(version: int, key: str = "m") -> Snapshot:
    size = SIZES[version % 2]
    state = encode({"stm": ("U8", (size,), bytes([version % 256]) * size)})
    return Snapshot(key, version, "model-1", state, created_at=1e9)


def record(text: str) -> LogRecord:
    completed = CompletedInteraction(query=text, answer=text)
    return LogRecord(seq=0, interaction=text, conversation="main", completed=completed)
