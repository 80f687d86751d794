"""What type checkers must know of the public API; checked by mypy and pyright, never run.

Every operator in a ``pipe``, the facade, and all ways to read a stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import assert_type

import reactivex as rx
from anyio.abc import TaskGroup
from reactivex import Observable
from reactivex.abc import DisposableBase

import rxstream
from rxstream import (
    Answer,
    AnswerCompleted,
    Cancelled,
    CompletedInteraction,
    Conversation,
    Event,
    EventStream,
    Gap,
    Interaction,
    MemoryInfo,
    MemoryPersisted,
    MemoryUpdated,
    Pending,
    PersistFailed,
    Runtime,
    RuntimeStats,
    Sampling,
    ShortTermMemory,
    Snapshot,
    Timeouts,
    Token,
)
from rxstream import operators as on
from rxstream.testing import FakeModel, Recorder

Memory = tuple[str, ...]


def facade(model: FakeModel) -> None:
    with Runtime(model, store="sqlite:///m.db", durability="sync") as runtime:
        assert_type(runtime, Runtime[Memory])
        assert_type(runtime.stats(), RuntimeStats)
        assert_type(runtime.stats().memories["m"].lag_seconds, float)
        memory = runtime.memory("m", isolation="snapshot", on_conflict="rebase")
        assert_type(memory, ShortTermMemory[Memory])
        assert_type(memory.value, Memory)
        assert_type(memory.version, int)
        assert_type(memory.snapshot(), Snapshot)
        assert_type(memory.restore(memory.snapshot()), Pending[int])
        assert_type(memory.restore(memory.snapshot()).result(), int)
        assert_type(memory.flush(), Pending[int | None])
        assert_type(memory.fork("copy"), ShortTermMemory[Memory])
        chat = memory.conversation("main", busy="switch", max_pending=3, label="Ada: ")
        assert_type(chat, Conversation)
        it = chat.ask(
            "hello",
            sampling=Sampling(max_tokens=8),
            key="k",
            timeouts=Timeouts(answer=3.0, on_timeout="stop"),
            detach="keep",
        )
        assert_type(it, Interaction)
        assert_type(it.result(timeout=1.0), Answer)
        assert_type(it.answer, Answer | None)
        assert_type(it.stop(), bool)
        assert_type(it.cancel(), bool)
        assert_type(chat.remember("q", "a"), Interaction)


def streams(memory: ShortTermMemory[Memory], chat: Conversation, it: Interaction) -> None:
    assert_type(memory.events, EventStream[Event])
    assert_type(memory.changes, EventStream[MemoryInfo])
    assert_type(memory.persisted, EventStream[MemoryPersisted | PersistFailed])
    assert_type(chat.events, EventStream[Event])
    assert_type(it.subscribe(print), DisposableBase)
    for event in it.blocking():
        assert_type(event, Event)
    for either in chat.events.blocking(overflow="latest"):
        assert_type(either, Event | Gap)
    for text in rxstream.blocking(it.pipe(on.text())):
        assert_type(text, str)
    assert_type(rxstream.bounded(it, 8), EventStream[Event])
    Recorder(it).wait()


async def on_a_loop(model: FakeModel, it: Interaction, tasks: TaskGroup) -> None:
    async with Runtime(model) as runtime:
        assert_type(await runtime.amemory("m"), ShortTermMemory[Memory])
        assert_type(await runtime.amemory("m", tenant="t"), ShortTermMemory[Memory])
        assert_type(await runtime.aclose(drain=True), bool)
    assert_type(await it, Answer)
    async for event in it:
        assert_type(event, Event)
    async with it.iter(overflow="block", block_timeout=1.0) as events:
        async for event in events:
            match event:
                case Token():
                    assert_type(event.text, str)
                case Cancelled():
                    assert_type(event.tokens, int)
                case _:
                    assert_type(event.seq, int)
    async for either in it.iter(overflow="latest"):
        assert_type(either, Event | Gap)
    async with it as same:
        assert_type(same, Interaction)
    async for text in rxstream.aiter(it.pipe(on.text())):
        assert_type(text, str)
    async for text_or_gap in rxstream.aiter(it.pipe(on.text()), overflow="latest"):
        assert_type(text_or_gap, str | Gap)

    async def queries() -> AsyncIterator[str]:
        yield "hello"

    async def handle(token: Token) -> None: ...

    assert_type(rxstream.from_aiter(queries, tasks), Observable[str])
    await rxstream.consume(it.pipe(on.tokens()), handle, concurrency=2, overflow="block")


def operators(it: Interaction, memory: ShortTermMemory[Memory]) -> None:
    assert_type(it.pipe(on.tokens()), Observable[Token])
    assert_type(it.pipe(on.text()), Observable[str])
    assert_type(it.pipe(on.answers()), Observable[Answer])
    assert_type(it.pipe(on.memory_updates()), Observable[MemoryUpdated])
    assert_type(it.pipe(on.of(AnswerCompleted)), Observable[AnswerCompleted])
    assert_type(it.pipe(on.coalesce(50)), Observable[Event])
    assert_type(it.pipe(on.check_grammar()), Observable[Event])
    assert_type(it.pipe(on.to_msgpack()), Observable[bytes])
    assert_type(it.pipe(on.to_msgpack(), on.from_msgpack()), Observable[Event | Gap])
    assert_type(it.pipe(on.per_interaction()), Observable[EventStream[Event]])
    assert_type(it.pipe(on.bounded(8, "latest")), EventStream[Event])

    queries = rx.of("one", "two")
    assert_type(queries.pipe(on.interact(memory)), Observable[Event])
    assert_type(queries.pipe(on.decode(memory)), Observable[Event])
    assert_type(
        queries.pipe(on.decode(memory), on.encode(memory), on.attend(memory)), Observable[Event]
    )
    assert_type(rx.of(on.Query(text="q", key="k")).pipe(on.interact(memory)), Observable[Event])
    lessons = rx.of(CompletedInteraction(query="q", answer="a"))
    assert_type(lessons.pipe(on.encode(memory), on.attend(memory)), Observable[Event])
    assert_type(queries.pipe(on.interact(memory, busy="switch"), on.text()), Observable[str])


def mistakes(it: Interaction, memory: ShortTermMemory[Memory]) -> None:
    """What a checker must refuse: mypy fails when one of these lines is accepted."""
    it.iter(overflow="newest")  # type: ignore[call-overload]
    memory.conversation(busy="wait")  # type: ignore[arg-type]
    it.pipe(on.of("token"))  # type: ignore[arg-type]
    it.pipe(on.text("loud"))  # type: ignore[arg-type]
    memory.conversation().ask("q", detach="never")  # type: ignore[arg-type]
    for _ in it:  # type: ignore[misc]
        pass


async def mistakes_on_a_loop(runtime: Runtime[Memory]) -> None:
    await runtime.amemory("m", isolation="none")  # type: ignore[arg-type]
