"""Everything that a user can do, while the model or the store stands still in the middle of a call.

For each window and each action: what the caller is told, the events, the version, the value, the
store and the open decodings must be what the table of cancellation, stop and timeouts says.
"""

from __future__ import annotations

import threading

import pytest

from rxstream import Runtime, Timeouts
from rxstream.events import LETTERS
from rxstream.grammar import check
from rxstream.lanes import Lanes, call
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, HandClock, Pause, Recorder

from .room import Room

WINDOWS = {
    "start": "QS",
    "start:after": "QS",
    "step": "QSTT",
    "step:after": "QSTT",
    "bookkeeping": "QSTT",
    "encode": "QSTTTAU",
    "encode:after": "QSTTTAU",
    "attend": "QSTTTAU",
    "attend:after": "QSTTTAU",
    "append": "QSTTTAU",
    "dump": "QSTTTAU",
    "commit": "QSTTTAU",
    "commit:after": "QSTTTAU",
}
"""Where the world stands still, and what has been told by then. Steps: the third one."""
ACTIONS = ("cancel", "stop", "timeout", "timeout stop", "close", "dispose", "abort", "restore")
WHOLE, PARTIAL = ("one two -> one two #0",), ("one two -> one two",)


def expected(window, action):
    """Whether the action has its way, the word of the interaction, and the memory after it."""
    base = WINDOWS[window]
    answered = base.endswith("U")
    if not answered and action in ("cancel", "dispose", "close"):
        return True, base + "C", ()
    if not answered and action in ("stop", "timeout stop"):
        return (True, "QSAK", ()) if base == "QS" else (True, base + "AUD", PARTIAL)
    if not answered and action == "timeout":
        return True, base + "F", ()
    if answered and action in ("timeout", "timeout stop", "abort"):
        return True, base + "E", ()
    return False, "QSTTTAUD", WHOLE


class Nth(Pause):
    """A pause that lets the first calls pass."""

    def __init__(self, skip: int) -> None:
        super().__init__()
        self._skip = skip

    def __call__(self, *_: object) -> None:
        self._skip -= 1
        if self._skip < 0:
            super().__call__()


def pause_at(window, model, store, memory):
    name, _, after = window.partition(":")
    pause = Nth(2 if name in ("step", "bookkeeping") else 0)
    if name == "bookkeeping":  # the step has returned, and its result is not yet used
        _around(memory._machine, "advance", pause, after=False)
    elif name in ("append", "commit"):
        _around(store, name, pause, after=bool(after))
    else:
        model.on(name, pause, after=bool(after))
    return pause


def _around(target, method, pause, *, after):
    original = getattr(target, method)

    def paused(*args, **options):
        if not after:
            pause()
        try:
            return original(*args, **options)
        finally:
            if after:
                pause()

    setattr(target, method, paused)


@pytest.fixture(scope="module")
def other():
    """A version of another memory."""
    with Runtime(FakeModel()) as runtime:
        memory = runtime.memory("other")
        for _ in memory.conversation().remember("then", "there").blocking():
            pass
        return memory.snapshot()


@pytest.mark.parametrize("thread_safe", [False, True], ids=["one lane", "memory lane"])
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("window", WINDOWS)
def test_in_every_window(window, action, thread_safe, other):
    told, word, value = expected(window, action)
    answered = WINDOWS[window].endswith("U")
    model, store, clock = FakeModel(thread_safe=thread_safe), MemoryStore(), HandClock()
    lanes = Lanes.threads(thread_safe=thread_safe, clock=clock)
    runtime = Runtime(model, store=store, durability="sync", lanes=lanes)
    memory = runtime.memory("m")
    pause = pause_at(window, model, store, memory)
    events = Recorder(memory.events)
    ends = "stop" if action == "timeout stop" else "fail"
    limits = Timeouts(memory=5) if answered else Timeouts(answer=5, on_timeout=ends)
    it = memory.conversation().ask("one two", timeouts=limits)
    subscription = it.subscribe(on_error=lambda e: None)
    pause.wait_until_reached()
    assert spelled(events, it) == WINDOWS[window]
    later = memory.conversation("later").ask("next", detach="keep") if action != "close" else None

    closer, restored = None, None
    if action == "cancel":
        assert it.cancel() is told
    elif action == "stop":
        assert it.stop() is told
    elif action == "dispose":
        subscription.dispose()
        assert it.is_over is told
    elif action == "abort":
        assert memory.abort_update() is told
    elif action == "restore":
        restored = memory.restore(other)
        assert not restored.done, "never under a running interaction"
    elif action == "close":
        closer = threading.Thread(target=runtime.close)
        closer.start()
    else:
        clock.advance(5)
    if word[-1] in "CFKE" and action != "close":
        assert it.is_over, "at once, while the lane stands still"
        call(lanes.events, lambda: None)  # subscribers are called there
        assert spelled(events, it) == word
    pause.release()

    if closer is not None:
        closer.join(30)
        assert not closer.is_alive()
    if later is not None:
        for _ in later.blocking(timeout=30):
            pass
    if restored is not None:
        restored.result(30)
    assert runtime.close()
    assert it.is_over and spelled(events, it) == word
    model.check()
    check(events.items, whole=True).finish()
    if later is not None:
        value = (*value, f"next -> next #{len(value)}")
        assert spelled(events, later) == "QSTTAUD"
        if restored is not None:
            value = ("then -> there",)
    assert memory.value == value
    assert memory.version == sum(e.kind == "memory_updated" for e in events.items)
    assert store.head("m") == (memory.version or None)
    with Runtime(FakeModel(), store=store) as again:
        assert again.memory("m").value == value, "what was told is what is kept"


@pytest.mark.parametrize("action", ["cancel", "stop", "timeout"])
def test_the_last_step_has_returned_when_somebody_else_ends_it(action) -> None:
    """The end of the answer is on its way; whoever comes second must do nothing."""
    room = Room()
    it = room.chat.ask("one two", timeouts=Timeouts(answer=5))
    advance = room.memory._machine.advance

    def late(turn, draft):
        if draft.finish == "eos" and turn.id == it.id:
            if action == "timeout":
                room.lab.skip(5)
                room.fire()
            else:
                assert getattr(it, action)() is True
        return advance(turn, draft)

    room.memory._machine.advance = late
    room.lab.run()
    later = room.chat.ask("next")
    room.lab.run()
    assert room.word(it) == "QSTTT" + {"cancel": "C", "stop": "AUD", "timeout": "F"}[action]
    assert room.word(later)[-1] == "D" and room.memory.version == (2 if action == "stop" else 1)
    room.close()


def spelled(events, it):
    return "".join(LETTERS[e.kind] for e in list(events.items) if e.interaction == it.id)
