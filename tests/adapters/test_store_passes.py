"""Hashing is what a commit and a load cost beside the raw client: no byte is hashed twice."""

from __future__ import annotations

import hashlib
from contextlib import closing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rxstream import _hashing
from rxstream.snapshot import Snapshot
from rxstream.testing._store_samples import state

from .store_kinds import KINDS, place

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 1 << 20


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many bytes were hashed since it was asked the last time."""
    total = 0

    class Counting:
        def __init__(self, data: Any = b"") -> None:
            self._real = hashlib.sha256()
            self.update(data)

        def update(self, data: Any) -> None:
            nonlocal total
            total += len(data)
            self._real.update(data)

        def hexdigest(self) -> str:
            return self._real.hexdigest()

    monkeypatch.setattr(_hashing, "hashlib", SimpleNamespace(sha256=Counting))

    def since() -> int:
        nonlocal total
        counted, total = total, 0
        return counted

    return since


@pytest.mark.parametrize("kind", KINDS)
def test_each_byte_is_hashed_once_by_a_commit_and_once_by_a_load(
    kind: str, hashed: Callable[[], int], request: pytest.FixtureRequest
) -> None:
    with place(kind, request) as opener, closing(opener()) as store:
        store.commit(Snapshot("m", 1, "model-1", state(1, SIZE)), expect=None)
        assert SIZE < hashed() < 1.01 * SIZE
        loaded = store.load("m")
        assert SIZE < hashed() < 1.01 * SIZE
        store.info("m")
        store.commit(Snapshot("n", 1, "model-1", loaded.state), expect=None)
        assert hashed() < 1.01 * SIZE
        store.rollback("m", 1)  # one load of the old, one of the newest, one commit
        assert hashed() < 3.01 * SIZE
