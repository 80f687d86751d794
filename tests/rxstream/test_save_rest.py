"""A new version is stored after a rest: the next query comes first, and often a newer version."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rxstream import Runtime
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab, Recorder

from .test_memory import Broken


class Rested:
    def __init__(self, store: MemoryStore | None = None) -> None:
        self.lab, self.store = Lab(), store or MemoryStore()
        self.lab.rest = 0.05
        self.runtime = self.lab.runtime(store=self.store)
        self.memory = self.runtime.memory("m")
        self.persisted = Recorder(self.memory.persisted)
        self.chat = self.memory.conversation()

    def say(self, *queries: str) -> None:
        for query in queries:
            self.chat.ask(query)
        self.lab.run()

    @property
    def stored(self) -> list[int]:
        return self.store.history("m")


@pytest.fixture
def rested() -> Iterator[Rested]:
    made = Rested()
    yield made
    made.runtime.close()
    assert not made.lab.errors


def test_versions_that_follow_closely_are_stored_as_the_last_of_them(rested: Rested) -> None:
    rested.say("one", "two", "three")
    assert rested.memory.version == 3 and rested.stored == []
    rested.lab.advance(0.05)
    assert rested.stored == [3] and rested.memory.info().stored == 3


def test_the_rest_counts_from_the_first_of_them(rested: Rested) -> None:
    rested.say("one")
    rested.lab.advance(0.04)
    rested.say("two")
    rested.lab.advance(0.01)
    assert rested.stored == [2]
    rested.say("three")
    rested.lab.advance(0.05)
    assert rested.stored == [3, 2]


def test_who_flushes_does_not_wait_for_the_rest(rested: Rested) -> None:
    rested.say("one")
    flushed = rested.memory.flush()
    rested.lab.run()
    assert flushed.result() == 1 and rested.stored == [1]
    rested.lab.advance(1)
    assert len(rested.persisted.items) == 1


def test_closing_does_not_wait_for_the_rest_either() -> None:
    made = Rested()
    made.say("one", "two")
    made.runtime.close()
    assert made.stored == [2] and made.lab.time < 0.05


def test_what_a_kill_finds_unstored_is_redone_from_the_log() -> None:
    made = Rested()
    made.say("one", "two")
    value = made.memory.value
    made.lab.kill(made.runtime)
    assert made.stored == []
    again = Lab()
    with again.runtime(store=made.store) as runtime:
        memory = runtime.memory("m")
        again.run()
        assert memory.version == 2 and memory.value == value


def test_a_store_that_failed_is_tried_again_at_its_own_pace() -> None:
    made = Rested(Broken("commit"))
    made.say("one")
    made.lab.advance(0.05)
    assert [event.kind for event in made.persisted.items] == ["persist_failed"]
    made.say("two")
    made.lab.advance(0.4)
    assert len(made.persisted.items) == 1
    made.store.broken.clear()
    made.lab.advance(0.1)
    assert made.stored == [2]
    made.runtime.close()


def test_threads_rest_and_a_clock_that_is_set_by_hand_does_not() -> None:
    with Runtime(FakeModel()) as runtime:
        assert 0 < runtime._core.engine.lanes.rest <= 0.1
    assert Lab().rest == 0
