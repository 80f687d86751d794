"""Async iteration on asyncio and trio, and the bridges to observables and threads."""

from __future__ import annotations

import gc
import threading
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject

from rxstream import aio
from rxstream.errors import BackpressureDeadlock, ClosedError, SlowSubscriberError
from rxstream.events import Gap
from rxstream.log import EventLog
from rxstream.stream import EventStream
from rxstream.testing import Recorder

pytestmark = pytest.mark.anyio


def live(capacity: int = 64) -> tuple[EventLog[int], EventStream[int]]:
    log: EventLog[int] = EventLog(capacity)
    return log, EventStream(log)


async def parked(log: EventLog[Any]) -> None:
    """Until a reader waits."""
    while not log._parked:
        await anyio.lowlevel.checkpoint()


def produce(log: EventLog[int], count: int, lags: list[int] | None = None) -> None:
    """Append from this thread whenever the log is ready, then close."""
    for n in range(count):
        log.wait_ready()
        log.append(n)
        if lags is not None:
            lags.append(log.lag)
    log.close()


class TestReading:
    async def test_goes_to_the_end(self) -> None:
        log, stream = live()
        reader = stream.iter()
        log.extend([1, 2])
        log.close()
        assert [event async for event in reader] == [1, 2]
        assert [event async for event in reader] == [], "over is over"

    async def test_waits_for_events_of_the_same_loop(self) -> None:
        log, stream = live()
        got: list[int] = []
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                got.extend([event async for event in stream])

            tasks.start_soon(read)
            for n in range(3):
                await parked(log)
                log.append(n)
            await parked(log)
            log.close()
        assert got == [0, 1, 2]

    @pytest.mark.parametrize("capacity", [1, 3, 64])
    async def test_with_block_holds_up_a_thread_and_loses_nothing(self, capacity: int) -> None:
        log, stream = live(capacity)
        lags: list[int] = []
        async with stream.iter(overflow="block") as events, anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, produce, log, 500, lags)
            got = [event async for event in events]
        assert got == list(range(500)) and max(lags) <= capacity

    async def test_a_parked_producer_is_resumed_by_the_reader(self) -> None:
        log, stream = live(4)
        made: list[int] = []

        def step() -> None:
            while len(made) < 1000:
                if not log.ready():
                    log.when_ready(step)
                    return
                made.append(len(made))
                log.append(made[-1])
                assert log.lag <= 4
            log.close()

        async with stream.iter(overflow="block") as events:
            step()
            assert [event async for event in events] == made == list(range(1000))

    async def test_an_error_of_the_stream_is_raised_after_the_last_event(self) -> None:
        log, stream = live()
        reader = stream.iter()
        log.append(1)
        log.close(RuntimeError("over"))
        assert await anext(reader) == 1
        with pytest.raises(RuntimeError, match="over"):
            await anext(reader)
        with pytest.raises(StopAsyncIteration):
            await anext(reader)

    async def test_a_waiting_reader_gets_the_error_too(self) -> None:
        log, stream = live()
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                with pytest.raises(RuntimeError, match="over"):
                    async for _ in stream:
                        pytest.fail("no event")

            tasks.start_soon(read)
            await parked(log)
            log.close(RuntimeError("over"))

    async def test_a_lapped_reader_follows_its_policy_and_others_do_not_notice(self) -> None:
        log, stream = live(4)
        slow, lossy, all_of_it = stream.iter(), stream.iter(overflow="latest"), Recorder(stream)
        log.extend(range(10))
        log.close()
        with pytest.raises(SlowSubscriberError):
            await anext(slow)
        assert [event async for event in lossy] == [Gap(skipped=9), 9]
        assert all_of_it.items == list(range(10))

    async def test_a_second_task_may_not_read_at_the_same_time(self) -> None:
        log, stream = live()
        reader = stream.iter()
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                assert await anext(reader) == 1

            tasks.start_soon(read)
            await parked(log)
            with pytest.raises(anyio.BusyResourceError):
                await anext(reader)
            log.append(1)

    async def test_other_tasks_get_their_turn_in_a_burst(self) -> None:
        log, stream = live(1000)
        reader = stream.iter()
        log.extend(range(1000))
        turns = 0
        async with anyio.create_task_group() as tasks:

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await anyio.lowlevel.checkpoint()

            tasks.start_soon(count)
            for _ in range(1000):
                await anext(reader)
            tasks.cancel_scope.cancel()
        assert turns >= 10


