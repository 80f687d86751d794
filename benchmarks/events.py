"""What an event costs on its way to a subscriber, beside the other ways to bring it there.

Everything runs side by side in the same rounds: plain calls, RxPY's subjects, queues and streams of
event loops, the event log, and whole runtimes around a model without weights.
"""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.to_thread
from reactivex import operators as ops
from reactivex.scheduler import EventLoopScheduler
from reactivex.subject import ReplaySubject, Subject

from rxstream.log import EventLog
from rxstream.stream import EventStream

from . import crowd
from .measure import Settings, interleave, timed
from .report import Check, Report, Table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


CAPACITY = 1024


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    report = Report("events", "what an event costs until it is with its subscriber")
    count = 200 if settings.quick else 20_000
    found = interleave(
        {name: partial(timed, settings.now, partial(path, count)) for name, path in PATHS.items()},
        settings.rounds,
        seconds_each=20.0,
    )
    paths = Table(
        "One event from a producer to one subscriber (microseconds, medians)",
        ["path", "an event", "over a bare callback", "spread"],
    )
    bare = found["bare callback"]
    for name, samples in found.items():
        cost = samples.median("seconds") / count * 1e6
        paths.add(name, cost, samples.ratio("seconds", bare), f"{samples.spread('seconds'):.1%}")
    whole, checks = crowd.measure(settings)
    report.tables = [paths, whole]
    inline, threaded = found["event log, subscribe"], found["event log, thread to asyncio"]
    for name, measured, target in (
        ("event log to a subscriber, over Subject", (inline, "Subject"), 1.5),
        ("thread to async for, over asyncio.Queue in one loop", (threaded, "asyncio.Queue"), 4.0),
        ("the same, over from_thread.run(send)", (threaded, "from_thread.run(send)"), 0.2),
    ):
        samples, base = measured
        report.checks.append(Check(name, samples.ratio("seconds", found[base]), target))
    report.checks += checks
    report.notes = [
        f"{count} events in a burst; every path that waits for its reader keeps {CAPACITY} at most",
        "not bounded: observe_on, ReplaySubject (its subscriber), Subject and callbacks have no "
        "queue. asyncio.Queue and the anyio stream are two tasks of one loop, no thread",
        "whole runtimes: a model without weights, whose own time in a bare loop is subtracted; "
        "all events of a turn are in its cost, memory update included",
    ]
    return report


# Paths of one event


def _callback(count: int) -> None:
    got: list[int] = []
    emit = got.append
    for n in range(count):
        emit(n)
    _all_came(got, count)


def _subject(make: Callable[[], Any], count: int) -> None:
    got: list[int] = []
    subject = make()
    subject.subscribe(got.append)
    for n in range(count):
        subject.on_next(n)
    _all_came(got, count)


def _log_inline(count: int) -> None:
    got: list[int] = []
    log: EventLog[int] = EventLog(CAPACITY)
    EventStream(log).subscribe(got.append)
    for n in range(count):
        log.append(n)
    _all_came(got, count)


def _observe_on(count: int) -> None:
    got: list[int] = []
    done = threading.Event()
    scheduler = EventLoopScheduler()
    subject: Subject[int] = Subject()
    subject.pipe(ops.observe_on(scheduler)).subscribe(got.append, on_completed=done.set)
    for n in range(count):
        subject.on_next(n)
    subject.on_completed()
    done.wait()
    scheduler.dispose()
    _all_came(got, count)


async def _queue(count: int) -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(CAPACITY)

    async def produce() -> None:
        for n in range(count):
            await queue.put(n)

    task = asyncio.ensure_future(produce())
    _all_came([await queue.get() for _ in range(count)], count)
    await task


async def _anyio_stream(count: int) -> None:
    send, receive = anyio.create_memory_object_stream[int](CAPACITY)

    async def produce() -> None:
        async with send:
            for n in range(count):
                await send.send(n)

    async with anyio.create_task_group() as tasks, receive:
        tasks.start_soon(produce)
        _all_came([n async for n in receive], count)


async def _from_thread(count: int) -> None:
    send, receive = anyio.create_memory_object_stream[int](CAPACITY)

    def produce() -> None:
        for n in range(count):
            anyio.from_thread.run(send.send, n)
        anyio.from_thread.run(send.aclose)

    async with anyio.create_task_group() as tasks, receive:
        tasks.start_soon(anyio.to_thread.run_sync, produce)
        _all_came([n async for n in receive], count)


async def _log_from_thread(count: int) -> None:
    log: EventLog[int] = EventLog(CAPACITY)

    def produce() -> None:
        for n in range(count):
            log.wait_ready()
            log.append(n)
        log.close()

    async with EventStream(log).iter(overflow="block") as events, anyio.create_task_group() as tg:
        tg.start_soon(anyio.to_thread.run_sync, produce)
        _all_came([n async for n in events], count)


def _all_came(got: list[int], count: int) -> None:
    if got != list(range(count)):
        raise RuntimeError(f"{len(got)} of {count} events came, or not in their order")


def _on(backend: str, path: Callable[[int], Awaitable[None]], count: int) -> None:
    anyio.run(path, count, backend=backend)


PATHS: dict[str, Callable[[int], None]] = {
    "bare callback": _callback,
    "Subject": partial(_subject, Subject),
    "ReplaySubject": partial(_subject, partial(ReplaySubject, CAPACITY)),
    "event log, subscribe": _log_inline,
    "observe_on(EventLoopScheduler)": _observe_on,
    "asyncio.Queue": partial(_on, "asyncio", _queue),
    "anyio stream": partial(_on, "asyncio", _anyio_stream),
    "from_thread.run(send)": partial(_on, "asyncio", _from_thread),
    "event log, thread to asyncio": partial(_on, "asyncio", _log_from_thread),
    "event log, thread to trio": partial(_on, "trio", _log_from_thread),
}
