"""Two runtimes on one memory: nothing on record is lost, nothing is in memory twice."""

from __future__ import annotations

import random
import threading

import pytest

from rxstream import Runtime
from rxstream.errors import StoreUnavailable, VersionConflict
from rxstream.grammar import check
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Lab, Recorder
from rxstream.testing.fakes import fold


class Side:
    """One of the processes."""

    def __init__(
        self, store, *, durability="sync", isolation="serial", on_conflict="rebase", lanes=1
    ):
        self.lab = Lab(memory_lane=lanes == 2)
        self.model = FakeModel(thread_safe=lanes == 2)
        self.runtime = self.lab.runtime(self.model, store=store, durability=durability)
        self.memory = self.runtime.memory("m", isolation=isolation, on_conflict=on_conflict)
        self.events = Recorder(self.memory.events)
        self.persisted = Recorder(self.memory.persisted)
        self.chat = self.memory.conversation(busy="parallel" if isolation != "serial" else None)

    def said(self, query, **options):
        it = self.chat.ask(query, **options)
        self.lab.run()
        return it

    def last(self, it):
        return Recorder(it).items[-1]


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def side(store):
    sides = []

    def make(**options):
        sides.append(Side(store, **options))
        return sides[-1]

    yield make
    for made in sides:
        made.runtime.close()
        assert not made.lab.errors
        made.model.check()
        check(made.events.items, whole=True, serial=made.memory._machine.isolation == "serial")


def remembered(store):
    """What the log says that memory must be."""
    value = ()
    for record in store.log("m"):
        if record.remembered:
            value = fold(value, record.completed.query, record.completed.answer)
    return value


def in_store(store):
    """What somebody reads who opens the memory now."""
    with Lab().runtime(store=store) as runtime:
        return runtime.memory("m").value


@pytest.mark.parametrize("durability", ["sync", "async", "close"])
def test_an_update_on_top_of_another_process_has_both(side, store, durability):
    ours, theirs = side(durability=durability), side()
    theirs.said("theirs")
    it = ours.said("ours")
    done = ours.last(it)
    assert (done.kind, done.cause, done.version, done.durable) == (
        *("memory_updated", "rebase"),
        *(2, True),
    )
    assert ours.memory.value == ("theirs -> theirs #0", "ours -> ours #0") == in_store(store)
    told = [(e.cause, e.interaction) for e in ours.events.items if e.kind == "memory_updated"]
    assert told == [("rebase", ""), ("rebase", it.id)]
    assert [info.version for info in Recorder(ours.memory.changes).items] == [2]


def test_a_version_that_was_not_stored_yet_is_folded_in_by_the_other(side, store):
    ours, theirs = side(durability="close"), side()
    ours.said("ours")
    assert store.head("m") is None
    theirs.said("theirs")
    assert theirs.memory.value == ("ours -> ours #0", "theirs -> theirs #0")
    flushed = ours.memory.flush()
    ours.lab.run()
    assert flushed.result() == 2 == ours.memory.version
    assert ours.memory.value == theirs.memory.value


def test_what_a_killed_process_had_acknowledged_is_not_lost(side, store):
    killed, other = Side(store, durability="close"), side()
    assert killed.said("before the crash").result().text
    killed.lab.kill(killed.runtime)
    other.said("after it")
    assert in_store(store) == remembered(store) == other.memory.value
    assert len(other.memory.value) == 2


def test_a_save_that_a_rebase_has_overtaken_is_dropped(side, store):
    ours, theirs = side(durability="close", lanes=2), side()
    ours.said("one")
    theirs.said("two")
    ours.chat.ask("three")
    while not ours.model.calls["dump"]:  # the rebase is about to be committed
        ours.lab.step()
    flushed = ours.memory.flush()  # of version 1
    ours.lab._choose = lambda ready: 0  # memory before io: it takes effect between dump and store
    ours.lab.run()
    assert flushed.result() == 3 == ours.memory.version
    assert [event.kind for event in ours.persisted.items] == ["memory_persisted"]


def test_one_key_is_applied_once_whoever_asked(side, store):
    ours, theirs = side(), side()
    theirs.said("pay", key="order-7")
    again = ours.said("pay", key="order-7")
    assert ours.last(again).kind == "memory_failed" and ours.last(again).reason == "duplicate"
    assert ours.memory.value == ("pay -> pay #0",) == in_store(store) == remembered(store)
    assert again.result().text == "pay #0"  # the answer stands


def test_a_restore_comes_after_what_the_other_has_written(side, store):
    ours, theirs = side(), side()
    empty = ours.memory.snapshot()
    theirs.said("theirs")
    restored = ours.memory.restore(empty)
    ours.lab.run()
    assert restored.result() == 2 and ours.memory.value == ()
    theirs.said("more")
    assert theirs.memory.value == ("more -> more #1",) == in_store(store)


