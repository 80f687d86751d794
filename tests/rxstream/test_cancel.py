"""Cancel, stop, detach, timeouts and abort, in every phase of an interaction."""

from __future__ import annotations

import pytest

from rxstream import Runtime, Timeouts
from rxstream.errors import (
    GenerationError,
    InteractionCancelled,
    MemoryUpdateError,
)
from rxstream.testing import FakeModel, Recorder

from .room import PHASES, Room


@pytest.fixture
def lab():
    room = Room()
    yield room
    room.close()


@pytest.mark.parametrize("phase", PHASES)
def test_cancel(lab, phase):
    it = lab.bring(phase)
    early = phase in ("queued", "prefill", "decoding")
    before = lab.word(it)
    assert it.cancel() is early
    if early:
        assert lab.word(it) == before + "C", "at once, whatever the lane does"
        event = lab.last(it)
        assert (event.phase, event.tokens) == {
            "queued": ("queued", 0),
            "prefill": ("generating", 0),
            "decoding": ("generating", 2),
        }[phase]
        with pytest.raises(InteractionCancelled):
            it.result()
    else:
        assert lab.word(it) == before
    assert it.cancel() is False
    lab.lab.run()
    remembered = [text.split(" -> ")[0] for text in lab.memory.value]
    assert ("one two" in remembered) is not early


@pytest.mark.parametrize("phase", PHASES)
def test_stop(lab, phase):
    it = lab.bring(phase)
    assert it.stop() is (phase in ("prefill", "decoding"))
    lab.lab.run()
    assert it.stop() is False
    if phase == "prefill":
        assert lab.word(it) == "QSAK", "an empty answer is not remembered"
        assert it.result().text == ""
    elif phase == "decoding":
        assert lab.word(it) == "QSTTAUD"
        assert it.result().finish_reason == "stopped"
        assert lab.memory.value == ("one two -> one two",), "the partial answer is remembered"
    else:
        assert it.result().finish_reason == "eos"


@pytest.mark.parametrize("phase", PHASES)
def test_last_listener_leaves(lab, phase):
    it = lab.bring(phase)
    first, second = Recorder(it), Recorder(it)
    first.dispose()
    assert not it.is_over or phase == "over"
    second.dispose()
    second.dispose()
    gone = phase in ("queued", "prefill", "decoding")
    assert (lab.word(it)[-1] == "C") is gone
    if gone:
        assert lab.last(it).reason == "detached"
    lab.lab.run()


def test_keep_goes_on_without_listeners(lab):
    it = lab.chat.ask("one two", detach="keep")
    Recorder(it).dispose()
    lab.lab.run()
    assert lab.word(it) == "QSTTTAUD"


def test_nobody_ever_listened(lab):
    it = lab.chat.ask("one two")
    lab.lab.run()
    assert lab.word(it) == "QSTTTAUD"


def test_take_cancels(lab):
    from reactivex import operators as ops

    from rxstream import operators

    texts = Recorder(lab.chat.ask("one two three four").pipe(operators.text(), ops.take(2)))
    lab.lab.run()
    assert texts.items == ["one", " two"] and texts.ended
    assert lab.memory.version == 0


