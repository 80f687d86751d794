"""Reading a log on a thread."""

from __future__ import annotations

import pytest

from rxstream.errors import BackpressureDeadlock, SlowSubscriberError
from rxstream.log import BlockingCursor, EventLog

from .log_readers import finished, in_thread


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
