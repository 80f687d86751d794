"""G1, G2, G9: what the streams show. G10: what subscribers can do to each other: nothing."""

from __future__ import annotations

import threading

import pytest

from rxstream import Runtime, Timeouts
from rxstream.events import TERMINAL
from rxstream.grammar import GrammarChecker, check
from rxstream.hooks import hooks
from rxstream.testing import FakeModel, Recorder

from ..room import Room


def test_g1_one_sequence_without_gaps_and_every_subscriber_sees_a_stretch_of_it() -> None:
    room = Room()
    chats = [room.memory.conversation(name) for name in "abc"]
    late, parts = [], []
    for n in range(9):
        chats[n % 3].ask(f"query {n}")
        late.append(Recorder(room.memory.events))
        parts.append(Recorder(chats[n % 3].events))
        room.lab.run(7)
    room.lab.run()
    whole = room.events.items
    assert [event.seq for event in whole] == list(range(1, len(whole) + 1))
    for recorder in late:
        assert recorder.items and recorder.items == whole[-len(recorder.items) :]
    for n, recorder in enumerate(parts):
        mine = [event for event in whole if event.conversation == "abc"[n % 3]]
        assert recorder.items and recorder.items == mine[-len(recorder.items) :]
    room.close()


def test_g1_four_asking_threads_make_one_sequence_for_all_readers() -> None:
    model = FakeModel()
    with Runtime(model) as runtime:
        memory = runtime.memory("m")
        inline = Recorder(memory.events)
        readers = [memory.events.blocking(timeout=30) for _ in range(3)]
        pulled: list[list] = [[] for _ in readers]
        threads = [
            threading.Thread(target=lambda i=i: pulled[i].extend(readers[i])) for i in range(3)
        ]

        def ask(name: str) -> None:
            for n in range(20):
                memory.conversation(name, max_pending=99).ask(f"{name} {n}", detach="keep")

        threads += [threading.Thread(target=ask, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads[3:]:
            thread.join(30)
        for name in "abcd":
            memory.conversation(name).ask("last").result(30)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    check(inline.items, whole=True).finish()
    assert len(inline.items) > 84 * 4
    assert all(items == inline.items for items in pulled)
    model.check()


def _stop(room):
    room.bring("decoding").stop()


def _cancel(phase):
    return lambda room: room.bring(phase).cancel()


def _break(method, times=1):
    def act(room):
        room.model.fail(method, RuntimeError("broken"), times=times)
        room.chat.ask("one two")

    return act


def _duplicate(room):
    room.chat.ask("one", key="k")
    room.chat.ask("one", key="k", raise_on_reject=False)


def _timeout(limits):
    def act(room):
        room.chat.ask("first")
        room.chat.ask("one", timeouts=limits)
        room.lab.skip(9)
        room.fire()

    return act


ENDS = {
    "X": _duplicate,
    "QC": _cancel("queued"),
    "QF": _timeout(Timeouts(answer=3)),
    "QSC": _cancel("prefill"),
    "QSF": _break("start"),
    "QSTC": _cancel("decoding"),
    "QSTF": lambda room: room.model.fail("step", RuntimeError(), skip=1) or room.chat.ask("one"),
    "QSAK": lambda room: room.chat.ask("mute"),
    "QSTAK": lambda room: room.chat.ask("one", remember=False),
    "QSTAUD": _stop,
    "QSTAUE": _break("encode", times=2),
}
"""Every word of the grammar, with all tokens as one T, and how it comes about."""


@pytest.mark.parametrize("word", ENDS)
def test_g2_every_end_is_a_word_on_every_stream(word: str) -> None:
    room = Room()
    conversation = Recorder(room.chat.events)
    asked = []
    ask = room.chat._start
    room.chat._start = lambda *args, **options: asked.append(ask(*args, **options)) or asked[-1]
    ENDS[word](room)
    room.lab.run()
    words = set()
    for it in asked:
        alone = GrammarChecker()
        mine = Recorder(it)
        for event in mine.items:
            alone.check(event)
        alone.finish()
        words.add(alone.word(it.id))
        assert mine.items[-1].kind in TERMINAL
        assert mine.items == [e for e in conversation.items if e.interaction == it.id]
        assert mine.items == room.of(it)
        failed = mine.items[-1].kind in ("failed", "memory_failed", "query_rejected")
        assert (mine.error is not None) is failed and mine.ended is not failed
    assert word in words
    room.close()


@pytest.mark.parametrize("query", ["one two", "mute", "long 7"])
def test_g9_whenever_a_subscriber_comes_it_sees_everything_once_in_order(query: str) -> None:
    room = Room()
    it = room.chat.ask(query, detach="keep")
    recorders = [Recorder(it)]
    while room.lab.step():
        recorders.append(Recorder(it))
    recorders.append(Recorder(it))
    assert len(recorders) >= 5
    assert room.of(it)[0].kind == "query_accepted"
    for recorder in recorders:
        assert recorder.items == room.of(it) and recorder.ended
    room.close()


def test_g9_a_subscriber_that_comes_inside_of_a_callback_sees_everything() -> None:
    room = Room()
    it = room.chat.ask("one two")
    recorders = []
    it.subscribe(lambda event: recorders.append(Recorder(it)))
    room.lab.run()
    assert len(recorders) == len(room.of(it))
    assert all(r.items == room.of(it) and r.ended for r in recorders)
    room.close()


def _raise(event):
    raise RuntimeError("a bad subscriber")


def _bad_subscribers(room, it):
    """All kinds, on all streams, before and after the good one."""
    for stream in (it, room.chat.events, room.memory.events, room.memory.changes):
        stream.subscribe(_raise)
        stream.subscribe(lambda event: None, on_completed=lambda: _raise(None))
        Recorder(stream).dispose()
        stream.iter()  # dropped at once
        room.kept.append(stream.iter())  # never reads
        room.kept.append(stream.blocking(overflow="latest"))


@pytest.mark.parametrize("bad", ["before", "after"])
def test_g10_bad_subscribers_change_nothing_for_others(bad, monkeypatch) -> None:
    monkeypatch.setattr(hooks, "on_unhandled", lambda error: None)
    told = []
    for disturbed in (False, True):
        room = Room()
        room.kept = []
        its = []
        for n in range(4):
            it = room.chat.ask(f"long {n}" if n % 2 else f"query {n}", detach="keep")
            if disturbed and bad == "before":
                _bad_subscribers(room, it)
            its.append(Recorder(it))
            if disturbed and bad == "after":
                _bad_subscribers(room, it)
        conversation = Recorder(room.chat.events)
        room.lab.run()
        streams = [*its, conversation, room.events]
        told.append([[(e.kind, e.seq, getattr(e, "text", None)) for e in s.items] for s in streams])
        value = room.memory.value
        room.close()
        assert all(s.ended for s in streams)
        told[-1].append(value)
    assert told[0] == told[1]


@pytest.mark.parametrize("overflow", ["error", "latest", "block"])
def test_g10_only_a_reader_that_asked_for_block_holds_answers_up(overflow: str) -> None:
    room = Room()
    reader = room.chat.events.iter(overflow=overflow, block_timeout=None)
    answered = 0
    for _ in range(80):  # 64 events each, and the stream keeps 4096
        it = room.chat.ask("long 60")
        room.lab.run()
        answered += it.answer is not None
    assert answered < 70 if overflow == "block" else answered == 80
    reader.close()
    room.lab.run()
    assert it.answer is not None
    room.close()
