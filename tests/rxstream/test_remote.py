"""Stores behind a connection: for how long a call is tried again, and when it is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rxstream.errors import StoreUnavailable
from rxstream.stores import remote
from rxstream.stores.buffered import Buffered
from rxstream.stores.memory import _Memory
from rxstream.stores.remote import Lost, Outrun, RemoteStore
from rxstream.testing._store_samples import record

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scripted(RemoteStore):
    """Each attempt takes a second, and ends as the script says; after it, well."""

    def __init__(self, clock: Clock, *script: Exception) -> None:
        super().__init__("there", patience=5.0)
        self._clock, self._script, self.attempts = clock, list(script), 0

    def _attempt(self, work: Callable[[Any], Any]) -> Any:
        self.attempts += 1
        self._clock.now += 1
        if self._script:
            raise self._script.pop(0)
        return work(Buffered(_Memory(lambda: self._clock.now)))

    def _read_once(self, key: str, work: Callable[[Any], Any]) -> Any:
        return self._attempt(work)

    _write_once = _read_once

    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        return []

    def _close(self) -> None:
        self._gate.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    time = SimpleNamespace(monotonic=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr(remote, "time", time)
    return clock


def test_a_broken_connection_is_tried_again_until_patience_ends(clock: Clock) -> None:
    assert Scripted(clock, Lost("cut"), Lost("cut")).head("m") is None
    lost = Scripted(clock, *[Lost("cut, plug it in.")] * 20)
    with pytest.raises(StoreUnavailable, match="there: cut, plug it in"):
        lost.head("m")
    assert 3 <= lost.attempts <= 6


def test_a_race_may_take_longer_than_patience(clock: Clock) -> None:
    store = Scripted(clock, *[Outrun()] * 50)
    assert store.append("m", record()).seq == 1


def test_a_connection_that_breaks_after_a_long_race_is_tried_again_as_ever(clock: Clock) -> None:
    store = Scripted(clock, *[Outrun()] * 50, Lost("cut"), Outrun(), Lost("cut", in_doubt=True))
    assert store.append("m", record()).seq == 1


def test_a_call_in_doubt_that_has_no_id_is_not_repeated(clock: Clock) -> None:
    store = Scripted(clock, Lost("cut.", in_doubt=True))
    with pytest.raises(StoreUnavailable, match="It is not known whether the call took effect"):
        store.delete("m")
    assert store.attempts == 1
