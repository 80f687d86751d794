"""A subscriber that is called and does not return keeps its thread, and nothing else."""

from __future__ import annotations

import threading

import pytest

from rxstream import Runtime
from rxstream._relief import PATIENCE
from rxstream.errors import BackpressureDeadlock, SlowSubscriberError
from rxstream.lanes import Lane, Lanes
from rxstream.testing import FakeModel, HandClock, Recorder

KINDS = (
    *("query_accepted", "generation_started", "token", "answer_completed"),
    *("memory_updating", "memory_updated"),
)


class Sleeper:
    """Sleeps at the first event of a kind. ``got`` is all that it is called with, in order."""

    def __init__(self, kind):
        self._kind = kind
        self.asleep, self.wake = threading.Event(), threading.Event()
        self.got, self.threads, self.errors = [], [], []

    def __call__(self, event):
        self.got.append(event)
        self.threads.append(threading.current_thread())
        if event.kind == self._kind and not self.asleep.is_set():
            self.asleep.set()
            assert self.wake.wait(60)


class Room:
    """A runtime on threads whose clock is set by hand."""

    def __init__(self, **options):
        self.clock, self.model = HandClock(), FakeModel(**options)
        lanes = Lanes.threads(thread_safe=self.model.thread_safe, clock=self.clock)
        self.runtime = Runtime(self.model, lanes=lanes)
        self.memory = self.runtime.memory("m")
        self.chat = self.memory.conversation()
        self.other = self.runtime.memory("other").conversation()

    def leave_behind(self, sleeper):
        """What the clock does to a subscriber that sleeps."""
        assert sleeper.asleep.wait(30)
        lanes, held = self.runtime._core.engine.lanes.all(), sleeper.threads[-1].ident
        while held in {lane._state.ident for lane in lanes if isinstance(lane, Lane)}:
            self.clock.advance(PATIENCE)
            threading.Event().wait(0.001)

    def close(self):
        assert self.runtime.close(grace=30)
        self.model.check()


@pytest.fixture(params=[False, True], ids=["one lane", "memory lane"])
def room(request):
    room = Room(thread_safe=request.param)
    yield room
    room.close()


@pytest.mark.parametrize("kind", KINDS)
def test_others_go_on_whatever_it_sleeps_at(room, kind, caplog) -> None:
    before = Recorder(room.memory.events)
    sleeper, over = Sleeper(kind), threading.Event()
    room.memory.events.subscribe(sleeper, on_completed=over.set)
    after = Recorder(room.memory.events)
    it = room.chat.ask("one two")
    elsewhere = room.other.ask("hello")
    room.leave_behind(sleeper)
    assert it.result(30).text == "one two #0" and elsewhere.result(30)
    assert room.chat.ask("three").result(30).text == "three #1"
    for recorder in (before, after):
        assert len(recorder.wait_for(15)) == 15 and recorder.overlaps == 0
    assert "does not return" in caplog.text and "Sleeper object" in caplog.text
    assert sleeper.got[-1].kind == kind
    sleeper.wake.set()
    done = Recorder(room.chat.ask("four")).wait()
    assert done.letters == "QSTTAUD"
    assert room.runtime.close(grace=30)
    assert over.wait(30)
    assert [event.seq for event in sleeper.got] == list(range(1, 23))


def test_once_left_behind_it_is_called_on_threads_of_its_own(room) -> None:
    sleeper, told, over = Sleeper("token"), Recorder(room.memory.events), threading.Event()
    room.memory.events.subscribe(sleeper, on_completed=over.set)
    room.chat.ask("one two")
    room.leave_behind(sleeper)
    told.wait_for(8)
    sleeper.wake.set()
    sleeper.threads[-1].join(30)
    first = set(sleeper.threads)
    room.chat.ask("three")
    told.wait_for(15)
    room.close()
    assert over.wait(30)
    later = set(sleeper.threads) - first
    assert later and {thread.name for thread in later} == {"rxstream-release"}
    assert [event.seq for event in sleeper.got] == list(range(1, 16))


def test_it_ends_when_it_wakes_too_late(room) -> None:
    sleeper = Sleeper("query_accepted")
    room.memory.events.subscribe(sleeper, sleeper.errors.append)
    room.chat.ask("first")
    room.leave_behind(sleeper)
    for _ in range(90):  # 64 events each, and the stream keeps 4096
        room.chat.ask("long 60").result(30)
    sleeper.wake.set()
    sleeper.threads[-1].join(30)
    assert len(sleeper.got) == 1
    assert [type(error) for error in sleeper.errors] == [SlowSubscriberError]


def test_closing_does_not_wait_for_it() -> None:
    sleeper = Sleeper("memory_updated")
    with Runtime(FakeModel()) as runtime:
        memory = runtime.memory("m")
        memory.events.subscribe(sleeper)
        memory.conversation().ask("hello").result(30)
        assert sleeper.asleep.wait(30)
        assert runtime.close(grace=30)
    sleeper.wake.set()
    sleeper.threads[-1].join(30)


def test_a_subscriber_that_returns_in_time_keeps_its_place(room) -> None:
    sleeper = Sleeper("token")
    room.memory.events.subscribe(sleeper)
    it = room.chat.ask("one two")
    assert sleeper.asleep.wait(30)
    room.clock.advance(PATIENCE)  # seen once
    sleeper.wake.set()
    it.result(30)
    room.clock.advance(PATIENCE)
    room.close()
    assert {thread.name for thread in sleeper.threads} <= {
        *("rxstream-decode", "rxstream-memory", "rxstream-io", "rxstream-events")
    }


def test_asking_stopping_and_cancelling_call_nobody_on_the_users_thread(room) -> None:
    threads = set()
    room.memory.events.subscribe(lambda e: threads.add(threading.current_thread()))
    window = room.model.pause("step")
    it = room.chat.ask("one two")
    window.wait_until_reached()
    queued = room.chat.ask("three")
    assert queued.cancel() and it.stop()
    window.release()
    room.close()
    assert threads and threading.current_thread() not in threads


def test_a_subscriber_may_not_wait_for_its_own_lane(room) -> None:
    errors = []

    def on_next(event):
        if event.kind == "query_accepted" and event.interaction.endswith("-1"):
            try:
                room.chat.ask("inside").result(30)
            except BackpressureDeadlock as error:
                errors.append(error)

    room.memory.events.subscribe(on_next)
    room.chat.ask("outside").result(30)
    room.close()
    assert len(errors) == 1
