"""What the runtime costs: tokens per second through it, beside the bare loop over the model's port.

Both answer the same queries from the same memories in the same rounds, memory updates included;
that both drew the same number of tokens is checked.

With ``--cpu-clock`` a rate is tokens for each CPU second of the thread that calls the model, which
other programs hardly disturb; what other threads do meanwhile has a column of its own.
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
from .loop import Endless, Watched
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
OTHER = ("model thread us", "other threads us")


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    report = Report("runtime", "what the runtime adds to the model")
    long = 4 if settings.quick else 64
    table = Table(
        "The model through the runtime, read with `async for` (tokens a second, medians)",
        ["answers", "store", "tokens", "bare loop", "runtime", "share", "spread", *OTHER],
    )
    natural = (settings.adapter, "its own", Sampling(max_tokens=64), len(QUERIES))
    forced = (Endless(settings.adapter), f"{long} tokens", Sampling(max_tokens=long), 2)
    for model, name, sampling, turns in (natural, forced):
        found = _beside(settings, model, QUERIES, sampling, turns)
        bare = found.pop("bare")
        for store, samples in found.items():
            if samples.values("tokens") != bare.values("tokens"):
                raise RuntimeError("the runtime and the bare loop drew different answers")
            share = samples.ratio("rate", bare)
            table.add(
                name, store, bare.median("tokens") / turns,
                bare.median("rate"), samples.median("rate"),
                share, f"{samples.spread('rate'):.1%}",
                samples.median("model_thread") - bare.median("model_thread"),
                samples.median("other_threads"),
            )  # fmt: skip
            label = f"tokens a second, {name} answers, {store} store, over the bare loop"
            report.checks.append(Check(label, share, TARGET, at_least=True))
    report.tables = [table, _own_time(settings)]
    report.notes = [
        "a block of turns is timed to the last stored version, so that nothing runs into the next",
        "tokens: a turn, on average; the memory update of a turn is part of its time",
        "model thread: CPU microseconds a token that the thread which calls the model spends more "
        "than in the bare loop; other threads: event loop with the reader, store",
        "SQLite store: log and memory in a file, synced",
        "own time: with a model without weights, whose own time is subtracted; CPU time of all "
        "threads. Tokens without a pause come in bursts, with a pause each wakes the reader alone",
    ]
    return report


def _beside(
    settings: Settings, model: Any, queries: Sequence[str], sampling: Sampling, turns: int
) -> dict[str, Samples]:
    """Blocks of ``turns`` turns through the bare loop and through runtimes, interleaved."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        watched = {name: Watched(model) for name in ("bare", "memory", "SQLite")}
        file = f"sqlite:///{folder}/bench.db"
        runtimes = [Runtime(watched["memory"]), Runtime(watched["SQLite"], store=file)]
        blocks = {"bare": _bare(watched["bare"], queries, sampling, turns)}
        for name, runtime in zip(("memory", "SQLite"), runtimes, strict=True):
            blocks[name] = _through(runner, runtime, queries, sampling, turns)
        variants = {
            name: _clocked(settings, watched[name], block) for name, block in blocks.items()
        }
        try:
            return interleave(variants, settings.rounds)
        finally:
            for runtime in runtimes:
                runtime.close()


def _clocked(settings: Settings, model: Watched, block: Callable[[], int]) -> Callable[[], Phases]:
    def measured() -> Phases:
        wall, cpu, thread = time.perf_counter(), time.process_time(), model.thread_seconds()
        tokens = block()
        thread = model.thread_seconds() - thread
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        return {
            "tokens": tokens,
            "rate": tokens / (thread if settings.cpu_clock else wall),
            "model_thread": thread / tokens * 1e6,
            "other_threads": (cpu - thread) / tokens * 1e6,
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
) -> Callable[[], int]:
    """Read with ``async for`` on an event loop, which is on the calling thread."""
    memory, said = runtime.memory("read"), itertools.cycle(queries)
    chat = memory.conversation()

    async def talk() -> int:
        tokens = 0
        for _ in range(turns):
            async for event in chat.ask(next(said), sampling=sampling):
                tokens += event.kind == "token"
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
