"""A reader that asked for ``block`` holds the producer up, for a while, and until it leaves."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest

from rxstream.errors import SlowSubscriberError
from rxstream.log import EMPTY, END, BlockingCursor, Cursor, EventLog

from .log_readers import POLICIES, ManualClock, finished, inline, rest


class TestPolicyBlock:
    def test_the_log_is_ready_until_the_slowest_reader_is_full(self) -> None:
        log: EventLog[int] = EventLog(2)
        slow, quick = log.cursor(overflow="block"), log.cursor(overflow="block")
        log.append(0)
        assert log.ready()
        log.append(1)
        assert rest(quick) == [0, 1] and not log.ready()
        assert slow.take() == 0 and log.ready()

    def test_when_ready_runs_at_once_when_ready(self) -> None:
        log: EventLog[int] = EventLog(2)
        log.cursor(overflow="block")
        calls: list[str] = []
        log.when_ready(lambda: calls.append("now"))
        assert calls == ["now"]

    @pytest.mark.parametrize("release", ["take", "leave", "close", "drop"])
    def test_a_parked_producer_goes_on_once_the_reader_moves_or_goes(self, release: str) -> None:
        log: EventLog[int] = EventLog(2)
        handle = BlockingCursor(log.cursor(overflow="block"))
        log.extend(range(2))
        went_on = threading.Event()
        log.when_ready(went_on.set)
        assert not went_on.is_set()
        match release:
            case "take":
                assert next(handle) == 0
            case "leave":
                handle.close()
            case "close":
                log.close()
            case "drop":
                gc.disable()
                try:
                    del handle
                    assert log.ready(), "a dropped reader gates nobody"
                    assert went_on.wait(10)
                finally:
                    gc.enable()
        assert went_on.wait(10)
        assert log.ready() and log.stalled == []

    def test_a_parked_producer_runs_once_and_may_park_again_inside_its_callback(self) -> None:
        log: EventLog[int] = EventLog(2)
        cursor = log.cursor(overflow="block")
        made: list[int] = []

        def produce() -> None:
            while log.ready():
                if len(made) == 100:
                    return
                made.append(len(made))
                log.append(made[-1])
            log.when_ready(produce)

        produce()
        assert len(made) == 2
        taken = []
        while (item := cursor.take()) is not EMPTY:
            taken.append(item)
            assert log.head - cursor.pos <= 2
        assert taken == list(range(100))

    def test_it_keeps_the_spare_events_and_no_more(self) -> None:
        log: EventLog[int] = EventLog(2, spare=3)
        kept, lost = log.cursor(overflow="block"), log.cursor(overflow="block")
        log.extend(range(5))
        assert rest(kept) == [0, 1, 2, 3, 4]
        log.append(5)
        assert rest(kept) == [5]
        assert lost.take() is END and isinstance(lost.error, SlowSubscriberError)
        assert log.ready()

    def test_a_raising_callback_is_not_the_readers_problem(self, unhandled) -> None:
        log: EventLog[int] = EventLog(1)
        cursor = log.cursor(overflow="block")
        log.append(0)

        def broken() -> None:
            raise RuntimeError("callback")

        log.when_ready(broken)
        assert cursor.take() == 0
        assert [str(error) for error in unhandled] == ["callback"]


class TestBlockTimeout:
    def stalled(self, **options: Any) -> tuple[ManualClock, EventLog[int], Cursor[int], list[str]]:
        clock = ManualClock()
        log: EventLog[int] = EventLog(2, clock=clock)
        cursor = log.cursor(overflow="block", **options)
        log.extend(range(2))
        calls: list[str] = []
        log.when_ready(lambda: calls.append("on"))
        return clock, log, cursor, calls

    def test_ends_a_reader_that_holds_up_the_producer_for_too_long(self) -> None:
        clock, log, cursor, calls = self.stalled()
        clock.advance(29.9)
        assert calls == []
        clock.advance(0.1)
        assert calls == ["on"] and log.ready()
        assert cursor.take() is END and isinstance(cursor.error, SlowSubscriberError)
        assert "30.0 seconds" in str(cursor.error)

    def test_starts_anew_with_every_move(self) -> None:
        clock, log, cursor, calls = self.stalled()
        clock.advance(20)
        assert cursor.take() == 0 and calls == ["on"]
        log.append(2)
        log.when_ready(lambda: calls.append("again"))
        clock.advance(20)
        assert calls == ["on"] and not cursor.closed
        clock.advance(10)
        assert calls == ["on", "again"] and cursor.closed

    def test_does_not_count_while_nobody_waits(self) -> None:
        clock = ManualClock()
        log: EventLog[int] = EventLog(2, clock=clock)
        cursor = log.cursor(overflow="block")
        log.extend(range(2))
        clock.advance(1000)
        assert not cursor.closed and clock.pending == []

    def test_can_be_switched_off(self) -> None:
        clock, _, cursor, calls = self.stalled(block_timeout=None)
        clock.advance(10_000)
        assert calls == [] and not cursor.closed and clock.pending == []

    @pytest.mark.parametrize("end", ["close", "leave"])
    def test_leaves_no_timer_behind(self, end: str) -> None:
        clock, log, cursor, _ = self.stalled()
        assert len(clock.pending) == 1
        log.close() if end == "close" else cursor.leave()
        assert clock.pending == []

    def test_needs_one_timer_however_often_the_producer_stalls(self) -> None:
        clock, log, cursor, _ = self.stalled()
        for n in range(100):
            cursor.take()
            log.append(n)
            log.when_ready(lambda: None)
        assert len(clock.pending) == 1

    def test_a_pending_timer_does_not_keep_the_log_alive(self) -> None:
        clock, log, cursor, _ = self.stalled()
        alive = weakref.ref(log)
        del log, cursor, _
        gc.collect()
        assert alive() is None
        clock.advance(60)

    def test_a_real_timer_is_cancelled_with_its_reader(self) -> None:
        before = set(threading.enumerate())
        log: EventLog[int] = EventLog(1)
        cursor = log.cursor(overflow="block")
        log.append(0)
        log.when_ready(lambda: None)
        (timer,) = [t for t in set(threading.enumerate()) - before if "timer" in t.name]
        cursor.leave()
        assert finished(timer)


class TestLeaving:
    def test_on_detach_tells_how_many_stay_until_the_log_is_closed(self) -> None:
        left: list[int] = []
        log: EventLog[int] = EventLog(8, on_detach=left.append)
        inline_reader, cursor = log.subscribe(None), log.cursor()
        inline_reader.dispose()
        inline_reader.dispose()
        assert left == [1] and log.readers == 1
        cursor.leave()
        assert left == [1, 0]
        staying = inline(log)
        log.close()
        assert staying.ended and left == [1, 0]

    def test_on_detach_hears_of_a_dropped_reader(self) -> None:
        gone = threading.Event()
        log: EventLog[int] = EventLog(8, on_detach=lambda left: gone.set())
        handle = BlockingCursor(log.cursor())
        del handle
        assert gone.wait(10)

    def test_on_detach_may_use_the_log(self) -> None:
        log: EventLog[int] = EventLog(8, on_detach=lambda left: log.close())
        log.cursor().leave()
        assert log.closed

    def test_a_reader_dropped_while_its_thread_holds_the_lock_does_not_deadlock(self) -> None:
        log: EventLog[int] = EventLog(1)
        handle = BlockingCursor(log.cursor(overflow="block"))
        log.append(0)
        went_on = threading.Event()
        log.when_ready(went_on.set)
        with log.lock:  # where a garbage collection may interrupt an append
            del handle
            assert not went_on.is_set()
        assert went_on.wait(10)

    def test_a_closed_reader_leaves_nothing_to_a_finaliser(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where a Ctrl-C would be lost."""
        dropped: list[Cursor[Any]] = []
        monkeypatch.setattr(EventLog, "abandon", lambda _, cursor: dropped.append(cursor))
        log: EventLog[int] = EventLog(4)
        handles = [BlockingCursor(log.cursor()) for _ in range(2)]
        handles[0].close()
        handles.clear()
        gc.collect()
        assert len(dropped) == 1

    def test_a_dropped_reader_without_consequences_costs_no_thread(self) -> None:
        log: EventLog[int] = EventLog(8)
        for overflow in POLICIES:
            handle = BlockingCursor(log.cursor(overflow=overflow))  # type: ignore[arg-type]
            del handle
        assert log.readers == 0

    def test_lag_is_that_of_the_slowest(self) -> None:
        log: EventLog[int] = EventLog(8)
        assert log.lag == 0
        log.cursor()
        log.extend(range(3))
        inline(log)
        assert log.lag == 3
