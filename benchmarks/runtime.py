"""What the runtime costs: tokens per second through it, beside the bare loop over the model's port.

Both answer the same queries from the same memories in the same rounds, memory updates included;
that both drew the same number of tokens is checked.

With ``--cpu-clock`` a rate is tokens for each CPU second of all threads: what is done beside the
model on another processor counts as if the model had waited for it.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
import time
from typing import TYPE_CHECKING, Any

from rxstream import Runtime, Sampling
from rxstream.testing import FakeModel

from . import loop
from .loop import endless
from .measure import Samples, Settings, interleave, timed
from .report import Check, Report, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .measure import Phases

QUERIES = (
    "my dog is called Biscuit",
    "what is my dog called?",
    "my sister lives in Lisbon",
    "where does my sister live?",
    "hello there",
    "my favourite colour is green",
    "what is my favourite colour?",
    "do you know the name of my cat?",
)
TARGET = 0.95
BARE = ("bare", "loop")
READERS = {"update": "memory_updated", "answer": "answer_completed"}
"""What a reader waits for before it asks again. The next query waits for the update in any case."""


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    report = Report("runtime", "what the runtime adds to the model")
    long = 4 if settings.quick else 64
    table = Table(
        "The model through the runtime, read with `async for` (tokens a second, medians)",
        ["answers", "asks after", "store", "tokens", "bare loop", "runtime", "share", "spread",
         "CPU us more"],
    )  # fmt: skip
    natural = (settings.adapter, "its own", Sampling(max_tokens=64))
    forced = (endless(settings.adapter), f"{long} tokens", Sampling(max_tokens=long))
    for model, name, sampling in (natural, forced):
        found = _beside(settings, model, sampling)
        bare = found.pop(BARE)
        for (reader, store), samples in found.items():
            if samples.values("tokens") != bare.values("tokens"):
                raise RuntimeError("the runtime and the bare loop drew different answers")
            share = samples.ratio("rate", bare)
            table.add(
                name, reader, store, bare.median("tokens") / len(QUERIES),
                bare.median("rate"), samples.median("rate"),
                share, f"{samples.spread('rate'):.1%}",
                samples.median("cpu") - bare.median("cpu"),
            )  # fmt: skip
            label = f"tokens a second, {name} answers, asks after the {reader}, {store} store, "
            report.checks.append(Check(label + "over the bare loop", share, TARGET, at_least=True))
    report.tables = [table, _own_time(settings)]
    report.notes = [
        f"a block of {len(QUERIES)} turns is timed to the last stored version, so that nothing "
        "runs into the next",
        "tokens: a turn, on average; the memory update of a turn is part of its time",
        "asks after: what the reader waits for before the next query, the end of a turn's stream "
        "or the complete answer; the query waits for the update in any case",
        "CPU: microseconds a token that all threads together take more than in the bare loop",
        "SQLite store: log and memory in a file, synced",
        "own time: with a model without weights, whose own time is subtracted; CPU time of all "
        "threads. Tokens without a pause come in bursts, with a pause each wakes the reader alone",
    ]
    return report


def _beside(settings: Settings, model: Any, sampling: Sampling) -> dict[tuple[str, str], Samples]:
    """Blocks of turns through the bare loop and through runtimes, interleaved."""
    turns = len(QUERIES)
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        blocks = {BARE: _bare(model, QUERIES, sampling, turns)}
        runtimes = []
        for reader, last in READERS.items():
            for store in ("memory", "SQLite"):
                file = f"sqlite:///{folder}/{reader}.db"
                runtimes.append(Runtime(model, store="memory:" if store == "memory" else file))
                blocks[reader, store] = _through(
                    runner, runtimes[-1], QUERIES, sampling, turns, last=last
                )
        variants = {key: _clocked(settings, block) for key, block in blocks.items()}
        names = {" ".join(key): key for key in variants}
        try:
            found = interleave(
                {name: variants[key] for name, key in names.items()}, settings.rounds
            )
            return {names[name]: samples for name, samples in found.items()}
        finally:
            for runtime in runtimes:
                runtime.close()


def _clocked(settings: Settings, block: Callable[[], int]) -> Callable[[], Phases]:
    def measured() -> Phases:
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = block()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {
            "tokens": tokens,
            "rate": tokens / (cpu if settings.cpu_clock else wall),
            "cpu": cpu / tokens * 1e6,
        }

    return measured


def _bare(model: Any, queries: Sequence[str], sampling: Sampling, turns: int) -> Callable[[], int]:
    memory, said = model.initial_memory(), itertools.cycle(queries)

    def block() -> int:
        nonlocal memory
        tokens = 0
        for _ in range(turns):
            memory, count = loop.answer(model, memory, next(said), sampling)
            tokens += count
        return tokens

    return block


def _through(
    runner: asyncio.Runner,
    runtime: Runtime[Any],
    queries: Sequence[str],
    sampling: Sampling,
    turns: int,
    *,
    last: str = "memory_updated",
) -> Callable[[], int]:
    """Read with ``async for`` on an event loop, which is on the calling thread, up to ``last``."""
    memory, said = runtime.memory("read"), itertools.cycle(queries)
    chat = memory.conversation()

    async def talk() -> int:
        tokens = 0
        for turn in range(turns):
            # The model is the next block's only when the last update is over.
            until = last if turn < turns - 1 else "memory_updated"
            async with chat.ask(next(said), sampling=sampling).iter() as events:
                async for event in events:
                    tokens += event.kind == "token"
                    if event.kind == until:
                        break
        await memory.flush()
        return tokens

    return lambda: runner.run(talk())


def _waiting(
    runtime: Runtime[Any], queries: Sequence[str], sampling: Sampling, turns: int
) -> Callable[[], int]:
    """Nobody listens to tokens: a thread waits for each answer."""
    memory, said = runtime.memory("waited"), itertools.cycle(queries)
    chat = memory.conversation()

    def block() -> int:
        tokens = 0
        for _ in range(turns):
            tokens += chat.ask(next(said), sampling=sampling).result().usage.answer_tokens
        memory.flush().result()
        return tokens

    return block


def _own_time(settings: Settings) -> Table:
    table = Table(
        "The runtime's own time (CPU microseconds; medians)",
        ["reader", "a token", "with 1 ms pauses", "a turn of 1 token"],
    )
    tokens, turns = (20, 2) if settings.quick else (200, 50)
    costs: dict[str, list[float]] = {"nobody": [], "async for": []}
    for count, repeat, pause in ((tokens, 4, 0.0), (tokens, 1, 0.001), (1, turns, 0.0)):
        sampling, query = Sampling(max_tokens=max(2, count)), (f"long {count}",)
        with asyncio.Runner() as runner, Runtime(_fake(pause)) as runtime:
            blocks = {
                "bare": _bare(_fake(pause), query, sampling, repeat),
                "nobody": _waiting(runtime, query, sampling, repeat),
                "async for": _through(runner, runtime, query, sampling, repeat),
            }
            found = interleave(
                {
                    name: lambda block=block: timed(time.process_time, block)  # type: ignore[misc]
                    for name, block in blocks.items()
                },
                settings.rounds,
            )
        for reader, cells in costs.items():
            own = found[reader].median("seconds") - found["bare"].median("seconds")
            cells.append(own / (repeat * count) * 1e6)
    for reader, cells in costs.items():
        table.add(reader, *cells)
    return table


def _fake(pause: float) -> FakeModel:
    model = FakeModel(capacity=8)
    if pause:
        model.on("step", lambda _: time.sleep(pause))
    return model
