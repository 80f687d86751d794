"""A subscriber that sleeps for ever, raises, or is dropped: nobody else notices, nothing grows.

An inline subscriber is part of the lane that calls it, so the ones that sleep here read with
iterators, each on a thread or an event loop of its own; that is what the documentation asks for.
"""

from __future__ import annotations

import dataclasses
import gc
import threading
import tracemalloc

import anyio
import anyio.to_thread
import pytest

from rxstream import Runtime
from rxstream.errors import SlowSubscriberError
from rxstream.hooks import hooks
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab, Recorder

from ..profiles import budget

INTERACTIONS = budget(10_000, 50_000)


class Sleepers:
    """Readers that take one event, and then block on an event that nobody sets."""

    def __init__(self, stream, overflow):
        self.wake, self.asleep, self.outcomes = threading.Event(), [], []
        self.threads = []
        for kind in ("thread", "asyncio", "trio"):
            asleep = threading.Event()
            self.asleep.append(asleep)
            target = self.in_thread if kind == "thread" else self.on_loop
            self.threads.append(
                threading.Thread(target=target, args=(stream, overflow, asleep, kind), daemon=True)
            )
            self.threads[-1].start()

    def in_thread(self, stream, overflow, asleep, _):
        reader = stream.blocking(overflow=overflow, start=0, timeout=30, block_timeout=None)
        self.note([next(reader)])
        asleep.set()
        assert self.wake.wait(120)
        self.note(reader)
        reader.close()

    def on_loop(self, stream, overflow, asleep, kind):
        async def main():
            async with stream.iter(overflow=overflow, start=0, block_timeout=None) as reader:
                await anext(reader)
                asleep.set()
                await anyio.to_thread.run_sync(self.wake.wait)
                try:
                    self.outcomes.append(await anext(reader))
                except SlowSubscriberError as error:
                    self.outcomes.append(error)

        anyio.run(main, backend=kind)

    def note(self, events):
        try:
            for event in events:
                self.outcomes.append(event)
                return
        except SlowSubscriberError as error:
            self.outcomes.append(error)

    def all_asleep(self):
        for asleep in self.asleep:
            assert asleep.wait(30)

    def end(self):
        self.wake.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


class Forgetful(MemoryStore):
    """Keeps no interactions: what a store on disk keeps is not memory of the process."""

    def append(self, key, record):
        self.appended = getattr(self, "appended", 0) + 1
        return dataclasses.replace(record, seq=self.appended)


@pytest.mark.parametrize("overflow", ["error", "latest"])
def test_readers_that_sleep_for_ever_hold_nobody_up(overflow) -> None:
    model = FakeModel()
    with Runtime(model) as runtime:
        memory = runtime.memory("m")
        chat = memory.conversation()
        seen, stream = Recorder(memory.events), memory.events
        chat.ask("first").result(30)
        sleepers = Sleepers(stream, overflow)
        sleepers.all_asleep()
        for n in range(100):  # 64 events each, and the stream keeps 4096
            assert chat.ask("long 60").result(30).usage.answer_tokens == 60, n
        sleepers.end()
        kinds = {getattr(item, "kind", type(item).__name__) for item in sleepers.outcomes[1:]}
        assert kinds == {"gap" if overflow == "latest" else "SlowSubscriberError"}
    assert seen.ended and len(seen.items) >= 6400
    model.check()


def test_readers_of_an_answer_that_sleep_lose_nothing_and_hold_nobody_up() -> None:
    """The log of an interaction has room for all of it, even for a reader that asked for block."""
    with Runtime(FakeModel()) as runtime:
        chat = runtime.memory("m").conversation()
        it = chat.ask("long 60", detach="keep")
        sleepers = Sleepers(it, "block")
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