class TestStopping:
    async def test_cancellation_loses_nothing_and_repeats_nothing(self) -> None:
        log, stream = live(16)
        got: list[int] = []
        async with stream.iter(overflow="block") as events, anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, produce, log, 500)
            rounds = 0
            while len(got) < 500:
                rounds += 1
                with anyio.CancelScope() as scope:
                    if rounds % 2:
                        scope.cancel()
                    async for event in events:
                        got.append(event)
                        if len(got) % 3 == 0:
                            scope.cancel()
        assert got == list(range(500))

    async def test_a_cancelled_wait_can_be_resumed(self) -> None:
        log, stream = live()
        reader = stream.iter()
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                await anext(reader)

            tasks.start_soon(read)
            await parked(log)
            tasks.cancel_scope.cancel()
        log.append(1)
        assert await anext(reader) == 1

    @pytest.mark.parametrize("way", ["break", "raise", "return", "cancel", "aclose"])
    async def test_leaving_the_block_releases_the_producer_at_once(self, way: str) -> None:
        log, stream = live(1)

        async def read() -> None:
            async with stream.iter(overflow="block") as events:
                log.append(1)
                log.append(2)
                assert not log.ready() or log.lag == 2
                async for _ in events:
                    match way:
                        case "break":
                            break
                        case "raise":
                            raise ZeroDivisionError
                        case "return":
                            return
                        case "cancel":
                            scope.cancel()
                        case "aclose":
                            await events.aclose()

        with anyio.CancelScope() as scope:
            if way == "raise":
                with pytest.raises(ZeroDivisionError):
                    await read()
            else:
                await read()
        assert log.ready() and log.readers == 0

    async def test_an_iterator_dropped_after_break_releases_the_producer_without_gc(self) -> None:
        log, stream = live(1)
        log.append(1)
        gc.disable()
        try:
            async for _ in stream.iter(start=0, overflow="block"):
                log.append(2)
                went_on = threading.Event()
                log.when_ready(went_on.set)
                assert not went_on.is_set()
                break
            assert log.ready()
            assert await anyio.to_thread.run_sync(went_on.wait, 10)
        finally:
            gc.enable()

    async def test_closed_by_another_task_a_waiting_reader_stops(self) -> None:
        log, stream = live()
        reader = stream.iter()
        async with anyio.create_task_group() as tasks:

            async def read() -> None:
                assert [event async for event in reader] == []

            tasks.start_soon(read)
            await parked(log)
            reader.close()

    async def test_the_block_timeout_ends_a_reader_that_stands_still(self) -> None:
        log, stream = live(1)
        async with stream.iter(overflow="block", block_timeout=0) as events:
            log.append(1)
            await anyio.to_thread.run_sync(log.wait_ready)
            with pytest.raises(SlowSubscriberError):
                await anext(events)


def test_a_reader_whose_loop_has_ended_is_removed_and_never_raises_into_the_producer(
    anyio_backend: str,
) -> None:
    log, stream = live(1)
    reader = stream.iter(overflow="block")

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reader.__anext__)
            await parked(log)
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=anyio_backend)
    assert log.readers == 1
    assert log.append(1)
    assert log.readers == 0 and log.ready()
    with pytest.raises(ClosedError, match="event loop on which this was read has ended"):
        anyio.run(reader.__anext__, backend=anyio_backend)


