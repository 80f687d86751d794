"""Async iteration on asyncio and trio."""

from __future__ import annotations

import gc
import threading

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from rxstream.errors import ClosedError, SlowSubscriberError
from rxstream.events import Gap
from rxstream.testing import Recorder

from .async_readers import live, parked, produce

pytestmark = pytest.mark.anyio


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
