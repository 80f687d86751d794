"""Stores behind a connection: for how long a call is tried again, and when it is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rxstream.errors import StoreUnavailable
from rxstream.store import REQUESTS_KEPT
from rxstream.stores import remote
from rxstream.stores.buffered import Buffered
from rxstream.stores.memory import MemoryStore, _Memory
from rxstream.stores.remote import Lost, Outrun, RemoteStore
from rxstream.testing._store_samples import commit_next, record

if TYPE_CHECKING:
    from collections.abc import Callable


class Clock:
    now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Scripted(RemoteStore):
    """Each attempt takes a second, and ends as the script says; after it, well."""

    def __init__(self, clock: Clock, *script: Exception, seconds: float = 1.0) -> None:
        super().__init__("there", patience=5.0)
        self._clock, self._script, self.attempts = clock, list(script), 0
        self._seconds = seconds

    def _attempt(self, work: Callable[[Any], Any]) -> Any:
        self.attempts += 1
        self._clock.now += self._seconds
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


def test_a_call_that_takes_longer_than_patience_is_tried_again_when_it_breaks(clock: Clock) -> None:
    store = Scripted(clock, Lost("cut"), seconds=60.0)
    assert store.head("m") is None
    assert store.attempts == 2


class Kept(RemoteStore):
    """Loses the answer to its first write, which took effect; then others write ``meanwhile``."""

    def __init__(self, meanwhile: Callable[[Any], object]) -> None:
        super().__init__("there", patience=5.0)
        self.inner, self._meanwhile, self._broke = MemoryStore(), meanwhile, False

    def _read_once(self, key: str, work: Callable[[Any], Any]) -> Any:
        return self.inner._read(key, work)

    def _write_once(self, key: str, work: Callable[[Any], Any]) -> Any:
        result = self.inner._write(key, work)
        if not self._broke:
            self._broke = True
            self._meanwhile(self)
            raise Lost("cut.", in_doubt=True)
        return result

    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        return []

    def _close(self) -> None:
        self._gate.close()


@pytest.mark.parametrize("before", [0, 40])
@pytest.mark.parametrize("others", [0, REQUESTS_KEPT - 2])
def test_a_call_whose_answer_was_lost_is_known_by_its_id(
    clock: Clock, before: int, others: int
) -> None:
    store = Kept(lambda kept: [kept.append("m", record("other")) for _ in range(others)])
    for number in range(before):
        store.inner.append("m", record(), request_id=f"before {number}")
    assert store.append("m", record("one")).seq == before + 1
    assert store.last_seq("m") == before + 1 + others


@pytest.mark.parametrize("before", [0, 40])
def test_what_became_of_a_call_that_may_be_forgotten_is_said_to_be_unknown(
    clock: Clock, before: int
) -> None:
    store = Kept(lambda kept: [kept.append("m", record("other")) for _ in range(REQUESTS_KEPT)])
    for number in range(before):
        store.inner.append("m", record(), request_id=f"before {number}")
    with pytest.raises(StoreUnavailable, match="It is not known whether the call took effect"):
        store.append("m", record("one"))
    told = [r.completed.query for r in store.log("m")]
    assert told.count("one") == 1
    store = Kept(lambda kept: [commit_next(kept) for _ in range(REQUESTS_KEPT)])
    with pytest.raises(StoreUnavailable, match="It is not known whether the call took effect"):
        commit_next(store)