class TestAiter:
    async def test_iterates_any_observable(self) -> None:
        async with aio.aiter(rx.from_iterable(range(5))) as events:
            assert [event async for event in events] == [0, 1, 2, 3, 4]

    async def test_iterates_what_operators_make_of_a_stream(self) -> None:
        log, stream = live()
        events = aio.aiter(stream.pipe(ops.map(str)))
        log.extend([1, 2])
        log.close()
        assert [event async for event in events] == ["1", "2"]

    async def test_uses_the_log_of_a_stream(self) -> None:
        log, stream = live()
        reader = aio.aiter(stream)
        assert log.readers == 1
        reader.close()
        assert log.readers == 0

    async def test_disposes_its_subscription_when_left(self) -> None:
        subject: Subject[int] = Subject()
        async with aio.aiter(subject) as events:
            subject.on_next(1)
            async for _ in events:
                break
        assert subject.observers == []

    async def test_disposes_its_subscription_when_dropped(self) -> None:
        disposed = threading.Event()
        source = rx.never().pipe(ops.finally_action(disposed.set))
        reader = aio.aiter(source)
        del reader
        assert await anyio.to_thread.run_sync(disposed.wait, 10)

    async def test_raises_the_error_of_the_source(self) -> None:
        with pytest.raises(ValueError, match="source"):
            async for _ in aio.aiter(rx.throw(ValueError("source"))):
                pytest.fail("no event")

    async def test_with_block_makes_a_foreign_thread_wait(self) -> None:
        subject: Subject[int] = Subject()

        def emit() -> None:
            for n in range(300):
                subject.on_next(n)
            subject.on_completed()

        async with aio.aiter(subject, capacity=2, overflow="block") as events:
            thread = threading.Thread(target=emit, daemon=True)
            thread.start()
            assert [event async for event in events] == list(range(300))
        thread.join()

    async def test_with_block_on_its_own_loop_ends_with_an_error_and_does_not_hang(self) -> None:
        reader = aio.aiter(rx.from_iterable(range(9)), capacity=2, overflow="block")
        assert [await anext(reader), await anext(reader)] == [0, 1]
        with pytest.raises(BackpressureDeadlock):
            await anext(reader)


class TestBlocking:
    async def test_iterates_any_observable_on_a_thread(self) -> None:
        source = rx.from_iterable(range(5))
        assert await anyio.to_thread.run_sync(lambda: list(aio.blocking(source))) == [0, 1, 2, 3, 4]

    async def test_refuses_to_wait_on_the_thread_of_an_event_loop(self) -> None:
        with aio.blocking(rx.never()) as events, pytest.raises(BackpressureDeadlock):
            next(events)


