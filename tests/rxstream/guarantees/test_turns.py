"""G3, G4, G5: who may act when, what it reads, and who comes next."""

from __future__ import annotations

import itertools
import random

import pytest

from rxstream import GenerationStarted, MemoryUpdated, Runtime, Timeouts
from rxstream.events import LETTERS
from rxstream.testing import FakeModel, Lab, Recorder

from ..room import Room


def started(room):
    """Conversation and query of everything that started, in order."""
    return [e.interaction for e in room.events.items if isinstance(e, GenerationStarted)]


def owners(events):
    """Each letter with the interaction that holds the lease then: (letter, mine, owner)."""
    owner = None
    for event in events:
        letter = LETTERS[event.kind]
        if letter == "S":
            owner = event.interaction
        yield letter, event, owner
        if letter in "CFKDE" and event.interaction == owner:
            owner = None


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("memory_lane", [False, True])
def test_g3_no_other_interaction_acts_between_start_and_end(seed, memory_lane) -> None:
    rng = random.Random(seed)
    room = Room(memory_lane=memory_lane)
    room.lab._choose = rng.randrange
    its = []
    for n in range(12):
        limits = Timeouts(queued=1) if n % 4 == 3 else None
        its.append(room.memory.conversation("abc"[n % 3]).ask(f"long {n % 5}", timeouts=limits))
        room.lab.run(rng.randrange(12))
        rng.choice(its).cancel()
        room.lab.skip(0.3)
    room.lab.run()
    acting = [
        (letter, event.interaction, owner) for letter, event, owner in owners(room.events.items)
    ]
    assert all(owner == mine for letter, mine, owner in acting if letter in "STAUDEK")
    among = {letter for letter, mine, owner in acting if owner not in (None, mine)}
    assert among <= set("XQCF") and "Q" in among
    room.close()


def test_g3_a_query_that_comes_during_an_update_waits_for_its_end() -> None:
    room = Room()
    first = room.bring("updating")
    second = room.memory.conversation("other").ask("second")
    while not first.is_over:
        assert room.word(second) == "Q"
        assert room.lab.step()
    room.lab.run()
    assert room.word(second).endswith("D") and second.answer.read_version == 1
    room.close()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("method", ["encode", "attend"])
def test_g3_nobody_starts_while_memory_is_being_updated(method, after) -> None:
    model = FakeModel(thread_safe=True)
    pause = model.pause(method, after=after)
    with Runtime(model) as runtime:
        memory, another = runtime.memory("m"), runtime.memory("another")
        first = memory.conversation("a").ask("first")
        pause.wait_until_reached()
        second = memory.conversation("b").ask("second", detach="keep")
        elsewhere = another.conversation().ask("long 40")
        assert elsewhere.result(30), "other memories go on: the decode lane is free"
        assert [e.kind for e in Recorder(second).items] == ["query_accepted"]
        pause.release()
        assert second.result(30).read_version == 1 and first.is_over


def test_g3_restores_wait_for_the_running_interaction_and_hold_up_the_next() -> None:
    room = Room()
    snapshot = room.memory.snapshot()
    first = room.bring("decoding")
    done = room.memory.restore(snapshot)
    second = room.chat.ask("second")
    while not done.done:
        assert room.word(second) == "Q"
        assert room.lab.step()
    assert room.word(first).endswith("D") and room.memory.value == ()
    room.lab.run()
    assert room.word(second).endswith("D")
    room.close()


@pytest.mark.parametrize("seed", range(5))
def test_g3_with_snapshot_isolation_answers_overlap_and_updates_exclude_each_other(seed) -> None:
    rng = random.Random(seed)
    room = Room(memory={"isolation": "snapshot"}, memory_lane=True)
    room.lab._choose = rng.randrange
    for n in range(9):
        room.memory.conversation("abc"[n % 3], busy="parallel").ask(f"long {1 + n % 4}")
    room.lab.run()
    letters = [(LETTERS[e.kind], e.interaction) for e in room.events.items]
    updates = [pair for pair in letters if pair[0] in "UDE"]
    for opened, closed in zip(updates[::2], updates[1::2], strict=True):
        assert opened[0] == "U" and closed[0] in "DE" and opened[1] == closed[1]
    changes_of_speaker = sum(a[1] != b[1] for a, b in itertools.pairwise(letters))
    assert changes_of_speaker > 40, "answers overlap"
    room.close()


def test_g3_with_snapshot_isolation_a_restore_waits_for_all_who_run() -> None:
    room = Room(memory={"isolation": "snapshot"})
    snapshot = room.memory.snapshot()
    its = [room.memory.conversation(name).ask("long 5") for name in "ab"]
    room.lab.run(3)
    done = room.memory.restore(snapshot)
    while not done.done:
        assert room.lab.step()
    assert all(it.is_over for it in its)
    room.close()


