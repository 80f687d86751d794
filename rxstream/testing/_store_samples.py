"""What the cases of the store contract store, and how they run threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import pytest

from ..model import CompletedInteraction
from ..snapshot import Snapshot
from ..store import LogRecord
from ..tensorfile import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Store

# Before any of them is imported: pytest then shows the values in a failed assertion.
pytest.register_assert_rewrite(
    *(
        f"{__package__}._store_{cases}"
        for cases in ("branches", "commits", "logs", "names", "times", "versions")
    )
)

T = TypeVar("T")
THREADS = 8


def state(fill: int = 0, size: int = 64) -> bytes:
    """A safetensors file with one tensor of ``size`` bytes, all of them ``fill``."""
    return encode({"stm": ("U8", (size,), bytes([fill % 256]) * size)})


def snapshot(key: str = "m", version: int = 1) -> Snapshot:
    """A small snapshot whose contents tell its version."""
    return Snapshot(key, version, "model-1", state(version), created_at=1_700_000_000.5)


def record(text: str = "hello") -> LogRecord:
    """A log record whose query is ``text``."""
    completed = CompletedInteraction(query=text, answer=f"to {text}", token_ids=(1, 2, 3))
    return LogRecord(seq=0, interaction=f"i-{text}", conversation="main", completed=completed)


def commit_next(store: Store, key: str = "m") -> int:
    """Commit the version after the newest, expecting the newest; returns it."""
    head = store.head(key)
    version = 1 if head is None else head + 1
    store.commit(snapshot(key, version), expect=head)
    return version


def in_threads(work: Callable[[int], T], threads: int = THREADS) -> list[T]:
    """Call ``work(0) ... work(threads - 1)`` at once; returns the results or raises an error."""
    start = threading.Barrier(threads)

    def run(index: int) -> T:
        start.wait(30)
        return work(index)

    with ThreadPoolExecutor(threads) as pool:
        return [future.result(60) for future in [pool.submit(run, i) for i in range(threads)]]
