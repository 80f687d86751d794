"""Nothing stays behind: objects, threads, child processes, iterators that nobody closed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref

import anyio
import anyio.lowlevel
import pytest

from rxstream import Interaction, Runtime, Timeouts
from rxstream._cursor import Cursor
from rxstream._turn import Turn
from rxstream.errors import GenerationError
from rxstream.log import EventLog
from rxstream.stream import EventStream
from rxstream.testing import FakeModel, HandClock, Recorder
from rxstream.testing.fakes import _Decoding

from .room import Room

WATCHED = (Cursor, Turn, Interaction, EventLog, _Decoding)


def census() -> dict[str, int]:
    gc.collect()
    counts = dict.fromkeys((kind.__name__ for kind in WATCHED), 0)
    for thing in gc.get_objects():
        for kind in WATCHED:
            if issubclass(type(thing), kind):  # asking for __class__ would wake proxies
                counts[kind.__name__] += 1
    return counts


ENDS = {
    "remembered": lambda room, it: None,
    "cancelled queued": lambda room, it: it.cancel(),
    "cancelled": lambda room, it: room.lab.run(3) and it.cancel(),
    "stopped": lambda room, it: room.lab.run(3) and it.stop(),
    "start fails": lambda room, it: room.model.fail("start", room.error),
    "step fails": lambda room, it: room.model.fail("step", room.error),
    "update fails": lambda room, it: room.model.fail("attend", room.error, times=2),
    "aborted": lambda room, it: room.lab.run(7) and room.memory.abort_update(),
    "timed out": lambda room, it: room.lab.run(3) and room.lab.skip(9),
}


@pytest.mark.parametrize("end", ENDS)
def test_an_interaction_that_is_over_leaves_nothing(end) -> None:
    room = Room()
    room.chat.events  # noqa: B018  opens that stream as well
    refs: list[weakref.ref] = []

    def converse():
        room.model.on("step", lambda decodings: refs.extend(map(weakref.ref, decodings)))
        it = room.chat.ask("one two", timeouts=Timeouts(answer=5))
        observers = [Recorder(it) for _ in range(3)]
        observers.append(Recorder(room.memory.events))
        observers[0].dispose()
        readers = [it.iter(), it.blocking(), room.chat.events.iter(overflow="latest")]
        ENDS[end](room, it)
        room.lab.run()
        for observer in observers:
            observer.dispose()
        for reader in readers:
            reader.close()  # those that nobody closes come below
        assert it.is_over
        refs.extend(map(weakref.ref, (it, it._turn, it._turn.log, *observers, *readers)))

    counts = []
    for _ in range(3):  # the first time also frees what an earlier test has left
        room.error = RuntimeError("broken")
        converse()
        room.model.clear()
        room.chat.ask("next")  # the lanes let go of an action when the next one comes
        room.lab.run()
        counts.append(census())
        assert [ref for ref in refs if ref() is not None] == []
    assert counts[1] == counts[2]
    room.close()


def test_the_census_notices() -> None:
    room = Room()
    room.close()
    kept: list[EventLog[int]] = [EventLog(4) for _ in range(100)]
    before = census()
    readers = [log.cursor() for log in kept]
    assert census()["Cursor"] >= before["Cursor"] + 100
    assert before["EventLog"] >= 100
    for reader in readers:
        reader.leave()


def test_a_thousand_interactions_leave_as_much_as_ten() -> None:
    room = Room()
    counts = []
    for rounds in (10, 10, 1000):
        for n in range(rounds):
            it = room.chat.ask(f"query {n}", detach="keep")
            Recorder(it).dispose()
            room.memory.events.subscribe().dispose()
            it.iter().close()
            room.lab.run()
        del it
        counts.append(census())
    assert counts[1] == counts[2]
    room.close()


def test_threads_are_back_at_the_base_after_closing() -> None:
    base = set(threading.enumerate())
    for n in range(5):
        with Runtime(FakeModel(thread_safe=n % 2 == 0)) as runtime:
            memory = runtime.memory("m")
            reader = memory.events.blocking(overflow="block", block_timeout=60)
            it = memory.conversation().ask("hello", timeouts=Timeouts(answer=60, memory=60))
            it.result(30)
            next(reader)
    assert set(threading.enumerate()) == base


def test_a_dropped_runtime_gives_its_threads_back() -> None:
    base = set(threading.enumerate())
    runtime = Runtime(FakeModel())
    runtime.memory("m").conversation().ask("hello").result(30)
    closed = runtime._core.closed
    with pytest.warns(ResourceWarning, match="dropped without being closed"):
        del runtime
        gc.collect()
    assert closed.result(30)
    for thread in set(threading.enumerate()) - base:
        thread.join(30)
    assert set(threading.enumerate()) == base


def test_a_memory_that_is_released_is_gone() -> None:
    with Runtime(FakeModel()) as runtime:
        memory = runtime.memory("m")
        memory.conversation().ask("hello").result(30)
        gone = weakref.ref(memory._machine)
        runtime.release("m")
        runtime.memory("other").conversation().ask("hello").result(30)
        del memory
        gc.collect()
        assert gone() is None


@pytest.fixture
def no_gc():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("overflow", ["block", "error", "latest"])
def test_an_abandoned_loop_releases_the_stream_without_gc(overflow, no_gc) -> None:
    room = Room()
    log = room.chat.events._log
    room.chat.ask("one two")
    for _ in range(3):
        reader = room.chat.events.blocking(overflow=overflow)
        room.lab.run(2)
        for _ in reader:
            break
        del reader
    assert log.readers == 0 and not log.gates and not log._parked
    room.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("overflow", ["block", "error", "latest"])
def test_an_abandoned_async_loop_releases_the_stream_without_gc(overflow, backend, no_gc) -> None:
    log: EventLog[int] = EventLog(4)

    async def main():
        stream = EventStream(log)
        for way in ("break", "raise", "cancel"):
            reader = stream.iter(overflow=overflow)
            if way != "cancel":
                log.append(1)
            with anyio.move_on_after(0 if way == "cancel" else 30):
                try:
                    async for _ in reader:
                        if way == "raise":
                            raise ValueError
                        break
                except ValueError:
                    pass
            del reader
            if way == "cancel":  # the loop lets go of a wait in its next turn
                await anyio.lowlevel.checkpoint()
            assert log.ready() and not log.gates and log.readers == 0, way
        log.append(2)  # a cancelled wait stays parked until the next event, on purpose
        assert not log._parked

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cancelled_task_holds_its_iterator_until_the_next_collection_at_most(backend) -> None:
    """Error and frames of a cancelled task of asyncio refer to each other: nobody can help that."""
    log: EventLog[int] = EventLog(4)

    async def read(reader):
        async for _ in reader:
            pass

    async def main():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, EventStream(log).iter(overflow="block"))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        del tasks
        await anyio.lowlevel.checkpoint()
        gc.collect()
        assert log.readers == 0 and not log.gates

    anyio.run(main, backend=backend)


def test_abandoning_the_last_loop_over_an_answer_cancels_it_without_gc(no_gc) -> None:
    model = FakeModel()
    with Runtime(model) as runtime:
        pause = model.pause("step")
        memory = runtime.memory("m")
        told = Recorder(memory.events)
        for event in memory.conversation().ask("one two").blocking():
            if event.kind == "generation_started":
                break
        event = told.wait_for(3)[-1]
        assert event.kind == "cancelled" and event.reason == "detached"
        pause.release()
    model.check()


class Tensor:
    """Something big that only a call of the model knows."""


@pytest.mark.parametrize("method", ["start", "step", "encode", "attend", "dump"])
def test_a_failure_in_an_event_does_not_keep_what_the_failed_call_had_in_hand(method) -> None:
    room = Room(durability="sync")
    told, refs = Recorder(room.memory.events), []

    def fail(_):
        tensor = Tensor()
        refs.append(weakref.ref(tensor))
        try:
            raise ValueError("too big")
        except ValueError as error:
            raise MemoryError(f"no room for {type(tensor).__name__}") from error

    room.model.on(method, fail)
    it = room.chat.ask("one two")
    room.lab.run()
    gc.collect()
    assert refs and all(ref() is None for ref in refs)
    [failure] = [event.error for event in told.items if event.kind in ("failed", "memory_failed")]
    error = failure.exception
    assert type(error) is MemoryError and str(error) == "no room for Tensor"
    assert str(error.__cause__) == "too big"
    for text in (failure.traceback_text, *error.__notes__, *error.__cause__.__notes__):
        assert "test_leaks.py" in text and "in fail" in text
    recorded = Recorder(it)
    assert recorded.error is not None and recorded.error.__cause__ is error
    room.close()


def test_asking_for_a_failed_result_again_and_again_piles_nothing_up() -> None:
    with Runtime(FakeModel()) as runtime:
        runtime._core.engine.model.fail("step", OSError("gone"))
        it = runtime.memory("m").conversation().ask("hello")
        depths = []
        for _ in range(3):
            with pytest.raises(GenerationError) as caught:
                it.result(30)
            depths.append(len(traceback.extract_tb(caught.value.__traceback__)))
        assert len(set(depths)) == 1
        assert len(caught.value.__cause__.__notes__) == 1


def test_a_watchdog_does_not_keep_a_log_alive() -> None:
    clock = HandClock()
    log: EventLog[int] = EventLog(1, clock=clock)
    reader = log.cursor(overflow="block", block_timeout=5)
    log.append(1)
    log.when_ready(lambda: None)
    dead = weakref.ref(log)
    del log, reader
    gc.collect()
    assert dead() is None
    clock.advance(6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_that_ends_normally_neither_hangs_nor_closes_the_parents_runtime(
    tmp_path,
) -> None:
    program = textwrap.dedent(f"""
        import gc, os, sys
        from rxstream import Runtime
        from rxstream.testing import FakeModel
        runtime = Runtime(FakeModel(), store="sqlite:///{tmp_path}/m.db")
        chat = runtime.memory("m").conversation()
        chat.ask("hello").result(30)
        child = os.fork()
        if not child:
            gc.collect()
            sys.exit(7)  # runs atexit handlers and finalisers
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(chat.ask("again").result(30).text)
        print(runtime.close())
    """)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "7\nagain #1\nTrue\n", done.stderr
