"""Asking: order, busy policies, rejections, back-pressure."""

from __future__ import annotations

import pickle

import pytest

from rxstream import CompletedInteraction, Sampling
from rxstream.errors import MemoryUpdateError, QueryRejected
from rxstream.events import Rejected
from rxstream.testing import FakeModel, Recorder

from .talk import Setup, setups


@pytest.fixture
def setup():
    yield from setups()


# Order


def test_conversations_take_turns(setup):
    s = setup()
    for name in ("a", "a", "a", "b", "b", "c"):
        s.memory.conversation(name).ask(name)
    s.lab.run()
    started = [e.conversation for e in s.events.items if e.kind == "generation_started"]
    assert started == ["a", "b", "c", "a", "b", "a"]
    assert [e.seq for e in s.events.items] == list(range(1, len(s.events.items) + 1))


def test_streams_of_one_conversation(setup):
    s = setup()
    a, b = s.memory.conversation("a"), s.memory.conversation("b")
    seen = Recorder(a.events)
    a.ask("one")
    b.ask("two")
    s.lab.run()
    assert {e.conversation for e in seen.items} == {"a"}
    assert seen.items == [e for e in s.events.items if e.conversation == "a"]
    assert s.memory.conversation("a") is a and a.events is a.events


def test_late_subscribers_see_all(setup):
    s = setup()
    it = s.chat.ask("hello there")
    s.lab.run()
    first, second = Recorder(it), Recorder(it)
    assert first.items == second.items == s.events.items
    assert first.ended and second.ended


def test_asking_inside_a_callback(setup):
    s = setup()
    asked = []

    def react(event):
        if event.kind == "answer_completed" and len(asked) < 3:
            asked.append(s.chat.ask(f"reaction {len(asked)}"))

    s.memory.events.subscribe(react)
    s.chat.ask("begin")
    s.lab.run()
    assert s.memory.version == 4 and len(asked) == 3


def test_cancelling_inside_a_callback(setup):
    s = setup()
    it = s.chat.ask("long 50")
    it.subscribe(lambda e: it.cancel() if e.kind == "token" and e.index == 4 else None)
    s.lab.run()
    assert s.letters() == "QSTTTTTC"


def test_a_raising_subscriber_disturbs_nobody(setup):
    s = setup()
    it = s.chat.ask("hello there")
    errors = []
    it.subscribe(lambda e: 1 / 0, errors.append)
    other = Recorder(it)
    s.lab.run()
    assert [type(e) for e in errors] == [ZeroDivisionError]
    assert other.items == s.events.items and other.ended


def test_sampling_reaches_the_model(setup):
    s = setup()
    it = s.chat.ask("long 50", sampling=Sampling(max_tokens=3))
    s.lab.run()
    answer = it.result()
    assert (answer.text, answer.finish_reason) == ("w0 w1 w2 ", "length")
    assert len(answer.token_ids) == answer.usage.answer_tokens == 3
    assert (answer.conversation, answer.interaction, answer.read_version) == ("main", it.id, 0)


def test_token_ids_are_those_of_the_answer(setup):
    s = setup()
    s.chat.ask("one two")
    s.lab.run()
    [record] = s.runtime._core.engine.store.log("m")
    ids = [e.id for e in s.events.items if e.kind == "token"]
    assert record.completed == CompletedInteraction(
        query="one two", answer="one two #0", token_ids=tuple(ids)
    )


# Busy policies


def test_enqueue_up_to_max_pending(setup):
    s = setup()
    chat = s.memory.conversation("c", max_pending=2)
    chat.ask("1")
    chat.ask("2")
    chat.ask("3")
    with pytest.raises(QueryRejected) as refused:
        chat.ask("4")
    assert refused.value.reason == "queue_full"
    s.lab.run()
    assert s.memory.version == 3


def test_reject(setup):
    s = setup()
    chat = s.memory.conversation("c", busy="reject")
    chat.ask("1")
    while "U" not in s.letters():
        with pytest.raises(QueryRejected) as refused:
            chat.ask("2")
        assert refused.value.reason == "busy"
        s.lab.step()
    s.lab.run()
    chat.ask("3")
    s.lab.run()
    assert s.memory.version == 2


