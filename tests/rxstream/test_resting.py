"""Readers that were woken a moment ago rest: tokens wait for them a little, nothing else does."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import anyio
import pytest

from rxstream._readers import APIECE, REST, AsyncCursor
from rxstream._wake import LoopWaker
from rxstream.events import Gap
from rxstream.log import CROWD, EventLog
from rxstream.stream import EventStream


class Resting:
    """A reader that rests, and how often it was woken."""

    def __init__(self, capacity: int = 64, overflow: str = "error") -> None:
        self.log: EventLog[int] = EventLog(capacity)
        self.cursor = self.log.cursor(overflow=overflow)  # type: ignore[arg-type]
        self.woken = 0
        assert self.log.park(self.cursor, self.wake, rest=True)

    def wake(self) -> bool:
        self.woken += 1
        return True

    def token(self) -> None:
        self.log.push(0)
        self.log.flush(urgent=False)


def test_a_token_leaves_a_resting_reader_alone_and_wakes_a_parked_one():
    reader = Resting()
    parked = reader.log.cursor()
    woken = []
    reader.log.park(parked, lambda: bool(woken.append(1)) or True)
    reader.token()
    assert (reader.woken, woken) == (0, [1])


def test_an_urgent_event_wakes_a_resting_reader():
    reader = Resting()
    reader.log.append(1)
    assert reader.woken == 1


def test_a_crowd_of_tokens_wakes_a_resting_reader_once():
    reader = Resting()
    for _ in range(CROWD - 1):
        reader.token()
    assert reader.woken == 0
    reader.token()
    reader.token()
    assert reader.woken == 1


def test_in_a_small_log_the_crowd_is_its_capacity():
    reader = Resting(capacity=2)
    reader.token()
    assert reader.woken == 0
    reader.token()
    assert reader.woken == 1


def test_a_producer_that_waits_for_the_reader_wakes_it():
    reader = Resting(capacity=64, overflow="block")
    for _ in range(64):
        reader.log.push(0)
    went_on = []
    reader.log.when_ready(lambda: went_on.append(1))
    assert (reader.woken, went_on) == (1, [])


def test_the_end_and_a_closed_reader_wake_it():
    reader = Resting()
    reader.log.close()
    assert reader.woken == 1
    reader = Resting()
    reader.cursor.leave()
    assert reader.woken == 1


def test_a_resting_reader_whose_loop_has_ended_leaves():
    log: EventLog[int] = EventLog(4)
    log.park(log.cursor(), lambda: False, rest=True)
    log.append(1)
    assert log.readers == 0


def test_there_is_no_rest_where_something_waits_already():
    log: EventLog[int] = EventLog(4)
    cursor = log.cursor()
    log.append(1)
    assert not log.park(cursor, lambda: True, rest=True)


@pytest.mark.anyio
async def test_a_reader_gets_tokens_after_its_rest_without_being_woken():
    log: EventLog[int] = EventLog(64)
    got: list[int | Gap] = []

    async def read() -> None:
        async for event in EventStream(log).iter():
            got.append(event)
            if event == 0:  # just woken: the next wait is a rest, and nobody ends it
                log.push(1)
                log.push(2)
            if event == 2:
                return

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            while not log._parked:
                await anyio.lowlevel.checkpoint()
            log.append(0)
    assert got == [0, 1, 2]


@pytest.mark.anyio
async def test_a_resting_reader_can_be_cancelled_and_loses_nothing():
    log: EventLog[int] = EventLog(64)
    reader = EventStream(log).iter()
    log.append(0)
    assert await anext(reader) == 0
    for n in range(1, 20):
        with anyio.move_on_after(0) as scope:
            await anext(reader)
        assert scope.cancelled_caught
        log.push(n)
        assert await anext(reader) == n


def test_a_blocking_reader_rests_and_reads_on():
    log: EventLog[int] = EventLog(64)
    reader = EventStream(log).blocking(timeout=10)
    got: list[int] = []
    first = threading.Event()

    def read() -> None:
        for event in reader:
            got.append(event)
            first.set()

    thread = threading.Thread(target=read)
    thread.start()
    log.append(0)
    assert first.wait(10)
    log.push(1)
    log.flush(urgent=False)
    log.close()
    thread.join(10)
    assert got == [0, 1]


class TestOneCallOfTheLoopForManyReaders:
    """On asyncio: a step of the model wakes many readers, and its thread calls their loop once."""

    def test_all_are_woken_by_one_call(self, monkeypatch):
        calls = []

        async def main() -> list[int]:
            loop = asyncio.get_running_loop()
            call = loop.call_soon_threadsafe
            monkeypatch.setattr(
                loop, "call_soon_threadsafe", lambda *args: (calls.append(args), call(*args))[1]
            )
            logs: list[EventLog[int]] = [EventLog(4) for _ in range(5)]
            tasks = [asyncio.ensure_future(anext(EventStream(log).iter())) for log in logs]
            while not all(log._parked for log in logs):
                await anyio.lowlevel.checkpoint()
            for n, log in enumerate(logs):
                log.append(n)
            return await asyncio.gather(*tasks)

        assert asyncio.run(main()) == [0, 1, 2, 3, 4]
        assert len(calls) == 1

    def test_an_interrupt_while_one_is_woken_reaches_the_program_and_the_others_are_woken(self):
        loop = asyncio.new_event_loop()
        one, two = LoopWaker(loop), LoopWaker(loop)
        woken = []

        def interrupt(_: object) -> None:
            raise KeyboardInterrupt

        one.add_done_callback(interrupt, context=contextvars.copy_context())
        two.add_done_callback(woken.append, context=contextvars.copy_context())
        assert one() and two()
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        assert woken == [two]
        loop.close()

    def test_a_loop_that_has_ended_says_so_also_when_it_never_answered(self):
        loop = asyncio.new_event_loop()
        waker = LoopWaker(loop)
        assert waker()
        loop.close()
        assert not waker()
        assert not LoopWaker(loop)()


async def _woken_together(readers: int, monkeypatch: pytest.MonkeyPatch) -> float:
    """For how long a reader would rest after its loop has woken that many at once."""
    log: EventLog[int] = EventLog(1_000)
    stream: EventStream[int] = EventStream(log)
    loop = asyncio.get_running_loop()
    reader = stream.iter(overflow="block")
    task = asyncio.ensure_future(reader.__anext__())
    await asyncio.sleep(0)
    log.append(0)
    await task
    for waker in [LoopWaker(loop) for _ in range(readers)]:
        waker()
    await asyncio.sleep(0)
    rests: list[float] = []

    async def note(_: object, rest: float | None) -> None:
        if rest is not None:
            rests.append(rest)
        log.append(1)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncCursor, "_wait", note)
        await reader.__anext__()
    reader.close()
    return rests[0]


def test_readers_of_a_crowd_rest_longer_and_few_do_not(monkeypatch):
    assert asyncio.run(_woken_together(1, monkeypatch)) <= REST
    crowd = 100_000 * APIECE
    assert crowd - 5 < asyncio.run(_woken_together(100_000, monkeypatch)) <= crowd
