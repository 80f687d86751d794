"""G6: memory is the fold of what was remembered. G7: and each key is in it at most once."""

from __future__ import annotations

import pytest

from rxstream import Runtime
from rxstream.errors import QueryRejected, StoreUnavailable
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab, Recorder
from rxstream.testing.fakes import fold

from ..room import Room


@pytest.mark.parametrize("isolation", ["serial", "snapshot"])
@pytest.mark.parametrize("durability", ["sync", "async", "close"])
def test_g6_memory_is_the_fold_of_the_updates_after_every_event(isolation, durability) -> None:
    room = Room(memory={"isolation": isolation, "durability": durability})
    queries, answers, expected, steps = {}, {}, [()], []

    def follow(event):
        if event.kind == "answer_completed":
            answers[event.interaction] = event.text
        elif event.kind == "memory_updated":
            mine = event.interaction
            expected.append(fold(expected[-1], queries[mine], answers[mine]))
        steps.append(room.memory.value == expected[-1])

    room.memory.events.subscribe(follow)
    for n in range(15):
        if n % 5 == 2:
            room.model.fail("attend", RuntimeError(), times=2, containing=f"query {n}")
        if n % 5 == 3:
            room.model.fail("start", RuntimeError(), times=2, containing=f"query {n}")
        it = room.memory.conversation("abc"[n % 3]).ask(f"query {n}", remember=n % 5 != 1)
        queries[it.id] = f"query {n}"
        room.lab.run(2 if n % 5 == 4 else 9)
        if n % 5 == 4:
            assert it.cancel()
    room.lab.run()
    kinds = {event.kind for event in room.events.items}
    assert {"cancelled", "failed", "memory_failed", "memory_skipped"} <= kinds
    assert len(steps) == len(room.events.items) and all(steps)
    assert len(expected) > 3 and room.memory.value == expected[-1]
    room.close()


@pytest.mark.parametrize("end", ["cancel", "fail", "update fails", "skip"])
def test_g6_what_ends_without_update_leaves_value_and_version(end) -> None:
    room = Room()
    room.chat.ask("before")
    room.lab.run()
    before = room.memory.value, room.memory.version
    if end == "fail":
        room.model.fail("step", RuntimeError())
    if end == "update fails":
        room.model.fail("encode", RuntimeError(), times=2)
    it = room.chat.ask("one two", remember=end != "skip")
    if end == "cancel":
        room.step_until(it, "QSTT")
        it.cancel()
    room.lab.run()
    assert room.word(it)[-1] == {"cancel": "C", "fail": "F", "skip": "K"}.get(end, "E")
    assert (room.memory.value, room.memory.version) == before
    assert room.memory.value is before[0], "not even an equal one"
    room.close()


PHASES = ("queued", "prefill", "decoding", "updating", "over")


@pytest.mark.parametrize("phase", PHASES)
def test_g7_a_key_is_applied_once_whenever_the_second_query_comes(phase) -> None:
    room = Room()
    it = room.bring(phase, key="k")
    with pytest.raises(QueryRejected, match="'k'") as caught:
        room.chat.ask("one two", key="k")
    assert caught.value.reason == "duplicate"
    second = room.memory.conversation("other").ask("again", key="k", raise_on_reject=False)
    rejected = Recorder(second).items[0]
    assert rejected.version == (1 if phase == "over" else None), "says what it already wrote"
    room.lab.run()
    assert room.word(it).endswith("D")
    assert sum("one two" in text for text in room.memory.value) == 1
    room.close()


@pytest.mark.parametrize(
    "phase, end", [("queued", "C"), ("prefill", "C"), ("decoding", "F"), ("updating", "E")]
)
def test_g7_a_key_that_was_not_applied_may_be_used_again(phase, end) -> None:
    room = Room()
    it = room.bring(phase, key="k")
    if end == "E":
        room.memory.abort_update()
    elif end == "C":
        it.cancel()
    else:
        room.model.fail("step", RuntimeError())
    room.lab.run()
    assert room.word(it).endswith(end)
    before = room.memory.version
    again = room.chat.ask("one two", key="k")
    room.lab.run()
    assert room.word(again).endswith("D") and room.memory.version == before + 1
    room.close()


@pytest.mark.parametrize("durability", ["sync", "async", "close"])
@pytest.mark.parametrize("address", ["memory", "sqlite"])
def test_g7_a_key_is_known_after_reopening_the_store(durability, address, tmp_path) -> None:
    store = MemoryStore() if address == "memory" else f"sqlite:///{tmp_path}/m.db"
    with Runtime(FakeModel(), store=store, durability=durability) as runtime:
        chat = runtime.memory("m").conversation()
        for _ in chat.ask("hello", key="k").blocking(timeout=30):
            pass
    for _ in range(2):
        with Runtime(FakeModel(), store=store, durability=durability) as runtime:
            memory = runtime.memory("m")
            it = memory.conversation().ask("hello", key="k", raise_on_reject=False)
            [rejected] = Recorder(it).items
            assert (rejected.reason, rejected.version) == ("duplicate", 1)
            assert memory.value == ("hello -> hello #0",)


@pytest.mark.parametrize("durability", ["sync", "async", "close"])
def test_g7_a_key_is_known_after_a_crash_at_any_moment(durability) -> None:
    """Kill after every single action of a lane; then the client asks again, as clients do."""
    outcomes = set()
    for steps in range(40):
        lab, store = Lab(), MemoryStore()
        runtime = lab.runtime(FakeModel(), store=store, durability=durability)
        it = runtime.memory("m").conversation().ask("hello", key="k")
        lab.run(steps)
        acknowledged = it.when_answered().done
        lab.kill(runtime)
        again = Lab()
        runtime = again.runtime(FakeModel(), store=store, durability=durability)
        memory = runtime.memory("m")
        retry = memory.conversation().ask("hello", key="k", raise_on_reject=False)
        again.run()
        kind = Recorder(retry).items[-1].kind
        assert kind in ("query_rejected", "memory_updated")
        assert kind == "query_rejected" or not acknowledged, "what was acknowledged is not lost"
        assert memory.value == ("hello -> hello #0",)
        outcomes.add(kind)
        runtime.close()
    assert len(outcomes) == 2


def test_g7_a_key_is_applied_once_when_the_store_failed_after_appending() -> None:
    """The client is told of a failure; the record is in the log, but marked as not remembered."""

    class Fails(MemoryStore):
        def commit(self, snapshot, *, expect):
            raise StoreUnavailable("disk full")

    store = Fails()
    room = Room(store=store, durability="sync")
    it = room.chat.ask("hello", key="k")
    room.lab.run()
    assert room.word(it).endswith("E")
    again = Lab()
    store.commit = MemoryStore.commit.__get__(store)
    runtime = again.runtime(FakeModel(), store=store)
    memory = runtime.memory("m")
    assert memory.value == ()
    retry = memory.conversation().ask("hello", key="k")
    again.run()
    assert retry.answer is not None and memory.value == ("hello -> hello #0",)
    runtime.close()
    room.close()


def test_g7_the_last_256_keys_are_kept_across_a_reopening() -> None:
    store = MemoryStore()
    room = Room(store=store)
    for n in range(258):
        room.chat.ask(f"q{n}", key=f"key {n}")
        room.lab.run()
    room.close()
    room = Room(store=store)
    for n, known in ((257, True), (2, True), (1, False), (0, False)):
        it = room.chat.ask("again", key=f"key {n}", raise_on_reject=False)
        room.lab.run()
        assert (Recorder(it).items[0].kind == "query_rejected") is known, n
    room.close()
