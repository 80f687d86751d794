"""Without a store of its own a runtime keeps some versions of each memory; with one, all."""

from __future__ import annotations

import pytest

from rxstream import history
from rxstream.errors import MemoryUpdateError
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab


def talk(store: MemoryStore | None, turns: int, label_at: int = 0) -> MemoryStore:
    lab = Lab()
    runtime = lab.runtime(store=store)
    chat = runtime.memory("m").conversation()
    for turn in range(1, turns + 1):
        chat.ask(f"query {turn}")
        lab.run()
        if turn == label_at:
            runtime.store.tag("m", "here")
    kept = runtime.store
    lab.kill(runtime)
    return kept


def test_a_runtime_without_a_store_keeps_the_newest_versions_and_those_with_a_label():
    store = talk(None, turns=20, label_at=3)
    assert store.history("m") == [*range(20, 12, -1), 3]
    assert [store.load("m", version).version for version in (20, 13, 3)] == [20, 13, 3]
    assert len(list(store.log("m"))) == 20, "what was said is all there"


def test_what_came_from_elsewhere_stays_or_the_log_would_tell_another_story():
    lab, model = Lab(), FakeModel()
    runtime = lab.runtime(model)
    memory = runtime.memory("m")
    chat = memory.conversation()
    for turn in range(17):
        if turn == 5:
            memory.restore(runtime.store.load("m", 2))
            lab.run()
        chat.ask(f"query {turn}")
        lab.run()
    store = runtime.store
    kinds = [store.info("m", version).kind for version in store.history("m")]
    assert kinds == ["update"] * 8 + ["restore"]
    assert {each.outcome for each in history.check(store, model, "m")} == {"given", "same"}
    with pytest.raises(MemoryUpdateError, match=r"does not come from its log \(restore\)"):
        history.rebuild(store, model, "m")
    runtime.close()


def test_what_was_rolled_back_to_stays_and_history_follows_it():
    store = talk(MemoryStore(keep=8), turns=5)
    store.rollback("m", 2)
    talk(store, turns=12)
    assert store.history("m") == [*range(18, 10, -1), 6, 2]
    model = FakeModel()
    value, _ = history.rebuild(store, model, "m")
    assert model.dump(value) == store.load("m").state


def test_a_key_that_a_memory_has_forgotten_is_folded_in_again_by_a_replay():
    lab, model = Lab(), FakeModel()
    runtime = lab.runtime(model)
    chat = runtime.memory("m").conversation()
    for turn in range(1, 301):
        chat.ask(f"query {turn}", key="a" if turn in (1, 281) else f"key {turn}")
        lab.run()
    store = runtime.store
    assert {each.outcome for each in history.check(store, model, "m")} == {"same"}
    value, told = history.rebuild(store, model, "m")
    assert told == 300 and model.dump(value) == runtime.memory("m").snapshot().state
    runtime.close()


def test_a_store_that_was_given_keeps_all():
    assert talk(MemoryStore(), turns=20).history("m") == [*range(20, 0, -1)]


def test_a_store_that_keeps_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1 version of a memory, not 0"):
        MemoryStore(keep=0)


def test_what_a_store_in_memory_gives_out_are_the_bytes_of_a_file():
    store = talk(None, turns=2)
    snapshot = store.load("m")
    again = MemoryStore()
    again.commit(snapshot, expect=None)
    state = snapshot.state
    assert again.load("m") == snapshot and again.load("m").state == state
    assert store.load("m", 1).state != state
