"""What was acknowledged survives a crash at any point."""

from __future__ import annotations

import pytest

from rxstream.errors import MemoryUpdateError, SnapshotIncompatible, StoreCorrupt
from rxstream.events import LETTERS, AnswerCompleted
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab, Recorder
from rxstream.testing.fakes import fold


def run_for(store, steps, durability, queries=("one", "two", "three")):
    """A runtime that is killed after so many actions. What it told, and whether it had finished."""
    lab = Lab()
    runtime = lab.runtime(FakeModel(), store=store, durability=durability)
    memory = runtime.memory("m")
    events = Recorder(memory.events)
    for i, query in enumerate(queries):
        memory.conversation().ask(query, key=f"key {i}")
    done = lab.run(steps) < steps
    lab.kill(runtime)
    return events.items, memory.value, done


@pytest.mark.parametrize("durability", ["sync", "async", "close"])
def test_killed_at_any_step(durability):
    steps = 0
    while True:
        store = MemoryStore()
        events, value, done = run_for(store, steps, durability)
        lab = Lab()
        runtime = lab.runtime(FakeModel(), store=store)
        memory = runtime.memory("m")
        answered = [e for e in events if isinstance(e, AnswerCompleted)]
        known = [len(value), len(answered)]
        assert known[0] <= len(memory.value) <= known[1], f"killed after {steps} steps"
        expected = ()
        for query, answer in zip(("one", "two", "three"), answered, strict=False):
            expected = fold(expected, query, answer.text)
        assert memory.value == expected[: len(memory.value)]
        assert memory.version == len(memory.value)
        for i in range(len(memory.value)):
            again = memory.conversation().ask("x", key=f"key {i}", raise_on_reject=False)
            assert LETTERS[Recorder(again).items[0].kind] == "X", "applied at most once"
        lab.run()
        assert store.head("m") == (memory.version or None), "redone once is enough"
        runtime.close()
        if done:
            break
        steps += 1
    assert steps > 15


def test_killed_while_redoing():
    store = MemoryStore()
    run_for(store, 10_000, "close")
    for _ in range(3):
        lab = Lab()
        runtime = lab.runtime(FakeModel(), store=store, durability="close")
        assert runtime.memory("m").version == 3
        lab.kill(runtime)
    assert store.head("m") is None


def test_redo_goes_on_from_the_stored_version():
    store = MemoryStore()
    lab = Lab()
    runtime = lab.runtime(FakeModel(), store=store, durability="close")
    memory = runtime.memory("m")
    memory.conversation().ask("stored")
    lab.run()
    memory.flush()
    memory.conversation().ask("only logged")
    memory.conversation().ask("not remembered", remember=False)
    lab.run()
    lab.kill(runtime)
    lab = Lab()
    model = FakeModel()
    runtime = lab.runtime(model, store=store)
    again = runtime.memory("m")
    runtime.close()
    assert again.value == memory.value and again.version == 2
    assert model.calls["attend"] == 1
    assert [r.remembered for r in store.log("m")] == [True, True, False]


def test_a_model_that_cannot_redo_changes_nothing():
    store = MemoryStore()
    run_for(store, 10_000, "close")
    model = FakeModel()
    runtime = Lab().runtime(model, store=store)
    model.fail("attend", RuntimeError("broken"), times=1)
    with pytest.raises(MemoryUpdateError, match=r"forget\('m'"):
        runtime.memory("m")
    assert all(r.remembered for r in store.log("m")) and store.head("m") is None
    assert runtime.memory("m").version == 3, "and it can be tried again"
    runtime.close()


def test_another_model_is_refused():
    store = MemoryStore()
    run_for(store, 10_000, "sync")
    runtime = Lab().runtime(FakeModel(fingerprint="other"), store=store)
    with pytest.raises(SnapshotIncompatible, match="'fake-1'.*'other'"):
        runtime.memory("m")
    runtime.close()
    assert store.head("m") == 3


def test_damage_is_told_and_left_alone():
    store = MemoryStore()
    run_for(store, 10_000, "sync")
    memory = store._memories["m"]
    good, bad = memory.files[3], (memory.packed(3)[:-1] + b"!",)
    memory.files[3] = bad
    runtime = Lab().runtime(FakeModel(), store=store)
    with pytest.raises(StoreCorrupt):
        runtime.memory("m")
    assert memory.files[3] == bad
    memory.files[3] = good
    assert runtime.memory("m").version == 3
    runtime.close()


def test_a_deleted_memory_begins_anew():
    store = MemoryStore()
    run_for(store, 10_000, "sync")
    store.delete("m")
    lab = Lab()
    runtime = lab.runtime(FakeModel(), store=store, durability="sync")
    memory = runtime.memory("m")
    assert memory.value == ()
    memory.conversation().ask("hello")
    lab.run()
    assert memory.value == ("hello -> hello #0",) and store.head("m") == memory.version
    runtime.close()