def test_g4_an_interaction_reads_the_newest_version_and_each_update_adds_one() -> None:
    room = Room()
    snapshot = room.memory.snapshot()
    for n in range(12):
        if n % 4 == 1:
            room.model.fail("attend", RuntimeError(), times=2)
        if n % 4 == 3:
            room.memory.restore(snapshot)
        room.chat.ask("mute" if n % 5 == 4 else f"query {n}")
        room.lab.run()
        room.model.clear()
    version, reads, restores = 0, 0, 0
    for event in room.events.items:
        if isinstance(event, GenerationStarted):
            assert event.read_version == version
            reads += 1
        elif isinstance(event, MemoryUpdated):
            assert event.version == version + 1
            version = event.version
            restores += event.cause == "restore"
    assert (reads, restores) == (12, 3) and room.memory.version == version == 11
    room.close()


def test_g4_versions_do_not_go_back_when_an_old_version_is_restored() -> None:
    room = Room()
    room.chat.ask("one")
    room.lab.run()
    old = room.memory.snapshot()
    for query in ("two", "three"):
        room.chat.ask(query)
    room.lab.run()
    done = room.memory.restore(old)
    room.lab.run()
    assert done.result() == 4 and old.version == 1
    assert room.memory.value == ("one -> one #0",)
    room.close()


def test_g4_with_snapshot_isolation_a_stale_read_says_so_and_no_update_is_lost() -> None:
    room = Room(memory={"isolation": "snapshot"})
    its = [room.memory.conversation(name).ask(f"query {name}") for name in "abc"]
    room.lab.run()
    reads = [it.answer.read_version for it in its]
    assert reads == [0, 0, 0], "all three read before the first update"
    bases = [e.base_version for e in room.events.items if e.kind == "memory_updating"]
    assert bases == [0, 1, 2], "and each was folded into the latest"
    assert len(room.memory.value) == 3
    room.close()


def test_g5_first_come_first_served_within_a_conversation() -> None:
    room = Room()
    its = [room.chat.ask(f"query {n}") for n in range(12)]
    for n in (2, 5, 11):
        its[n].cancel()
    room.lab.run()
    assert started(room) == [it.id for n, it in enumerate(its) if n not in (2, 5, 11)]
    room.close()


def test_g5_conversations_take_turns_however_many_queries_one_has() -> None:
    room = Room()
    flood = room.memory.conversation("flood", max_pending=50)
    crowd = [flood.ask(f"flood {n}") for n in range(50)]
    room.step_until(crowd[0], "QS")
    polite = [room.memory.conversation(name) for name in "xyz"]
    its = [(chat, chat.ask(f"query {n}")) for n in range(3) for chat in polite]
    room.lab.run()
    order = [e.conversation for e in room.events.items if isinstance(e, GenerationStarted)]
    assert order[:13] == ["flood", *"xyz", "flood", *"xyz", "flood", *"xyz", "flood"]
    assert all(it.is_over for _, it in its) and len(order) == 59
    room.close()


@pytest.mark.parametrize("seed", range(10))
def test_g5_nobody_who_waits_is_overtaken_twice_by_one_conversation(seed) -> None:
    rng = random.Random(seed)
    room = Room()
    room.lab._choose = rng.randrange
    for _ in range(40):
        chat = room.memory.conversation(rng.choice("aaaabbc"), max_pending=99)
        it = chat.ask("mute" if rng.random() < 0.5 else "one")
        room.lab.run(rng.randrange(6))
        if rng.random() < 0.2:
            it.cancel()
    room.lab.run()
    waiting: dict[str, dict[str, int]] = {}  # who waits at the head of its conversation
    queue: dict[str, list[str]] = {name: [] for name in "abc"}
    for event in room.events.items:
        mine = queue[event.conversation]
        if event.kind == "query_accepted":
            mine.append(event.interaction)
        elif event.kind == "generation_started":
            assert mine.pop(0) == event.interaction
            waiting.pop(event.conversation, None)
            for name, others in queue.items():
                if others:
                    passed = waiting.setdefault(name, {})
                    passed[event.conversation] = passed.get(event.conversation, 0) + 1
                    assert name == event.conversation or passed[event.conversation] <= 2
        elif event.kind == "cancelled" and event.phase == "queued":
            mine.remove(event.interaction)
            if not mine:
                waiting.pop(event.conversation, None)
    room.close()


def test_g5_memories_share_a_small_model_first_come_first_served() -> None:
    lab, model = Lab(), FakeModel(max_batch=1)
    runtime = lab.runtime(model)
    events = []
    for name in ("busy", "quiet"):
        runtime.memory(name).events.subscribe(lambda e, name=name: events.append((name, e.kind)))
    for n in range(10):
        runtime.memory("busy").conversation().ask(f"query {n}")
    runtime.memory("quiet").conversation().ask("hello")
    lab.run()
    order = [name for name, kind in events if kind == "generation_started"]
    assert order.index("quiet") <= 1, "behind at most the one that was running"
    assert len(order) == 11
    runtime.close()
    model.check()