def test_the_first_version_may_be_written_by_both(side, store):
    one, two = side(durability="close"), side(durability="close")
    one.said("one")
    two.said("two")
    flushed = [one.memory.flush(), two.memory.flush()]
    for made in (one, two, one):
        made.lab.run()
    assert [pending.done for pending in flushed] == [True, True]
    assert in_store(store) == remembered(store) and len(in_store(store)) == 2


@pytest.mark.parametrize("durability", ["sync", "async"])
def test_by_default_the_second_fails_and_nothing_of_it_is_remembered(side, store, durability):
    ours, theirs = side(durability=durability, on_conflict="fail"), side()
    theirs.said("theirs")
    it = ours.said("ours")
    assert ours.last(it).reason == "conflict" and it.result().text == "ours #0"
    assert isinstance(Recorder(it).error.__cause__, VersionConflict)
    assert in_store(store) == ("theirs -> theirs #0",)


def test_a_deleted_memory_is_not_brought_back(side, store):
    ours = side()
    ours.said("one")
    store.delete("m")
    it = ours.said("two")
    assert ours.last(it).reason == "conflict" and ours.memory.version == 1
    assert in_store(store) == ()


def test_a_store_that_fails_meanwhile_costs_that_update_only(side, store):
    ours, theirs = side(), side()
    theirs.said("theirs")
    head, broken = store.head, [True]

    def sometimes(key):
        if broken.pop() if broken else False:
            raise StoreUnavailable("the disk is away")
        return head(key)

    store.head = sometimes
    first, second = ours.said("first"), ours.said("second")
    assert ours.last(first).reason == "store" and ours.last(second).kind == "memory_updated"
    assert ours.memory.value == ("theirs -> theirs #0", "second -> second #0") == in_store(store)


@pytest.mark.parametrize("durability", ["sync", "async"])
@pytest.mark.parametrize("steps", range(40))
def test_an_update_aborted_at_any_moment_is_in_memory_or_not_as_it_says(
    side, store, steps, durability
):
    ours, theirs = side(durability=durability), side()
    theirs.said("theirs")
    it = ours.chat.ask("ours")
    ours.lab.run(steps)
    ours.memory.abort_update()
    ours.lab.run()
    done = ours.last(it).kind == "memory_updated"
    assert ("ours -> ours #0" in ours.memory.value) is done
    ours.said("more")
    assert ("ours -> ours #0" in ours.memory.value) is done
    ours.memory.flush()
    ours.lab.run()
    assert in_store(store) == ours.memory.value == remembered(store)


@pytest.mark.parametrize("isolation", ["serial", "snapshot"])
@pytest.mark.parametrize("durability", ["sync", "async", "close"])
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("seed", range(25))
def test_in_any_interleaving_memory_is_the_fold_of_the_log(seed, lanes, durability, isolation):
    store, chance, asked = MemoryStore(), random.Random(seed), []
    sides = [Side(store, durability=durability, isolation=isolation, lanes=lanes) for _ in range(2)]
    for n in range(12):
        made = chance.choice(sides)
        asked.append((made, made.chat.ask(f"q{n}", remember=chance.random() < 0.7)))
        if chance.random() < 0.2:
            asked[-1][1].cancel()
        if chance.random() < 0.2:
            made.memory.flush().when_done(lambda: None)
        for _ in range(chance.randrange(30)):
            chance.choice(sides).lab.step()
    while sides[0].lab.step() or sides[1].lab.step():
        pass
    for made, it in asked:
        assert made.last(it).kind in ("memory_updated", "memory_skipped", "cancelled")
    for made in sides:
        assert {event.kind for event in made.persisted.items} <= {"memory_persisted"}
        assert made.runtime.close()
        check(made.events.items, whole=True, serial=isolation == "serial").finish()
        assert not made.lab.errors
        made.model.check()
    done = {it.query for made, it in asked if made.last(it).kind == "memory_updated"}
    value = in_store(store)
    assert value == remembered(store)
    assert sorted(text.split(" ")[0] for text in value) == sorted(done)


def test_two_runtimes_on_threads_and_one_sqlite_file(tmp_path):
    address, each = f"sqlite:///{tmp_path}/memories.db", 20
    barrier = threading.Barrier(2)

    def speak(name):
        with Runtime(FakeModel(), store=address) as runtime:
            memory = runtime.memory("shared", on_conflict="rebase", durability="sync")
            barrier.wait(30)
            for n in range(each):
                done = Recorder(memory.conversation(name).ask(f"{name}{n}")).wait(30)
                assert done.items[-1].kind == "memory_updated"

    threads = [threading.Thread(target=speak, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    with Runtime(FakeModel(), store=address) as runtime:
        memory = runtime.memory("shared")
        said = [text.split(" ")[0] for text in memory.value]
        assert memory.version == 2 * each
    assert sorted(said) == sorted(f"{name}{n}" for name in "ab" for n in range(each))
    for name in "ab":  # each in the order in which it was said
        assert [text for text in said if text[0] == name] == [f"{name}{n}" for n in range(each)]
