"""The public stream: an Observable to RxPY, safer than its own, and iterable."""

from __future__ import annotations

import contextvars
import copy
import functools
import pickle
import threading
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject
from reactivex.testing import TestScheduler

from rxstream.errors import BackpressureDeadlock, SlowSubscriberError
from rxstream.events import Gap
from rxstream.hooks import hooks
from rxstream.log import EventLog
from rxstream.stream import EventStream, bounded
from rxstream.testing import Recorder


def live(capacity: int = 16) -> tuple[EventLog[int], EventStream[int]]:
    log: EventLog[int] = EventLog(capacity)
    return log, EventStream(log)


def replayable(*events: int, capacity: int = 16) -> tuple[EventLog[int], EventStream[int]]:
    log: EventLog[int] = EventLog(capacity)
    log.extend(events)
    return log, EventStream(log, start=0)


class TestAsAnObservable:
    def test_a_subscriber_gets_events_then_the_end(self) -> None:
        log, stream = live()
        recorder = Recorder(stream)
        log.extend([1, 2])
        log.close()
        assert recorder.items == [1, 2] and recorder.ended

    def test_functions_are_enough_and_all_of_them_optional(self) -> None:
        log, stream = live()
        got: list[object] = []
        stream.subscribe(got.append)
        stream.subscribe(on_completed=lambda: got.append("end"))
        stream.subscribe()
        log.append(1)
        log.close()
        assert got == [1, "end"]

    def test_anything_with_an_on_next_is_an_observer(self) -> None:
        class Duck:
            def __init__(self) -> None:
                self.got: list[object] = []

            def on_next(self, event: int) -> None:
                self.got.append(event)

            def on_error(self, error: Exception) -> None:
                self.got.append(error)

            def on_completed(self) -> None:
                self.got.append("end")

        log, stream = live()
        duck = Duck()
        stream.subscribe(duck)  # type: ignore[arg-type]
        log.append(1)
        log.close()
        assert duck.got == [1, "end"]

    def test_a_live_stream_gives_what_comes_from_now_on(self) -> None:
        log, stream = live()
        log.append(1)
        recorder = Recorder(stream)
        log.append(2)
        assert recorder.items == [2]

    def test_a_replayable_stream_gives_everything_whenever_one_subscribes(self) -> None:
        log, stream = replayable(1, 2)
        early = Recorder(stream)
        log.append(3)
        log.close()
        late = Recorder(stream)
        assert early.items == late.items == [1, 2, 3] and early.ended and late.ended

    def test_a_subscriber_that_joins_while_events_come_misses_none_and_repeats_none(self) -> None:
        log: EventLog[int] = EventLog(4000)
        stream = EventStream(log, start=0)
        start = threading.Barrier(2)

        def emit() -> None:
            start.wait()
            log.extend(range(2000))
            log.close()

        thread = threading.Thread(target=emit)
        thread.start()
        start.wait()
        recorders = [Recorder(stream) for _ in range(20)]
        thread.join()
        for recorder in recorders:
            assert recorder.wait().items == list(range(2000)) and recorder.overlaps == 0

    def test_every_operator_of_rxpy_works(self) -> None:
        log, stream = live()
        piped = Recorder(stream.pipe(ops.filter(lambda n: n % 2 == 0), ops.map(str)))
        fluent = Recorder(stream.map(lambda n: n * n).scan(lambda a, b: a + b, 0))
        windows = Recorder(stream.pipe(ops.buffer_with_count(2)))
        log.extend([1, 2, 3, 4])
        log.close()
        assert piped.items == ["2", "4"]
        assert fluent.items == [1, 5, 14, 30]
        assert windows.items == [[1, 2], [3, 4]] and windows.ended

    def test_take_stops_a_replay(self) -> None:
        log, stream = replayable(1, 2, 3, 4)
        seen: list[int] = []
        recorder = Recorder(stream.pipe(ops.do_action(seen.append), ops.take(2)))
        assert recorder.items == [1, 2] and recorder.ended
        assert seen == [1, 2] and log.readers == 0

    def test_it_merges_and_concatenates_with_others(self) -> None:
        _, first = replayable(1, 2)
        log, second = replayable(3)
        first._log.close()
        merged, chained = Recorder(rx.merge(first, second)), Recorder(rx.concat(first, second))
        log.append(4)
        log.close()
        assert sorted(merged.items) == chained.items == [1, 2, 3, 4]
        assert merged.ended and chained.ended

    def test_it_runs_under_virtual_time(self) -> None:
        scheduler = TestScheduler()
        log, stream = live()
        scheduler.schedule_absolute(210, lambda *_: log.append(1))
        scheduler.schedule_absolute(220, lambda *_: log.append(2))
        scheduler.schedule_absolute(230, lambda *_: log.close())
        result = scheduler.start(lambda: stream.pipe(ops.map(lambda n: n * 10)))
        times = [(int(message.time), message.value.kind) for message in result.messages]
        assert times == [(210, "N"), (220, "N"), (230, "C")]

    def test_subscribing_inside_a_call_is_allowed(self) -> None:
        log, stream = replayable()
        inner: list[Recorder[int]] = []
        stream.subscribe(lambda event: inner.append(Recorder(stream)))
        log.extend([1, 2])
        assert [r.items for r in inner] == [[1, 2], [1, 2]]

    def test_disposing_is_idempotent_and_ends_the_signals(self) -> None:
        log, stream = live()
        recorder = Recorder(stream)
        log.append(1)
        for _ in range(3):
            recorder.dispose()
        log.append(2)
        log.close()
        assert recorder.items == [1] and not recorder.over and log.readers == 0


