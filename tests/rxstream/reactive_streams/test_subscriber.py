"""Rules 2.01 to 2.13: what a reader owes the stream, and the other readers."""

from __future__ import annotations

import gc
import threading

import anyio
import anyio.lowlevel
import pytest

from rxstream.events import Gap
from rxstream.hooks import hooks
from rxstream.testing import Recorder

from .readers import cases, live, until_parked


@cases("201")
def test_rule_201_each_read_makes_room_for_one_event(kind, overflow, read) -> None:
    log, stream = live(4)
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    log.extend(range(1, 5))
    assert not log.ready(), "four are waiting, and one is in hand"
    woken = threading.Event()
    log.when_ready(woken.set)
    reader.let_go()
    reader.demand()
    assert woken.wait(30)
    reader.record.wait_for(2)
    log.close()
    assert reader.read_to_the_end().items == list(range(5))


@cases("202")
def test_rule_202_a_reader_that_stands_still_holds_nobody_up(kind, overflow, read) -> None:
    log, stream = live(4)
    others = [Recorder(stream), read("blocking", stream, "block")]
    others[1].demand(99)
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    for n in range(1, 60):
        ready = threading.Event()
        log.when_ready(ready.set)
        assert ready.wait(30), "waits for the block reader alone, which reads"
        log.append(n)
    log.close()
    assert others[1].record.wait().items == list(range(60))
    late = reader.read_to_the_end()
    if kind == "inline":
        others[0].wait()
    assert others[0].items == list(range(60))
    if overflow == "latest":
        assert late.items == [0, Gap(skipped=58), 59] and late.ended
    else:
        assert late.items == [0] and late.error is not None


LEAVE = {"inline": ("dispose", "raise"), "blocking": ("break", "raise")}
LEAVE["asyncio"] = LEAVE["trio"] = ("break", "raise", "cancelled scope", "async with")


@cases("204")
@pytest.mark.parametrize("error", [None, RuntimeError("broken")])
def test_rule_204_an_ended_reader_is_no_reader(kind, overflow, error, read) -> None:
    log, stream = live(1)
    reader = read(kind, stream, overflow)
    log.close(error)
    assert reader.read_to_the_end().over
    assert log.readers == 0 and not log.gates
    reader.demand()
    reader.cancel()
    assert reader.record.late == 0


@cases("206")
def test_rule_206_every_way_to_leave_releases_the_stream(kind, overflow, monkeypatch) -> None:
    monkeypatch.setattr(hooks, "on_unhandled", lambda error: None)
    for way in LEAVE[kind]:
        log, stream = live(1)
        if kind == "inline":
            _leave_inline(way, log, overflow)
        elif kind == "blocking":
            _leave_blocking(way, log, stream, overflow)
        else:
            anyio.run(_leave_async, way, log, stream, overflow, backend=kind)
        gc.collect()
        assert log.readers == 0 and log.ready() and not log.gates, way


def _leave_inline(way, log, overflow):
    def on_next(item):
        if way == "raise":
            raise RuntimeError("a subscriber that fails")
        cursor.dispose()

    cursor = log.subscribe(on_next, overflow=overflow)
    log.extend([1, 2, 3])


def _leave_blocking(way, log, stream, overflow):
    reader = stream.blocking(overflow=overflow)
    log.append(1)
    try:
        for _ in reader:
            log.append(2)
            if way == "break":
                break
            raise RuntimeError("a loop that fails")
    except RuntimeError:
        pass


async def _leave_async(way, log, stream, overflow):
    if way == "async with":
        async with stream.iter(overflow=overflow) as reader:
            log.append(1)
            assert await anext(reader) == 1
            log.append(2)
        return
    with anyio.move_on_after(0 if way == "cancelled scope" else 30):
        reader = stream.iter(overflow=overflow)
        if way != "cancelled scope":
            log.append(1)
        try:
            async for _ in reader:
                log.append(2)
                if way == "break":
                    break
                raise RuntimeError("a loop that fails")
        except RuntimeError:
            pass