def test_switch(setup):
    s = setup()
    chat = s.memory.conversation("c", busy="switch")
    other = s.memory.conversation("other").ask("other")
    first, second = chat.ask("first"), chat.ask("second")
    assert first.is_over and Recorder(first).items[-1].reason == "superseded"
    while second.answer is None:
        s.lab.step()
    third = chat.ask("third")
    s.lab.run()
    assert second.result().text and third.result().text, "a complete answer is kept"
    assert other.result().text == "other #0", "others are left alone"
    assert s.memory.version == 3


def test_switch_cancels_what_is_generated(setup):
    s = setup()
    chat = s.memory.conversation("c", busy="switch")
    first = chat.ask("long 30")
    s.lab.run(6)
    chat.ask("second")
    assert first.is_over
    s.lab.run()
    assert s.memory.value == ("second -> second #0",)


def test_parallel_needs_snapshots(setup):
    with pytest.raises(ValueError, match="isolation='snapshot'.*enqueue, reject and switch"):
        setup().memory.conversation("c", busy="parallel")


def test_parallel(setup):
    s = setup(isolation="snapshot")
    chat = s.memory.conversation("c", busy="parallel")
    its = [chat.ask(f"long {n}") for n in (9, 3, 6)]
    s.lab.run()
    assert [it.result().read_version for it in its] == [0, 0, 0]
    assert [text.split(" -> ")[0] for text in s.memory.value] == ["long 3", "long 6", "long 9"]
    assert s.letters().startswith("QQQSSSTTT")


def test_updates_follow_the_order_of_answers(setup):
    s = setup(isolation="snapshot")
    chat = s.memory.conversation("c", busy="parallel")
    for i in range(5):
        chat.ask(f"q{i}")
    s.lab.run()
    assert [text.split(" -> ")[0] for text in s.memory.value] == [f"q{i}" for i in range(5)]
    logged = [r.completed.query for r in s.runtime._core.engine.store.log("m")]
    assert logged == [f"q{i}" for i in range(5)], "a redo gives the same memory"


def test_snapshot_isolation_keeps_a_conversation_in_order(setup):
    s = setup(isolation="snapshot")
    a, b = s.memory.conversation("a"), s.memory.conversation("b")
    its = [a.ask("a1"), b.ask("b1"), a.ask("a2")]
    s.lab.run()
    assert its[1].result().read_version == 0
    assert its[2].result().read_version >= 1, "it read its own conversation's past"
    assert s.memory.version == 3


@pytest.mark.parametrize(
    "options",
    [{"busy": "later"}, {"max_pending": 0}],
)
def test_wrong_options(setup, options):
    with pytest.raises(ValueError):
        setup().memory.conversation("c", **options)


def test_conflicting_options(setup):
    s = setup()
    s.memory.conversation("c", busy="switch")
    assert s.memory.conversation("c").busy == "switch"
    with pytest.raises(ValueError, match="busy='switch'"):
        s.memory.conversation("c", busy="enqueue")
    with pytest.raises(ValueError, match="detach"):
        s.chat.ask("x", detach="maybe")


# Rejections


def test_rejected_by_the_model(setup):
    s = setup(FakeModel(max_query=10))
    with pytest.raises(QueryRejected) as refused:
        s.chat.ask("x" * 11)
    assert refused.value.reason == "too_long"
    it = s.chat.ask("x" * 11, raise_on_reject=False)
    seen = Recorder(it)
    assert [type(e) for e in seen.items] == [Rejected]
    assert isinstance(seen.error, QueryRejected) and seen.error.reason == "too_long"
    with pytest.raises(QueryRejected):
        it.result()
    assert it.is_over and not it.cancel() and not it.stop()
    assert s.letters() == "XX"


