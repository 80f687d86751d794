"""The log: order, bounds, policies, and every way in which a reader can end."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxstream.errors import BackpressureDeadlock, SlowSubscriberError
from rxstream.events import Gap
from rxstream.hooks import hooks
from rxstream.log import EMPTY, END, BlockingCursor, Cursor, EventLog
from rxstream.testing import Recorder

POLICIES = ["block", "error", "latest"]


class ManualClock:
    """Time passes when the test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self.pending: list[tuple[float, Any, Any]] = []

    def now(self) -> float:
        return self.time

    def submit_later(self, seconds: float, action: Any) -> Any:
        entry = (self.time + seconds, action, self)
        self.pending.append(entry)

        class Timer:
            def cancel(timer) -> None:
                if entry in self.pending:
                    self.pending.remove(entry)

        return Timer()

    def advance(self, seconds: float) -> None:
        self.time += seconds
        for entry in sorted((e for e in self.pending if e[0] <= self.time), key=lambda e: e[0]):
            self.pending.remove(entry)
            entry[1]()


def rest(cursor: Cursor[Any]) -> list[Any]:
    """What can be taken now."""
    taken = []
    while (item := cursor.take()) is not EMPTY and item is not END:
        taken.append(item)
    return taken


def inline(log: EventLog[Any], **options: Any) -> Recorder[Any]:
    recorder: Recorder[Any] = Recorder()
    handlers = (recorder.on_next, recorder.on_error, recorder.on_completed)
    log.subscribe(*handlers, **options).drain()
    return recorder


