"""A subscriber that sleeps for ever, raises, or is dropped: nobody else notices, nothing grows."""

from __future__ import annotations

import dataclasses
import gc
import tracemalloc
from collections import Counter

import pytest

from rxstream import Runtime
from rxstream.errors import SlowSubscriberError
from rxstream.hooks import hooks
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab

from ..profiles import budget
from .sleepers import PULL, Sleepers

INTERACTIONS = budget(10_000, 50_000)


class Forgetful(MemoryStore):
    """Keeps no interactions: what a store on disk keeps is not memory of the process."""

    def append(self, key, record):
        self.appended = getattr(self, "appended", 0) + 1
        return dataclasses.replace(record, seq=self.appended)


def test_sleepers_of_every_kind_hold_nobody_up_in_ten_thousand_interactions() -> None:
    model = FakeModel(capacity=10, max_batch=64)
    with Runtime(model, store=Forgetful(), durability="close") as runtime:
        memories = [runtime.memory(overflow) for overflow in ("error", "latest")]
        sleepers = [Sleepers(memory.events, memory.name) for memory in memories]
        updates = Counter()
        for memory in memories:
            memory.events.subscribe(lambda e: updates.update([e.kind]))
        chats = [memory.conversation(max_pending=50) for memory in memories]

        def converse(count):
            for _ in range(count // 100):
                asked = [chat.ask("hi", detach="keep") for chat in chats for _ in range(50)]
                for it in asked:
                    it.result(60)
            model.batches.clear()
            gc.collect()

        converse(500)
        for each in sleepers:
            each.all_asleep()
        converse(INTERACTIONS - 3000)
        tracemalloc.start()
        try:
            converse(1500)  # 5,250 events each: the streams hold nothing older now
            before, _ = tracemalloc.get_traced_memory()
            converse(1000)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert after - before < 200_000, f"{after - before} bytes more after 1,000 interactions"
        for each in sleepers:
            each.end()
    strict, lax = ([type(item).__name__ for item in each.outcomes] for each in sleepers)
    assert strict == ["SlowSubscriberError"] * 4
    assert sorted(lax) == ["Gap"] * 3 + ["SlowSubscriberError"]  # who is called must not miss any
    assert updates["memory_updated"] == INTERACTIONS
    model.check()


def test_readers_of_an_answer_that_sleep_lose_nothing_and_hold_nobody_up() -> None:
    """The log of an interaction has room for all of it, even for a reader that asked for block."""
    with Runtime(FakeModel()) as runtime:
        chat = runtime.memory("m").conversation()
        it = chat.ask("long 60", detach="keep")
        sleepers = Sleepers(it, "block", PULL)
        sleepers.all_asleep()
        assert it.result(30).usage.answer_tokens == 60
        assert chat.ask("hello").result(30).text
        sleepers.end()
        assert all(event.interaction == it.id for event in sleepers.outcomes)


def test_a_sleeper_that_asked_for_block_is_shown_the_door() -> None:
    """It may hold the model up, as it asked, but not for ever: block_timeout ends it."""
    lab, model = Lab(), FakeModel()
    runtime = lab.runtime(model)
    memory = runtime.memory("m")
    reader = memory.events.blocking(overflow="block", block_timeout=5)
    asked = []
    while memory.events._log.ready():
        asked.append(memory.conversation().ask("long 60"))
        lab.run()
    last = memory.conversation().ask("long 60")
    lab.run()
    assert last.answer is None
    elsewhere = runtime.memory("other").conversation().ask("long 60")
    lab.run()
    assert elsewhere.answer is not None, "other memories go on"
    lab.advance(6)
    assert last.answer is not None
    with pytest.raises(SlowSubscriberError):
        list(reader)
    runtime.close()
    model.check()


def test_ten_thousand_interactions_with_bad_subscribers_stay_in_bounded_memory(
    monkeypatch,
) -> None:
    unhandled = []
    monkeypatch.setattr(hooks, "on_unhandled", lambda error: unhandled.append(type(error)))
    lab, model = Lab(), FakeModel(capacity=10)
    runtime = lab.runtime(model, store=Forgetful(), durability="close")
    memory = runtime.memory("m")
    chat = memory.conversation()
    asleep = [memory.events.iter(overflow=overflow) for overflow in ("error", "latest")]
    asleep.append(chat.events.blocking())
    updates = []
    memory.events.subscribe(
        lambda e: updates.append(e.version) if e.kind == "memory_updated" else None
    )

    def bad(event):
        raise RuntimeError("a subscriber that fails")

    def converse(count):
        for n in range(count):
            it = chat.ask("hi", detach="keep")
            if n % 10 == 0:
                it.subscribe(bad)
                chat.events.subscribe(bad)
                it.iter()
                memory.events.blocking(overflow="latest")
            lab.run()
        model.batches.clear()
        unhandled.clear()
        gc.collect()

    converse(INTERACTIONS - 2000)
    assert updates == list(range(1, INTERACTIONS - 1999))
    updates.clear()
    tracemalloc.start()
    try:
        converse(1000)  # 7,000 events: the streams hold nothing older now
        before, _ = tracemalloc.get_traced_memory()
        converse(1000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert updates == list(range(INTERACTIONS - 1999, INTERACTIONS + 1))
    assert after - before < 200_000, f"{after - before} bytes more after 1,000 interactions"
    for reader in asleep:
        reader.close()
    runtime.close()
    model.check()