class TestConsume:
    @pytest.mark.parametrize("concurrency", [1, 4])
    async def test_awaits_the_handler_for_every_event(self, concurrency: int) -> None:
        got: list[int] = []
        running = most = 0

        async def handle(event: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await anyio.lowlevel.checkpoint()
            got.append(event)
            running -= 1

        await aio.consume(rx.from_iterable(range(20)), handle, concurrency=concurrency)
        assert sorted(got) == list(range(20)) and most <= concurrency
        assert concurrency > 1 or got == sorted(got)

    async def test_a_raising_handler_disposes_the_subscription(self) -> None:
        subject: Subject[int] = Subject()

        async def handle(_: int) -> None:
            raise ZeroDivisionError

        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                with pytest.raises(ZeroDivisionError):
                    await aio.consume(subject, handle)

            tasks.start_soon(run)
            while not subject.observers:
                await anyio.lowlevel.checkpoint()
            subject.on_next(1)
        assert subject.observers == []

    async def test_a_raising_handler_cancels_its_siblings(self) -> None:
        cancelled: list[int] = []

        async def handle(event: int) -> None:
            if event == 2:
                raise ZeroDivisionError
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.append(event)

        with pytest.raises(ExceptionGroup) as caught:
            await aio.consume(rx.from_iterable(range(3)), handle, concurrency=3)
        assert caught.group_contains(ZeroDivisionError) and sorted(cancelled) == [0, 1]

    @pytest.mark.parametrize("concurrency", [1, 4])
    async def test_the_error_of_the_source_comes_after_the_handlers(self, concurrency) -> None:
        got: list[int] = []

        async def handle(event: int) -> None:
            await anyio.lowlevel.checkpoint()
            got.append(event)

        source = rx.concat(rx.of(1, 2), rx.throw(ValueError("source")))
        with pytest.raises(ValueError, match="source"):
            await aio.consume(source, handle, concurrency=concurrency)
        assert got == [1, 2]

    async def test_needs_at_least_one_handler_at_a_time(self) -> None:
        with pytest.raises(ValueError, match="concurrency"):
            await aio.consume(rx.never(), anyio.sleep, concurrency=0)


class Source:
    """An async generator that notes its beginnings and ends."""

    def __init__(self, count: int, failure: Exception | None = None) -> None:
        self.count, self.failure = count, failure
        self.started = self.closed = 0

    async def __call__(self) -> Any:
        self.started += 1
        try:
            for n in range(self.count):
                await anyio.lowlevel.checkpoint()
                yield n
            if self.failure is not None:
                raise self.failure
        finally:
            self.closed += 1


class TestFromAiter:
    async def test_is_cold_and_completes(self) -> None:
        source = Source(3)
        async with anyio.create_task_group() as tasks:
            observable = aio.from_aiter(source, tasks)
            assert source.started == 0
            first, second = Recorder(observable), Recorder(observable)
        assert first.items == second.items == [0, 1, 2] and first.ended and second.ended
        assert source.started == source.closed == 2

    async def test_passes_the_error_on(self) -> None:
        failure = ValueError("source")
        async with anyio.create_task_group() as tasks:
            recorder = Recorder(aio.from_aiter(Source(1, failure), tasks))
        assert recorder.items == [0] and recorder.error is failure

    async def test_a_factory_that_raises_is_an_error_of_the_stream(self) -> None:
        def broken() -> Any:
            raise ValueError("factory")

        async with anyio.create_task_group() as tasks:
            recorder = Recorder(aio.from_aiter(broken, tasks))
        assert isinstance(recorder.error, ValueError)

    async def test_an_operator_that_has_enough_closes_the_iterator(self) -> None:
        source = Source(1000)
        async with anyio.create_task_group() as tasks:
            recorder = Recorder(aio.from_aiter(source, tasks).pipe(ops.take(3)))
        assert recorder.items == [0, 1, 2] and recorder.ended and source.closed == 1

    async def test_disposed_by_another_thread_it_closes_the_iterator(self) -> None:
        source = Source(10**9)
        async with anyio.create_task_group() as tasks:
            recorder = Recorder(aio.from_aiter(source, tasks))
            while len(recorder.items) < 3:
                await anyio.lowlevel.checkpoint()
            await anyio.to_thread.run_sync(recorder.dispose)
        assert source.closed == 1 and not recorder.over

    async def test_can_be_subscribed_on_another_thread(self) -> None:
        async with anyio.create_task_group() as tasks:
            observable = aio.from_aiter(Source(3), tasks)
            recorder = await anyio.to_thread.run_sync(Recorder, observable)
            await anyio.to_thread.run_sync(recorder.wait)
        assert recorder.items == [0, 1, 2]

    async def test_disposed_before_it_began_it_never_begins(self) -> None:
        source = Source(3)
        async with anyio.create_task_group() as tasks:
            Recorder(aio.from_aiter(source, tasks)).dispose()
        assert source.started == source.closed == 0

    async def test_when_its_task_group_is_cancelled_the_observer_hears_nothing(self) -> None:
        source = Source(10**9)
        async with anyio.create_task_group() as tasks:
            recorder = Recorder(aio.from_aiter(source, tasks))
            while not recorder.items:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        assert source.closed == 1 and not recorder.over

    async def test_after_its_task_group_it_fails_at_once(self) -> None:
        async with anyio.create_task_group() as tasks:
            observable = aio.from_aiter(Source(3), tasks)
        assert Recorder(observable).error is not None

    async def test_round_trip(self) -> None:
        async with anyio.create_task_group() as tasks:
            events = aio.aiter(aio.from_aiter(Source(5), tasks))
            assert [event async for event in events] == [0, 1, 2, 3, 4]