def in_thread(action: Any) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def finished(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


@pytest.fixture
def unhandled(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    errors: list[BaseException] = []
    monkeypatch.setattr(hooks, "on_unhandled", errors.append)
    return errors


class TestPlaces:
    def test_a_reader_begins_now_at_an_event_or_some_events_back(self) -> None:
        log: EventLog[int] = EventLog(8)
        log.extend(range(5))
        assert rest(log.cursor()) == []
        assert rest(log.cursor(start=0)) == [0, 1, 2, 3, 4]
        assert rest(log.cursor(start=3)) == [3, 4]
        assert rest(log.cursor(replay=2)) == [3, 4]
        assert rest(log.cursor(replay=0)) == []
        assert rest(log.cursor(replay=99)) == [0, 1, 2, 3, 4]

    def test_replay_gives_what_is_kept_and_a_lost_start_is_an_error(self) -> None:
        log: EventLog[int] = EventLog(4)
        log.extend(range(100))
        assert rest(log.cursor(replay=50)) == [96, 97, 98, 99]
        late = log.cursor(start=0)
        assert late.take() is END and isinstance(late.error, SlowSubscriberError)

    @pytest.mark.parametrize("start", [-1, 4])
    def test_a_start_outside_of_the_log_is_refused(self, start: int) -> None:
        log: EventLog[int] = EventLog(8)
        log.extend(range(3))
        with pytest.raises(ValueError, match="between 0 and 3"):
            log.cursor(start=start)

    @pytest.mark.parametrize("capacity", [0, -1])
    def test_a_capacity_below_one_is_refused(self, capacity: int) -> None:
        with pytest.raises(ValueError, match="capacity"):
            EventLog(capacity)

    def test_nonsense_is_refused(self) -> None:
        log: EventLog[int] = EventLog(1)
        with pytest.raises(ValueError, match="replay"):
            log.cursor(replay=-1)
        with pytest.raises(ValueError, match="overflow"):
            log.cursor(overflow="drop")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="spare"):
            EventLog(1, spare=-1)

    def test_any_number_of_readers_see_the_same_events_in_the_same_order(self) -> None:
        log: EventLog[int] = EventLog(64)
        readers = [inline(log) for _ in range(8)]
        log.extend(range(50))
        log.close()
        assert all(r.items == list(range(50)) and r.ended for r in readers)

    def test_what_nobody_can_read_any_more_is_not_kept(self) -> None:
        class Thing:
            pass

        log: EventLog[Thing] = EventLog(4, spare=0)
        first = Thing()
        seen = weakref.ref(first)
        log.append(first)
        del first
        log.extend(Thing() for _ in range(4))
        assert seen() is None and len(log.ring) == 4


class TestTheEnd:
    def test_comes_after_the_last_event_and_only_once(self) -> None:
        log: EventLog[int] = EventLog(8)
        cursor = log.cursor()
        log.append(1)
        log.close()
        assert [cursor.take() for _ in range(3)] == [1, END, END]
        assert cursor.error is None and log.readers == 0

    def test_with_an_error_reaches_every_reader_also_late_ones(self) -> None:
        log: EventLog[int] = EventLog(8)
        early, pulled = inline(log), log.cursor()
        log.append(1)
        failure = RuntimeError("over")
        log.close(failure)
        late = inline(log, start=0)
        assert rest(pulled) == [1] and pulled.error is failure
        for recorder in (early, late):
            assert recorder.items == [1] and recorder.error is failure and recorder.late == 0

    def test_nothing_comes_after_it(self) -> None:
        log: EventLog[int] = EventLog(8)
        recorder = inline(log)
        log.close()
        assert log.append(1) is False and log.push(2) is False
        log.flush()
        log.close(RuntimeError("too late"))
        assert recorder.items == [] and recorder.ended and recorder.late == 0
        assert log.error is None and log.head == 0

    def test_reaches_a_full_reader_without_being_asked_for(self) -> None:
        log: EventLog[int] = EventLog(2)
        cursor = log.cursor(overflow="block")
        log.extend(range(2))
        log.append(99)  # a failure, a cancellation: never held up
        log.close(RuntimeError("failed"))
        assert rest(cursor) == [0, 1, 99] and isinstance(cursor.error, RuntimeError)

    def test_of_a_reader_who_left_is_silence(self) -> None:
        log: EventLog[int] = EventLog(8)
        cursor = log.cursor()
        log.append(1)
        for _ in range(3):
            cursor.leave()
        log.close(RuntimeError("over"))
        assert cursor.take() is END and cursor.error is None


class TestPolicyError:
    def test_a_reader_may_be_as_far_behind_as_the_capacity(self) -> None:
        log: EventLog[int] = EventLog(4)
        cursor = log.cursor()
        log.extend(range(4))
        assert rest(cursor) == [0, 1, 2, 3]

    def test_one_event_further_ends_this_reader_alone(self) -> None:
        log: EventLog[int] = EventLog(4)
        slow, other = log.cursor(), inline(log)
        log.extend(range(5))
        assert slow.take() is END
        assert isinstance(slow.error, SlowSubscriberError) and "5 events behind" in str(slow.error)
        assert other.items == [0, 1, 2, 3, 4] and log.readers == 1

    def test_it_never_holds_up_the_producer(self) -> None:
        log: EventLog[int] = EventLog(4)
        log.cursor()
        log.extend(range(400))
        assert log.ready()


class TestPolicyLatest:
    def test_a_lapped_reader_gets_a_gap_and_the_newest_event(self) -> None:
        log: EventLog[int] = EventLog(4)
        cursor = log.cursor(overflow="latest")
        log.extend(range(10))
        assert rest(cursor) == [Gap(skipped=9), 9]
        log.append(10)
        assert rest(cursor) == [10]

    def test_it_never_holds_up_the_producer(self) -> None:
        log: EventLog[int] = EventLog(4)
        log.cursor(overflow="latest")
        log.extend(range(400))
        assert log.ready()


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


class TestSubscribers:
    def test_push_stores_and_flush_delivers(self) -> None:
        log: EventLog[int] = EventLog(8)
        recorder = inline(log)
        log.push(1)
        log.push(2)
        assert recorder.items == []
        log.flush()
        assert recorder.items == [1, 2]

    def test_an_event_appended_inside_a_call_comes_after_it_for_everybody(self) -> None:
        log: EventLog[int] = EventLog(8)
        first: list[int] = []

        def on_next(event: int) -> None:
            first.append(event)
            if event < 3:
                log.append(event + 1)
            assert first[-1] == event, "calls must not nest"

        log.subscribe(on_next)
        second = inline(log)
        log.append(1)
        assert first == second.items == [1, 2, 3]

    def test_ten_thousand_nested_appends_do_not_deepen_the_stack(self) -> None:
        log: EventLog[int] = EventLog(8)
        depths = set()

        def on_next(event: int) -> None:
            depth, frame = 0, sys._getframe()
            while (back := frame.f_back) is not None:
                depth, frame = depth + 1, back
            depths.add(depth)
            if event < 10_000:
                log.append(event + 1)

        log.subscribe(on_next)
        log.append(0)
        assert len(depths) == 1 and log.head == 10_001

    def test_calls_never_overlap_under_eight_emitting_threads(self) -> None:
        log: EventLog[int] = EventLog(8 * 500)
        recorder = inline(log)
        start = threading.Barrier(8)

        def emit() -> None:
            start.wait()
            for n in range(500):
                log.append(n)

        threads = [in_thread(emit) for _ in range(8)]
        assert all(finished(thread) for thread in threads)
        assert recorder.overlaps == 0 and recorder.late == 0
        assert len(recorder.items) == 8 * 500

    def test_a_call_in_progress_holds_no_lock(self) -> None:
        log: EventLog[int] = EventLog(8)
        got: list[int] = []

        def on_next(event: int) -> None:
            got.append(event)
            if event == 0:
                assert finished(in_thread(lambda: log.append(1)))
                assert finished(in_thread(log.cursor))

        log.subscribe(on_next)
        log.append(0)
        assert got == [0, 1]

    def test_one_that_raises_gets_its_own_error_and_is_gone(self) -> None:
        log: EventLog[int] = EventLog(8)
        errors: list[Exception] = []

        def broken(_: int) -> None:
            raise ZeroDivisionError

        log.subscribe(broken, errors.append)
        other = inline(log)
        log.extend([1, 2])
        log.close()
        assert [type(error) for error in errors] == [ZeroDivisionError]
        assert other.items == [1, 2] and other.ended and other.error is None

    def test_one_that_raises_without_on_error_is_reported(self, unhandled) -> None:
        log: EventLog[int] = EventLog(8)

        def broken(_: int) -> None:
            raise ZeroDivisionError

        log.subscribe(broken)
        log.extend([1, 2])
        assert [type(error) for error in unhandled] == [ZeroDivisionError] and log.readers == 0

    def test_a_raising_on_error_and_on_completed_are_reported(self, unhandled) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        for error in (None, RuntimeError("over")):
            log: EventLog[int] = EventLog(8)
            log.subscribe(None, broken, broken)
            log.close(error)
        assert [type(error) for error in unhandled] == [ZeroDivisionError] * 2

    def test_a_raising_hook_is_logged(self, monkeypatch, caplog) -> None:
        def broken(_: object) -> None:
            raise RuntimeError("hook")

        monkeypatch.setattr(hooks, "on_unhandled", broken)
        log: EventLog[int] = EventLog(8)
        log.subscribe(None)
        log.close(ValueError("nobody listens"))
        assert "nobody listens" in caplog.text and "hook" in caplog.text

    def test_the_default_hook_logs_the_traceback(self, caplog) -> None:
        log: EventLog[int] = EventLog(8)

        def broken_subscriber(_: int) -> None:
            raise ZeroDivisionError

        log.subscribe(broken_subscriber)
        log.append(1)
        assert "broken_subscriber" in caplog.text and "ZeroDivisionError" in caplog.text

    def test_an_interrupt_propagates_after_the_others_got_their_event(self) -> None:
        log: EventLog[int] = EventLog(8)
        got: list[int] = []

        def interrupted(event: int) -> None:
            got.append(event)
            if event == 1:
                raise KeyboardInterrupt

        log.subscribe(interrupted)
        other = inline(log)
        with pytest.raises(KeyboardInterrupt):
            log.append(1)
        log.append(2)
        assert got == other.items == [1, 2]

    def test_disposed_in_its_own_call_it_gets_nothing_more(self) -> None:
        log: EventLog[int] = EventLog(8)
        got: list[object] = []

        def on_next(event: int) -> None:
            got.append(event)
            cursor.dispose()
            log.append(event + 1)

        cursor = log.subscribe(on_next, got.append, lambda: got.append("end"))
        log.append(1)
        log.close()
        assert got == [1]

    def test_raising_after_its_own_dispose_it_is_reported(self, unhandled) -> None:
        log: EventLog[int] = EventLog(8)

        def on_next(_: int) -> None:
            cursor.dispose()
            raise ZeroDivisionError

        cursor = log.subscribe(on_next, lambda error: pytest.fail("disposed"))
        log.append(1)
        assert [type(error) for error in unhandled] == [ZeroDivisionError]

    def test_disposed_by_another_thread_it_gets_at_most_the_one_in_flight(self) -> None:
        log: EventLog[int] = EventLog(8)
        inside, go_on = threading.Event(), threading.Event()
        got: list[object] = []

        def on_next(event: int) -> None:
            inside.set()
            assert go_on.wait(10)
            got.append(event)

        cursor = log.subscribe(on_next, got.append, lambda: got.append("end"))
        log.push(1)
        log.push(2)
        emitter = in_thread(log.flush)
        assert inside.wait(10)
        for _ in range(3):
            cursor.dispose()  # does not wait for the call in flight
        assert got == []
        go_on.set()
        assert finished(emitter)
        log.close()
        assert got == [1]

    def test_dispose_lets_go_of_the_subscriber(self) -> None:
        class Subscriber:
            def on_next(self, event: int) -> None: ...

        log: EventLog[int] = EventLog(8)
        subscriber = Subscriber()
        alive = weakref.ref(subscriber)
        cursor = log.subscribe(subscriber.on_next)
        del subscriber
        gc.collect()
        assert alive() is not None
        cursor.dispose()
        gc.collect()
        assert alive() is None

    def test_the_end_lets_go_of_the_subscriber(self) -> None:
        class Subscriber:
            def on_next(self, event: int) -> None: ...

        log: EventLog[int] = EventLog(8)
        subscriber = Subscriber()
        alive = weakref.ref(subscriber)
        cursor = log.subscribe(subscriber.on_next)
        del subscriber
        log.close()
        gc.collect()
        assert alive() is None and cursor.closed

    @pytest.mark.parametrize("overflow", ["error", "latest"])
    def test_one_lapped_inside_its_own_call_follows_its_policy(self, overflow) -> None:
        log: EventLog[int] = EventLog(2)
        recorder: Recorder[Any] = Recorder()

        def on_next(event: Any) -> None:
            recorder.on_next(event)
            if event == 0:
                log.extend(range(1, 10))

        log.subscribe(on_next, recorder.on_error, overflow=overflow)
        log.append(0)
        if overflow == "error":
            assert recorder.items == [0] and isinstance(recorder.error, SlowSubscriberError)
        else:
            assert recorder.items == [0, Gap(skipped=8), 9] and recorder.error is None

    def test_one_that_holds_up_the_producer_is_ended_after_its_call(self) -> None:
        clock = ManualClock()
        log: EventLog[int] = EventLog(2, clock=clock)
        recorder: Recorder[int] = Recorder()

        def on_next(event: int) -> None:
            recorder.on_next(event)
            if event == 0:
                log.extend([1, 2])
                log.when_ready(lambda: None)
                clock.advance(30)
                assert log.ready()

        log.subscribe(on_next, recorder.on_error, overflow="block")
        log.append(0)
        assert recorder.items == [0] and isinstance(recorder.error, SlowSubscriberError)


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


class TestBlockingReader:
    def test_waits_for_events_of_another_thread_to_the_end(self) -> None:
        log: EventLog[int] = EventLog(64)
        handle = BlockingCursor(log.cursor())

        def emit() -> None:
            log.extend(range(50))
            log.close()

        thread = in_thread(emit)
        assert list(handle) == list(range(50))
        assert finished(thread) and list(handle) == []

    def test_raises_the_error_of_the_log_once(self) -> None:
        log: EventLog[int] = EventLog(8)
        handle = BlockingCursor(log.cursor())
        log.append(1)
        log.close(RuntimeError("over"))
        assert next(handle) == 1
        with pytest.raises(RuntimeError, match="over"):
            next(handle)
        assert list(handle) == []

    def test_raises_when_it_was_too_slow(self) -> None:
        log: EventLog[int] = EventLog(2)
        with BlockingCursor(log.cursor()) as handle:
            log.extend(range(3))
            assert handle.lag == 3
            with pytest.raises(SlowSubscriberError):
                next(handle)

    def test_times_out_and_can_go_on(self) -> None:
        log: EventLog[int] = EventLog(2)
        handle = BlockingCursor(log.cursor(), timeout=0)
        with pytest.raises(TimeoutError):
            next(handle)
        log.append(1)
        assert next(handle) == 1

    def test_closed_by_another_thread_it_stops_waiting(self) -> None:
        log: EventLog[int] = EventLog(2)
        handle = BlockingCursor(log.cursor())
        got: list[int] = []
        thread = in_thread(lambda: got.extend(handle))
        while not log._parked:
            assert thread.is_alive()
        handle.close()
        assert finished(thread) and got == []

    def test_break_releases_the_producer(self) -> None:
        log: EventLog[int] = EventLog(2)
        log.extend(range(2))
        for event in BlockingCursor(log.cursor(start=0, overflow="block")):
            assert event == 0
            log.append(2)
            assert not log.ready()
            break
        assert log.ready()

    def test_a_producer_that_cannot_park_waits_for_it(self) -> None:
        log: EventLog[int] = EventLog(2)
        handle = BlockingCursor(log.cursor(overflow="block"))
        lags: list[int] = []

        def emit() -> None:
            for n in range(500):
                log.wait_ready()
                log.append(n)
                lags.append(handle.lag)
            log.close()

        thread = in_thread(emit)
        assert list(handle) == list(range(500)) and finished(thread)
        assert max(lags) <= 2

    def test_a_producer_on_the_readers_own_thread_would_wait_for_itself(self) -> None:
        log: EventLog[int] = EventLog(1)
        with BlockingCursor(log.cursor(overflow="block")):
            log.wait_ready()
            log.append(1)
            with pytest.raises(BackpressureDeadlock):
                log.wait_ready()
        log.wait_ready()


@st.composite
def schedules(draw: st.DrawFn) -> list[str]:
    steps = st.sampled_from(["append"] * 3 + ["take"] * 2 + ["close"])
    return draw(st.lists(steps, max_size=60))


@pytest.mark.parametrize("overflow", POLICIES)
@given(schedule=schedules(), capacity=st.integers(1, 5))
def test_a_reader_gets_what_the_model_of_its_policy_says(overflow, schedule, capacity) -> None:
    log: EventLog[int] = EventLog(capacity, spare=2)
    cursor = log.cursor(overflow=overflow)
    waiting: list[int] = []
    made, closed = 0, False
    for step in schedule:
        if step == "append":
            assert log.append(made) is not closed
            if not closed:
                waiting.append(made)
                made += 1
        elif step == "close":
            log.close()
            closed = True
        elif len(waiting) > (capacity + 2 if overflow == "block" else capacity):
            if overflow == "latest":
                assert cursor.take() == Gap(skipped=len(waiting) - 1)
                del waiting[:-1]
            else:
                assert cursor.take() is END and isinstance(cursor.error, SlowSubscriberError)
                return
        elif waiting:
            assert cursor.take() == waiting.pop(0)
        else:
            assert cursor.take() is (END if closed else EMPTY)
            if closed:
                return
        gated = overflow == "block" and len(waiting) >= capacity and not closed
        assert log.ready() is not gated
