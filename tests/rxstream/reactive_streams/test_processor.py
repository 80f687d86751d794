"""Rules 4.01 and 4.02: ``bounded`` and ``interact`` are readers and streams at once."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread
import pytest
from reactivex.subject import Subject

from rxstream import aiter, blocking
from rxstream.operators import bounded, interact
from rxstream.testing import Recorder

from ..room import Room
from .readers import cases


def drain(kind, source, overflow, begin=lambda: None, take=None):
    """Read ``source`` with a reader of that kind after ``begin`` ran: items, then how it ended."""
    record = Recorder()
    if kind == "inline":
        record._subscription = source.pipe(bounded(64, overflow)).subscribe(record)
        begin()
        if take is not None:
            record.dispose()
    elif kind == "blocking":
        with blocking(source, capacity=64, overflow=overflow, timeout=30) as reader:
            thread = threading.Thread(target=begin)
            thread.start()
            _pull(record, lambda: next(reader), StopIteration, take)
        thread.join(30)
    else:
        anyio.run(_drain, record, source, overflow, begin, take, backend=kind)
    return record


def _pull(record, read, end, take):
    while take is None or len(record.items) < take:
        try:
            record.on_next(read())
        except end:
            return record.on_completed()
        except Exception as error:
            return record.on_error(error)


async def _drain(record, source, overflow, begin, take):
    async with aiter(source, capacity=64, overflow=overflow) as reader:
        thread = threading.Thread(target=begin)
        thread.start()
        while take is None or len(record.items) < take:
            try:
                record.on_next(await anext(reader))
            except StopAsyncIteration:
                record.on_completed()
                break
            except Exception as error:
                record.on_error(error)
                break
    await anyio.to_thread.run_sync(thread.join)


@cases("401")
def test_rule_401_bounded_passes_items_and_completion_on(kind, overflow) -> None:
    source: Subject[int] = Subject()

    def begin():
        for n in range(5):
            source.on_next(n)
        source.on_completed()

    record = drain(kind, source, overflow, begin)
    assert record.items == list(range(5)) and record.ended
    assert not source.observers


@cases("401")
def test_rule_402_bounded_passes_an_error_on_at_once(kind, overflow) -> None:
    source: Subject[int] = Subject()
    broken = RuntimeError("broken")
    record = drain(kind, source, overflow, lambda: source.on_error(broken))
    assert record.items == [] and record.error is broken


@cases("401")
def test_rule_401_bounded_cancels_upstream_when_its_reader_goes(kind, overflow) -> None:
    source: Subject[int] = Subject()
    record = drain(kind, source, overflow, lambda: source.on_next(1), take=1)
    assert record.items == [1] and not record.over
    assert not source.observers


@cases("401")
def test_rule_401_interact_asks_for_each_query_and_completes_after_the_last(kind, overflow):
    room = Room()
    queries: Subject[str] = Subject()

    def begin():
        for query in ("one", "mute", "two"):
            queries.on_next(query)
        queries.on_completed()
        room.lab.run()

    record = drain(kind, queries.pipe(interact(room.memory)), overflow, begin)
    assert record.letters == "QSTTAUDQSAKQSTTAUD" and record.ended
    room.close()


@cases("401")
def test_rule_402_interact_passes_an_error_of_its_source_on_at_once(kind, overflow) -> None:
    room = Room()
    queries: Subject[str] = Subject()
    broken = RuntimeError("broken")

    def begin():
        queries.on_next("one two")
        room.lab.run(3)
        queries.on_error(broken)
        room.lab.run()

    record = drain(kind, queries.pipe(interact(room.memory)), overflow, begin)
    assert record.error is broken and record.letters.startswith("QS")
    assert room.memory.version == 0, "and what it had asked is cancelled"
    room.close()


@cases("401")
def test_rule_402_interact_recovers_from_a_failed_interaction(kind, overflow) -> None:
    room = Room()
    room.model.fail("step", RuntimeError("broken"))
    queries: Subject[str] = Subject()

    def begin():
        queries.on_next("one")
        queries.on_next("two")
        queries.on_completed()
        room.lab.run()

    record = drain(kind, queries.pipe(interact(room.memory)), overflow, begin)
    assert record.letters == "QSFQSTTAUD" and record.ended
    room.close()


@pytest.mark.parametrize("overflow", ["block", "error", "latest"])
def test_rule_401_a_processor_may_have_many_readers_of_its_own(overflow) -> None:
    source: Subject[int] = Subject()
    stream = source.pipe(bounded(8, overflow))
    records = [Recorder(stream) for _ in range(3)]
    assert len(source.observers) == 3
    source.on_next(1)
    records[1].dispose()
    source.on_next(2)
    source.on_completed()
    assert [record.items for record in records] == [[1, 2], [1], [1, 2]]
