"""What a user can do, the same on a thread, on asyncio and on trio."""

from __future__ import annotations

import functools

import anyio
import anyio.lowlevel
import pytest
import reactivex as rx
from reactivex import operators as ops

import rxstream
from rxstream import Runtime, Timeouts, operators
from rxstream.errors import ClosedError, InteractionCancelled, QueryRejected
from rxstream.stores.memory import MemoryStore
from rxstream.testing import FakeModel, Recorder, check

anyio_backends = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"], indirect=True)


def slow() -> FakeModel:
    model = FakeModel()
    model.cost("step", 0.005)
    return model


def in_a_thread(test):
    """Run a test for threads on a worker of either event loop as well: it is a thread like any."""

    @pytest.mark.parametrize("where", ["thread", "asyncio", "trio"])
    def run(where):
        if where == "thread":
            test()
        else:
            anyio.run(functools.partial(anyio.to_thread.run_sync, test), backend=where)

    return run


@in_a_thread
def test_every_verb_from_a_thread():
    store = MemoryStore()
    with Runtime(slow(), store=store) as runtime:
        memory = runtime.memory("m", isolation="snapshot")
        everything = Recorder(memory.events)
        chat = memory.conversation("ada", label="Ada: ", busy="parallel")
        first = chat.ask("one", key="k")
        assert first.result(timeout=30).text == "Ada: one #0"
        assert [e.kind for e in first.blocking()] == [e.kind for e in first.blocking()]
        with pytest.raises(QueryRejected, match="duplicate|applied"):
            chat.ask("one", key="k")
        stopped, cancelled = chat.ask("long 60"), chat.ask("long 50")
        for event in rxstream.blocking(stopped.pipe(operators.tokens())):
            if event.index == 2:
                assert stopped.stop() and cancelled.cancel()
        assert stopped.result().finish_reason == "stopped"
        with pytest.raises(InteractionCancelled):
            cancelled.result()
        limits = Timeouts(answer=0.05, on_timeout="stop")
        timed = chat.ask("long 60", timeouts=limits)
        assert timed.result(timeout=30).finish_reason == "timeout"
        Recorder(timed).wait()  # the answer is there before memory is
        version = memory.flush().result(timeout=30)
        assert version == memory.version == store.head("m")
        before, copy = memory.snapshot(), memory.fork("copy")
        assert copy.value == memory.value
        Recorder(chat.ask("more")).wait()
        assert memory.restore(before).result(timeout=30) == version + 2
        assert memory.value == copy.value
        infos = [info.version for info in Recorder(memory.changes).items]
        assert infos == [memory.version]
    assert everything.wait().ended
    check(everything.items, whole=True, serial=False).finish()
    with pytest.raises(ClosedError):
        runtime.memory("m")


@anyio_backends
async def test_every_verb_on_a_loop(anyio_backend):
    store = MemoryStore()
    async with Runtime(slow(), store=store) as runtime:
        memory = await runtime.amemory("m", durability="sync")
        ada = memory.conversation("ada", label="Ada: ", busy="switch")
        assert (await ada.ask("one", key="k")).text == "Ada: one #0"
        first, second = ada.ask("long 60"), ada.ask("two")  # the newer one wins
        with pytest.raises(InteractionCancelled):
            await first
        assert (await second).text == "Ada: two #1"
        async with memory.conversation("bob").ask("long 60") as left:
            async for event in left.iter(overflow="block"):
                if event.kind == "token":
                    break
        assert left.is_over and left.answer is None
        stopped = ada.ask("long 60", detach="keep")
        async for text in rxstream.aiter(stopped.pipe(operators.text())):
            stopped.stop()
            assert text
        async with memory.events.iter(overflow="latest") as events:
            asked = ada.ask("three")
            async for event in events:
                if event.kind == "memory_updated" and event.interaction == asked.id:
                    break
        assert await memory.flush() == memory.version == store.head("m")
        snapshot = await anyio.to_thread.run_sync(memory.snapshot)
        version = await memory.restore(snapshot)
        assert version == memory.version and snapshot.version == version - 1
        fork = await anyio.to_thread.run_sync(memory.fork, "copy")
        assert fork.value == memory.value
    assert await runtime.aclose()


@anyio_backends
async def test_the_pipeline_on_a_loop_with_operators_of_rxpy_in_between(anyio_backend):
    async def questions():
        for text in ("one", "two"):
            await anyio.lowlevel.checkpoint()
            yield text

    async with Runtime(FakeModel()) as runtime, anyio.create_task_group() as tasks:
        memory = await runtime.amemory("m")
        told = []

        async def note(answer):
            told.append(answer)

        queries = rxstream.from_aiter(questions, tasks)
        answers = queries.pipe(
            ops.map(str.upper),
            *(operators.decode(memory), operators.encode(memory), operators.attend(memory)),
            operators.check_grammar(),
            *(operators.to_msgpack(), operators.from_msgpack()),
            operators.coalesce(1),
            operators.answers(),
            ops.map(lambda answer: answer.text),
        )
        await rxstream.consume(answers, note)
        assert told == ["ONE #0", "TWO #1"] and memory.version == 2


def test_the_pipeline_and_the_facade_leave_the_same_memory():
    values = []
    for ask in (
        lambda memory, queries: [memory.conversation().ask(q).result() for q in queries],
        lambda memory, queries: rx.from_iterable(queries).pipe(operators.interact(memory)).run(),
    ):
        with Runtime(FakeModel()) as runtime:
            memory = runtime.memory("m")
            ask(memory, ["one", "two", "recall"])
        values.append(memory.value)
    assert values[0] == values[1] and len(values[0]) == 3