def test_rejected_because_invalid(setup):
    s = setup()
    s.model.validate = lambda query: 1 / 0
    with pytest.raises(QueryRejected) as refused:
        s.chat.ask("x")
    assert refused.value.reason == "invalid"
    assert isinstance(refused.value.__cause__, ZeroDivisionError)
    with pytest.raises(TypeError):
        s.chat.ask(b"bytes")


def test_duplicates(setup):
    s = setup()
    s.chat.ask("one", key="k")
    for _ in range(2):
        with pytest.raises(QueryRejected) as refused:
            s.memory.conversation("other").ask("one", key="k")
        assert refused.value.reason == "duplicate"
        s.lab.run()
    assert s.memory.version == 1


def test_admission(setup):
    s = setup(max_queued=2)
    other = s.runtime.memory("other").conversation()
    it = s.chat.ask("1")
    other.ask("2")
    with pytest.raises(QueryRejected) as refused:
        s.chat.ask("3")
    assert refused.value.reason == "queue_full"
    it.cancel()
    s.chat.ask("3")
    s.lab.run()
    s.chat.ask("4")
    s.lab.run()
    assert s.runtime.stats().queued == 0


def test_closed(setup):
    s = Setup()
    s.close()
    with pytest.raises(QueryRejected) as refused:
        s.chat.ask("x")
    assert refused.value.reason == "closed"


# What is not remembered


def test_read_only_and_remember(setup):
    s = setup()
    s.memory.conversation("guest", read_only=True).ask("guest")
    s.chat.ask("private", remember=False)
    s.chat.ask("mute")
    s.lab.run()
    kinds = [e.reason for e in s.events.items if e.kind == "memory_skipped"]
    assert sorted(kinds) == ["empty", "read_only", "read_only"] and s.memory.version == 0


def test_label(setup):
    s = setup()
    chat = s.memory.conversation("c", label="[chat 2] ")
    it = chat.ask("hello")
    s.lab.run()
    assert it.query == "hello" and s.memory.value == ("[chat 2] hello -> [chat 2] hello #0",)


def test_remember_what_happened_elsewhere(setup):
    s = setup()
    it = s.chat.remember("who?", "me")
    s.lab.run()
    assert s.letters() == "QSAUD" and it.result().text == "me"
    assert s.memory.value == ("who? -> me",) and s.model.calls["start"] == 0


# Back-pressure


def test_a_slow_reader_parks_only_its_memory(setup):
    s = setup()
    other = s.runtime.memory("other")
    stream = s.memory.events
    capacity = stream._log.capacity
    cursor = stream._log.cursor(overflow="block", block_timeout=None)
    it = s.chat.ask(f"long {capacity + 100}", sampling=Sampling(max_tokens=capacity + 100))
    done = other.conversation().ask("hello")
    s.lab.run()
    assert done.is_over and not it.is_over
    behind = stream._log.head - cursor.pos
    assert behind <= capacity
    for _ in range(150):
        cursor.take()
    s.lab.run()
    assert it.is_over and it.result().usage.answer_tokens == capacity + 100
    cursor.leave()


def test_a_parked_interaction_can_be_cancelled(setup):
    s = setup()
    stream = s.memory.events
    cursor = stream._log.cursor(overflow="block", block_timeout=None)
    big = stream._log.capacity + 100
    it = s.chat.ask(f"long {big}", sampling=Sampling(max_tokens=big))
    s.lab.run()
    assert it.cancel() and it.is_over
    s.lab.run()
    assert not s.model.open
    cursor.leave()


def test_what_belongs_to_the_process_cannot_be_pickled(setup):
    s = setup()
    it = s.chat.ask("x")
    for thing in (s.runtime, s.memory, s.chat, it, it.when_answered()):
        with pytest.raises(TypeError):
            pickle.dumps(thing)
    s.lab.run()
    assert pickle.loads(pickle.dumps(it.result())) == it.result()
    assert pickle.loads(pickle.dumps(s.events.items)) == s.events.items
    s.model.fail("attend", FloatingPointError("nan"))
    bad = s.chat.ask("bad")
    s.lab.run()
    assert isinstance(Recorder(bad).error, MemoryUpdateError)