class TestSubscribersThatFail:
    def test_end_alone(self) -> None:
        log, stream = live()
        errors: list[Exception] = []

        def broken(_: int) -> None:
            raise ZeroDivisionError

        before = Recorder(stream)
        stream.subscribe(broken, errors.append)
        after = Recorder(stream)
        log.extend([1, 2])
        assert before.items == after.items == [1, 2]
        assert [type(error) for error in errors] == [ZeroDivisionError]

    def test_at_the_end_of_a_pipe_get_their_own_on_error(self) -> None:
        log, stream = live()
        errors: list[Exception] = []

        def broken(_: object) -> None:
            raise ZeroDivisionError

        stream.pipe(ops.map(str)).subscribe(broken, errors.append)
        stream.pipe(ops.map(lambda n: 1 // n)).subscribe(print, errors.append)
        other = Recorder(stream)
        log.extend([0, 1])
        assert [type(error) for error in errors] == [ZeroDivisionError] * 2
        assert other.items == [0, 1] and log.readers == 1

    def test_without_on_error_are_reported_also_in_a_pipe(self, monkeypatch) -> None:
        reported: list[BaseException] = []
        monkeypatch.setattr(hooks, "on_unhandled", reported.append)
        log, stream = live()
        stream.subscribe(None)
        stream.pipe(ops.map(str)).subscribe(lambda _: None)
        failure = RuntimeError("over")
        log.close(failure)
        assert reported == [failure, failure]


class TestWrongSubscribers:
    async def coroutine(self, _: object = None) -> None: ...

    async def generator(self, _: object = None) -> Any:
        yield 1

    @pytest.mark.parametrize("position", range(3))
    def test_coroutine_functions_are_refused_with_advice(self, position: int) -> None:
        class Callable:
            async def __call__(self, event: int) -> None: ...

        _, stream = live()
        for function in (self.coroutine, self.generator, functools.partial(self.coroutine, 1)):
            handlers: list[Any] = [None, None, None]
            handlers[position] = function
            with pytest.raises(TypeError, match="never be awaited.*consume"):
                stream.subscribe(*handlers)
        with pytest.raises(TypeError, match="never be awaited"):
            stream.subscribe(Callable())  # type: ignore[arg-type]
        assert stream._log.readers == 0

    def test_observers_with_coroutines_are_refused(self) -> None:
        class Observer:
            on_next = on_error = on_completed = self.coroutine

        with pytest.raises(TypeError, match="never be awaited"):
            live()[1].subscribe(Observer())  # type: ignore[arg-type]

    def test_what_cannot_be_called_is_refused(self) -> None:
        with pytest.raises(TypeError, match="on_next must be callable, not object"):
            live()[1].subscribe(object())  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="on_error must be callable, not int"):
            live()[1].subscribe(print, 3)  # type: ignore[arg-type]


class TestContext:
    def test_callbacks_run_in_the_context_of_their_subscriber(self) -> None:
        user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
        log, stream = live()
        seen: list[str] = []
        for name in ("ann", "bob"):
            user.set(name)
            stream.subscribe(
                lambda _: seen.append(user.get()), None, lambda: seen.append(user.get() + ".")
            )
        user.set("emitter")
        thread = threading.Thread(target=lambda: (log.append(1), log.close()))
        thread.start()
        thread.join()
        assert seen == ["ann", "bob", "ann.", "bob."]

    def test_what_a_callback_sets_it_sees_again_and_nobody_else_does(self) -> None:
        count: contextvars.ContextVar[int] = contextvars.ContextVar("count", default=0)
        log, stream = live()
        seen: list[int] = []

        def on_next(_: int) -> None:
            count.set(count.get() + 1)
            seen.append(count.get())

        stream.subscribe(on_next)
        stream.subscribe(on_next)
        log.extend([1, 2])
        assert seen == [1, 1, 2, 2] and count.get() == 0


class TestAsAValue:
    def test_it_cannot_be_iterated_by_mistake(self) -> None:
        with pytest.raises(TypeError, match="not iterable"):
            iter(live()[1])  # type: ignore[call-overload]

    def test_it_cannot_be_awaited(self) -> None:
        with pytest.raises(TypeError, match="async for"):
            live()[1].__await__()

    def test_it_cannot_be_pickled_and_says_what_to_send(self) -> None:
        for attempt in (pickle.dumps, copy.copy):
            with pytest.raises(TypeError, match=r"memory\.snapshot\(\)"):
                attempt(live()[1])


class TestBlocking:
    def test_reads_with_every_policy(self) -> None:
        log, stream = live(2)
        readers = [
            stream.blocking(overflow="error"),
            stream.blocking(overflow="block"),
            stream.blocking(overflow="latest"),
        ]
        log.extend([1, 2, 3])
        log.close()
        with pytest.raises(SlowSubscriberError):
            next(readers[0])
        assert list(readers[1]) == [1, 2, 3]
        assert list(readers[2]) == [Gap(skipped=2), 3]

    def test_begins_where_it_is_told(self) -> None:
        log, stream = replayable(1, 2, 3)
        log.close()
        assert list(stream.blocking()) == [1, 2, 3]
        assert list(stream.blocking(start=1)) == [2, 3]
        assert list(stream.blocking(replay=1)) == [3]
        assert list(stream.blocking(replay=0)) == []


class TestBounded:
    def test_subscribes_once_for_each_reader_and_disposes_with_it(self) -> None:
        subject: Subject[int] = Subject()
        stream = bounded(subject, 4)
        assert subject.observers == []
        recorder, reader = Recorder(stream), stream.blocking()
        subject.on_next(1)
        assert len(subject.observers) == 2
        recorder.dispose()
        assert len(subject.observers) == 1 and next(reader) == 1
        reader.close()
        assert subject.observers == []

    @pytest.mark.parametrize("failure", [None, RuntimeError("over")])
    def test_passes_the_end_on(self, failure: Exception | None) -> None:
        subject: Subject[int] = Subject()
        recorder = Recorder(bounded(subject))
        subject.on_next(1)
        subject.on_completed() if failure is None else subject.on_error(failure)
        assert recorder.items == [1] and recorder.error is failure
        assert recorder.ended is (failure is None)

    def test_a_subscriber_that_raises_is_not_the_sources_problem(self) -> None:
        subject: Subject[int] = Subject()
        errors: list[Exception] = []

        def broken(_: int) -> None:
            raise ZeroDivisionError

        bounded(subject).subscribe(broken, errors.append)
        other = Recorder(subject)
        subject.on_next(1)
        assert len(errors) == 1 and other.items == [1] and len(subject.observers) == 1

    def test_serves_parallel_emission_one_event_at_a_time(self) -> None:
        subject: Subject[int] = Subject()
        recorder = Recorder(bounded(subject, 4000))
        start = threading.Barrier(4)

        def emit() -> None:
            start.wait()
            for n in range(500):
                subject.on_next(n)

        threads = [threading.Thread(target=emit) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert recorder.overlaps == 0 and len(recorder.items) == 2000

    def test_with_block_the_emitting_thread_waits_for_the_reader(self) -> None:
        subject: Subject[int] = Subject()
        reader = bounded(subject, 2, "block").blocking()
        lags: list[int] = []

        def emit() -> None:
            for n in range(300):
                subject.on_next(n)
                lags.append(reader.lag)
            subject.on_completed()

        thread = threading.Thread(target=emit)
        thread.start()
        assert list(reader) == list(range(300))
        thread.join()
        assert max(lags) <= 2

    def test_with_block_on_the_readers_own_thread_the_reader_ends_with_an_error(self) -> None:
        reader = bounded(rx.from_iterable(range(10)), 2, "block").blocking()
        assert [next(reader), next(reader)] == [0, 1]
        with pytest.raises(BackpressureDeadlock):
            next(reader)

    def test_a_capacity_below_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="capacity"):
            bounded(rx.never(), 0)
