"""Lanes: threads that own a kind of work."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
from reactivex.scheduler import CurrentThreadScheduler, VirtualTimeScheduler

from rxstream import _give_way
from rxstream._give_way import EVERY, MANY, GiveWay
from rxstream._promise import Pending
from rxstream.errors import BackpressureDeadlock, ClosedError
from rxstream.lanes import Lane, Lanes, SchedulerLane, call
from rxstream.testing import HandClock


@pytest.fixture
def lane():
    lane = Lane("test")
    yield lane
    assert lane.close(30)


def test_runs_in_order_on_one_thread(lane):
    done, threads = [], set()
    for i in range(1000):
        lane.submit(lambda i=i: (done.append(i), threads.add(threading.get_ident())))
    call(lane, lambda: None)
    assert done == list(range(1000)) and len(threads) == 1


def test_starts_no_thread_before_it_is_needed():
    before = threading.active_count()
    lane = Lane("lazy")
    assert threading.active_count() == before
    assert lane.close() and not lane.is_current()


def test_survives_errors():
    errors = []
    lane = Lane("test", errors.append)
    lane.submit(lambda: 1 / 0)
    lane.submit(lambda: (_ for _ in ()).throw(SystemExit))
    lane.submit(lambda: next(iter([])))
    assert call(lane, lambda: "alive") == "alive"
    assert [type(e) for e in errors] == [ZeroDivisionError, StopIteration] or len(errors) == 3
    lane.close()


def test_an_error_handler_that_fails(caplog):
    lane = Lane("test", lambda error: 1 / 0)
    lane.submit(lambda: 1 / 0)
    assert call(lane, lambda: 1) == 1
    assert "error handler" in caplog.text
    lane.close()


def test_call_brings_back_results_and_errors(lane):
    assert call(lane, lambda: 42) == 42
    assert call(lane, lambda: call(lane, lambda: 42)) == 42, "on the lane itself: directly"
    with pytest.raises(ZeroDivisionError):
        call(lane, lambda: 1 / 0)


def test_timers_in_order_of_time(lane, monkeypatch):
    done, last, gate = [], threading.Event(), threading.Event()
    lane.submit(gate.wait)
    now = time.monotonic()
    with monkeypatch.context() as patch:  # so that submitting takes no time on a busy machine
        patch.setattr("rxstream._lane.time", SimpleNamespace(monotonic=lambda: now))
        lane.submit_later(0.003, lambda: (done.append("c"), last.set()))
        lane.submit_later(0.001, lambda: done.append("a"))
        lane.submit_later(0.002, lambda: done.append("b"))
        cancelled = lane.submit_later(0.0, lambda: done.append("x"))
    cancelled.cancel()
    cancelled.cancel()
    gate.set()
    assert last.wait(30)
    assert done == ["a", "b", "c"]


def test_close_runs_what_was_submitted():
    lane, done, gate = Lane("test"), [], threading.Event()
    lane.submit(gate.wait)
    for i in range(10):
        lane.submit(lambda i=i: done.append(i))
    lane.submit(lambda: lane.submit(lambda: done.append("from within")))
    assert lane.close(0) is False
    with pytest.raises(ClosedError):
        lane.submit(lambda: None)
    with pytest.raises(ClosedError):
        lane.submit_later(0, lambda: None)
    gate.set()
    assert lane.close(30) and done == [*range(10), "from within"]
    assert lane.close()


def test_close_on_the_lane_itself():
    lane, outcome = Lane("test"), []
    lane.submit(lambda: outcome.append(lane.close()))
    assert lane.close(30)
    assert outcome in ([False], [])


def test_starts_with_an_empty_context():
    import contextvars

    variable = contextvars.ContextVar("v", default="empty")
    variable.set("caller")
    lane = Lane("test")
    assert call(lane, variable.get) == "empty"
    lane.close()


def test_scheduler_lane():
    scheduler = VirtualTimeScheduler()
    errors = []
    lane, done = SchedulerLane(scheduler, errors.append), []
    lane.submit(lambda: done.append("now"))
    lane.submit_later(5, lambda: done.append(lane.now()))
    lane.submit_later(3, lambda: done.append("never")).cancel()
    lane.submit(lambda: 1 / 0)
    scheduler.start()
    assert done == ["now", 5.0] and [type(e) for e in errors] == [ZeroDivisionError]
    assert lane.is_current() and not SchedulerLane(CurrentThreadScheduler()).is_current()
    lane.close()
    for submit in (lane.submit, lambda action: lane.submit_later(1, action)):
        with pytest.raises(ClosedError):
            submit(lambda: None)


def test_hand_clock():
    clock, done = HandClock(), []
    clock.submit_later(2, lambda: done.append(clock.now()))
    clock.submit_later(1, lambda: done.append("cancelled")).cancel()
    clock.advance(1)
    assert done == []
    clock.advance(5)
    assert done == [6.0]


# Pending


def test_pending():
    pending: Pending[int] = Pending()
    called = []
    forget = pending.when_done(lambda: called.append("forgotten"))
    pending.when_done(lambda: called.append("first"))
    forget()
    forget()
    assert not pending.done and pending.resolve(1)
    assert not pending.resolve(2) and not pending.reject(ValueError())
    pending.when_done(lambda: called.append("at once"))
    assert pending.result() == 1 and called == ["first", "at once"]


def test_pending_times_out_and_fails():
    pending: Pending[int] = Pending()
    with pytest.raises(TimeoutError):
        pending.result(0)
    pending.reject(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        pending.result()


async def test_pending_on_a_loop():
    pending: Pending[int] = Pending()
    with pytest.raises(BackpressureDeadlock):
        pending.result()
    threading.Thread(target=pending.resolve, args=(7,)).start()
    assert await pending == 7 == await pending == pending.result()


def in_state(*, waits: bool = False, works: bool = False) -> SimpleNamespace:
    return SimpleNamespace(waits=waits, works=works)


class TestGivingWay:
    @pytest.fixture
    def clock(self, monkeypatch):
        clock = SimpleNamespace(now=1.0, pauses=0)

        def sleep(seconds: float) -> None:
            clock.now, clock.pauses = clock.now + seconds, clock.pauses + 1

        fake = SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep)
        monkeypatch.setattr(_give_way, "time", fake)
        return clock

    def test_a_lane_that_was_woken_and_cannot_run_is_given_way(self, clock):
        idle, woken = in_state(), in_state(waits=True)
        GiveWay([idle])(1)
        assert clock.pauses == 0
        GiveWay([idle, woken, woken])(1)
        assert clock.pauses == 1

    def test_beside_many_answers_so_is_one_in_the_middle_of_something(self, clock):
        GiveWay([in_state(works=True)])(MANY - 1)
        assert clock.pauses == 0
        GiveWay([in_state(works=True)])(MANY)
        assert clock.pauses == 1

    def test_it_is_done_now_and_then_only(self, clock):
        give_way = GiveWay([in_state(waits=True)])
        for _ in range(100):
            give_way(1)
            clock.now += EVERY / 10
        assert clock.pauses == 10

    def test_a_lane_waits_that_was_woken_and_has_not_come_to_run(self):
        lane = Lane("no thread comes")
        lane._state.idle = True
        assert not lane.waits
        lane.submit(lambda: None)
        assert lane.waits

    def test_a_lane_in_the_middle_of_something_works_and_waits_for_nothing(self, lane):
        begun, go_on = threading.Event(), threading.Event()
        lane.submit(lambda: (begun.set(), go_on.wait(30)))
        assert begun.wait(30)
        lane.submit(lambda: None)
        assert lane.works and not lane.waits
        go_on.set()

    def test_a_runtime_gives_way_to_all_lanes_but_decode(self):
        lanes = Lanes.threads(thread_safe=False)
        assert set(lanes.give_way._lanes) == {lanes.io, lanes.events}
        lanes = Lanes.threads(thread_safe=True)
        assert set(lanes.give_way._lanes) == {lanes.memory, lanes.io, lanes.events}
