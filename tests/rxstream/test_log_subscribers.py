"""Subscribers of a log: called in order, one at a time, whatever they do."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from typing import Any

import pytest

from rxstream.errors import SlowSubscriberError
from rxstream.events import Gap
from rxstream.hooks import hooks
from rxstream.log import EventLog
from rxstream.testing import Recorder

from .log_readers import ManualClock, finished, in_thread, inline


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
