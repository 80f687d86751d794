"""Between observables, async iterators and threads, on asyncio and trio."""

from __future__ import annotations

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
from rxstream.errors import BackpressureDeadlock
from rxstream.testing import Recorder

from .async_readers import live

pytestmark = pytest.mark.anyio


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