@cases("205")
def test_rule_205_a_second_read_at_the_same_time_is_refused(kind, overflow) -> None:
    log, stream = live()
    if kind == "blocking":
        reader = stream.blocking(overflow=overflow)
        first: list = []
        thread = threading.Thread(target=lambda: first.append(next(reader)))
        thread.start()
        until_parked(log)
        with pytest.raises(anyio.BusyResourceError):
            next(reader)
        log.append(1)
        thread.join(30)
        assert first == [1]
        reader.close()
        return

    async def main():
        reader = stream.iter(overflow=overflow)
        first: list = []

        async def one():
            first.append(await anext(reader))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one)
            while not log._parked:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(anyio.BusyResourceError):
                await anext(reader)
            log.append(1)
        assert first == [1]
        reader.close()

    anyio.run(main, backend=kind)


@cases("208")
def test_rule_208_what_is_buffered_when_a_reader_cancels_is_dropped(kind, overflow, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    log.extend(range(1, 6))
    reader.cancel()
    log.close(RuntimeError("not for it"))
    reader.let_go()
    reader.demand(9)
    reader.join()
    assert reader.record.items == [0] and reader.record.error is None


@cases("209")
def test_rule_209_a_waiting_reader_gets_the_completion_without_demand(kind, overflow, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow)
    reader.demand(1)
    if kind != "inline":
        until_parked(log)
    log.close()
    assert reader.record.wait().ended and reader.record.items == []


@cases("210")
def test_rule_210_a_waiting_reader_gets_the_error_without_demand(kind, overflow, read) -> None:
    log, stream = live()
    reader = read(kind, stream, overflow)
    reader.demand(1)
    if kind != "inline":
        until_parked(log)
    log.close(error := RuntimeError("broken"))
    assert reader.record.wait().error is error and reader.record.items == []


@cases("210 full")
def test_rule_210_a_full_reader_still_gets_the_failure(kind, overflow, read) -> None:
    """Only tokens wait for a reader: how the interaction ended is told at once."""
    log, stream = live(4)
    reader = read(kind, stream, overflow, held=True)
    reader.hold(log, 0)
    log.extend(range(1, 5))
    assert not log.ready()
    assert log.append("failed")
    log.close(error := RuntimeError("broken"))
    record = reader.read_to_the_end()
    assert record.items == [*range(5), "failed"] and record.error is error


@cases("213")
def test_rule_211_213_what_one_reader_does_with_an_event_is_its_own_affair(
    kind, overflow, read, monkeypatch
) -> None:
    unhandled: list[BaseException] = []
    monkeypatch.setattr(hooks, "on_unhandled", unhandled.append)
    log, stream = live()

    def fail(item):
        raise RuntimeError("a subscriber that fails")

    before = read(kind, stream, overflow)
    log.subscribe(fail, overflow=overflow)
    own: list[Exception] = []
    log.subscribe(fail, own.append, overflow=overflow)
    after = read(kind, stream, overflow)
    log.extend(range(5))
    log.close()
    assert before.read_to_the_end().items == after.read_to_the_end().items == list(range(5))
    assert [str(error) for error in own] == ["a subscriber that fails"]
    assert [str(error) for error in unhandled] == ["a subscriber that fails"]


@cases("211")
def test_rule_211_what_was_done_before_emitting_is_seen_by_the_reader(kind, overflow, read) -> None:
    """Happens-before: the reader sees the state that the emitter had when it emitted."""
    log, stream = live(4096)
    state = {"written": 0}
    seen: list[bool] = []
    reader = read(kind, stream, overflow, on_item=lambda n: seen.append(state["written"] >= n))
    reader.demand(2001)
    for n in range(2000):
        state["written"] = n
        log.append(n)
    log.close()
    reader.record.wait()
    assert len(seen) == 2000 and all(seen)