@pytest.mark.parametrize(
    "phase, limits, word, reason",
    [
        ("queued", Timeouts(queued=5), "QC", "queue_timeout"),
        ("queued", Timeouts(answer=5), "QF", "timeout"),
        ("queued", Timeouts(answer=5, on_timeout="stop"), "QF", "timeout"),
        ("prefill", Timeouts(first_token=5), "QSF", "timeout"),
        ("prefill", Timeouts(answer=5), "QSF", "timeout"),
        ("prefill", Timeouts(answer=5, on_timeout="stop"), "QSAK", "empty"),
        ("decoding", Timeouts(between_tokens=5), "QSTTF", "timeout"),
        ("decoding", Timeouts(answer=5), "QSTTF", "timeout"),
        ("decoding", Timeouts(answer=5, on_timeout="stop"), "QSTTAU", None),
        ("decoding", Timeouts(between_tokens=5, on_timeout="stop"), "QSTTAU", None),
        ("updating", Timeouts(memory=5), "QSTTTAUE", "timeout"),
    ],
)
def test_timeouts(lab, phase, limits, word, reason):
    if phase == "queued":
        lab.chat.ask("first")
    it = lab.chat.ask("one two", timeouts=limits)
    if phase != "queued":
        lab.step_until(it, PHASES[phase])
    lab.lab.skip(4.9)
    lab.fire()
    assert lab.word(it) == PHASES[phase], "not yet"
    lab.lab.skip(0.2)  # every lane but the clock hangs
    lab.fire()
    assert lab.word(it) == word
    event = lab.last(it)
    found = getattr(event, "reason", None) or getattr(event, "phase", None)
    assert reason is None or found == reason
    lab.lab.run()
    if word.endswith("F"):
        with pytest.raises(GenerationError) as caught:
            it.result()
        assert isinstance(caught.value.__cause__, TimeoutError)
    elif word.endswith("E"):
        assert it.result().text == "one two #0"
        assert Recorder(it).error.__class__ is MemoryUpdateError
    assert lab.memory.version == (phase == "queued" or reason is None)
    again = lab.chat.ask("again")
    lab.lab.run()
    assert lab.word(again)[-1] == "D", "the lease is free again"


def test_timeouts_that_are_kept(lab):
    limits = Timeouts(queued=1, first_token=1, between_tokens=1, answer=1, memory=1)
    it = lab.chat.ask("long 30", timeouts=limits)
    lab.lab.run()
    lab.lab.advance(10)
    assert lab.word(it) == "QS" + "T" * 30 + "AUD"


def test_between_tokens_counts_from_the_last_one(lab):
    it = lab.chat.ask("long 6", timeouts=Timeouts(between_tokens=2))
    for n in range(1, 7):
        lab.step_until(it, "QS" + "T" * n)
        lab.lab.skip(1.5)
    lab.lab.run()
    assert lab.word(it) == "QSTTTTTTAUD"


@pytest.mark.parametrize("field", ["queued", "answer", "memory"])
def test_timeouts_must_be_positive(field):
    with pytest.raises(ValueError, match=field):
        Timeouts(**{field: 0})


def test_abort_update(lab):
    it = lab.bring("updating")
    assert lab.memory.abort_update() is True
    assert lab.word(it)[-1] == "E" and lab.last(it).reason == "aborted"
    assert lab.memory.abort_update() is False
    lab.lab.run()
    assert lab.memory.value == () and it.result().text == "one two #0"
    assert [r.remembered for r in lab.store.log("m")] == [False], "a redo must not bring it back"


def test_abort_update_after_the_record_was_written():
    lab = Room(memory_lane=True)
    it = lab.bring("updating")
    while lab.lab.io.actions:
        lab.lab.io.actions.popleft()()
    assert it.result().text == "one two #0", "acknowledged"
    assert lab.memory.abort_update() is True
    lab.lab.run()
    assert [r.remembered for r in lab.store.log("m")] == [False]
    lab.close()
    with Runtime(FakeModel(), store=lab.store) as again:
        assert again.memory("m").value == ()


def test_late_commit_is_put_back():
    """An update that timed out while the store was writing it does not stay in the store."""
    lab = Room(durability="sync")
    it = lab.chat.ask("one", timeouts=Timeouts(memory=5))
    commit = lab.store.commit

    def slow(snapshot, *, expect):
        commit(snapshot, expect=expect)
        lab.lab.skip(6)
        lab.fire()

    lab.store.commit = slow
    next_one = lab.chat.ask("two")
    lab.lab.run()
    assert lab.word(it) == "QSTTAUE"
    assert lab.word(next_one) == "QSTTAUD"
    assert lab.memory.value == ("two -> two #0",)
    assert lab.memory.version == 3 and lab.store.head("m") == 3
    lab.close()
    with Runtime(FakeModel(), store=lab.store) as again:
        assert again.memory("m").value == ("two -> two #0",)
