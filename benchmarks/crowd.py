"""What a token costs through a whole runtime around a model without weights, alone and in a crowd.

The model's own time in a bare loop is subtracted; everything else is counted, memory updates too.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from functools import partial
from typing import TYPE_CHECKING

import anyio

from rxstream import Runtime, Sampling
from rxstream.testing import FakeModel

from . import loop
from .measure import Settings, interleave, timed
from .report import Check, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from rxstream import Event, Interaction


class Crowd:
    """A runtime with ``count`` conversations, each on a memory of its own.

    A run is ``turns`` turns of all of them at once, with answers of ``tokens`` tokens. That all
    tokens come, in order, is checked.
    """

    def __init__(self, count: int, turns: int, tokens: int) -> None:
        self.count, self.turns, self.tokens = count, turns, tokens
        self.query, self.sampling = f"long {tokens}", Sampling(max_tokens=tokens)
        self.model = self._fake()
        self.runtime = Runtime(self.model, max_queued=count)
        self.chats = [self.runtime.memory(f"m{n}").conversation() for n in range(count)]
        self.runner = asyncio.Runner()

    @property
    def all_tokens(self) -> int:
        """Tokens of a run."""
        return self.count * self.turns * self.tokens

    def _fake(self) -> FakeModel:
        return FakeModel(max_batch=self.count, capacity=4)

    def bare(self) -> None:
        """The same by hand."""
        model = self._fake()
        memories = [model.initial_memory()] * self.count
        for _ in range(self.turns):
            memories = loop.answers(model, memories, self.query, self.sampling)

    def subscribe(self) -> None:
        """A subscriber for each answer."""
        for _ in range(self.turns):
            asked = [chat.ask(self.query, sampling=self.sampling) for chat in self.chats]
            got: list[list[int]] = [[] for _ in asked]
            over = threading.Semaphore(0)
            for it, indices in zip(asked, got, strict=True):
                it.subscribe(partial(_note, indices), on_completed=over.release)
            for _ in asked:
                over.acquire()
            for indices in got:
                self._check(indices)

    def iterate(self) -> None:
        """A task with ``async for`` for each answer, all on one event loop."""
        self.runner.run(self._iterate())

    async def _iterate(self) -> None:
        for _ in range(self.turns):
            async with anyio.create_task_group() as readers:
                for chat in self.chats:
                    readers.start_soon(self._read, chat.ask(self.query, sampling=self.sampling))

    async def _read(self, it: Interaction) -> None:
        self._check([event.index async for event in it if event.kind == "token"])

    def _check(self, indices: list[int]) -> None:
        if indices != list(range(self.tokens)):
            raise RuntimeError(f"{len(indices)} of {self.tokens} tokens came, or not in order")

    def close(self) -> None:
        self.runner.close()
        self.runtime.close()


def _note(into: list[int], event: Event) -> None:
    if event.kind == "token":
        into.append(event.index)


def measure(settings: Settings) -> tuple[Table, list[Check]]:
    """The table and what is asked of it."""
    most, long = (10, 100) if settings.quick else (1000, 2000)
    one, turns, all_ = Crowd(1, 10, long), Crowd(1, most // 5, 100), Crowd(most, 1, 100)
    crowds = (one, turns, all_)
    variants: dict[tuple[Crowd, str], Callable[[], None]] = {}
    for crowd in crowds:
        variants[crowd, "bare"] = crowd.bare
        variants[crowd, "subscribe"] = crowd.subscribe
        variants[crowd, "async for"] = crowd.iterate
    table = Table(
        "A token through a whole runtime (microseconds, medians)",
        ["conversations", "tokens", "reader", "a token", "spread", "held bytes a token", "left"],
    )
    costs: dict[tuple[Crowd, str], float] = {}
    names = {f"{crowds.index(crowd)} {reader}": (crowd, reader) for crowd, reader in variants}
    try:
        found = interleave(
            {name: partial(timed, settings.now, variants[key]) for name, key in names.items()},
            settings.rounds,
            seconds_each=60.0,
        )
        samples = {names[name]: each for name, each in found.items()}
        for crowd, reader in variants:
            if reader == "bare":
                continue
            mine, bare = samples[crowd, reader], samples[crowd, "bare"]
            own = mine.median("seconds") - bare.median("seconds")
            costs[crowd, reader] = cost = own / crowd.all_tokens * 1e6
            held, left = (x / crowd.all_tokens for x in _bytes(crowd, variants[crowd, reader]))
            spread = f"{mine.spread('seconds'):.1%}"
            table.add(crowd.count, crowd.tokens, reader, cost, spread, held, left)
    finally:
        for crowd in crowds:
            crowd.close()
    checks = [
        Check(f"a token through a whole runtime, {reader}", costs[one, reader], 10, unit="us")
        for reader in ("subscribe", "async for")
    ]
    checks += [
        Check(
            f"a token in {most} conversations, over one alone, {reader}",
            costs[all_, reader] / costs[turns, reader],
            1.5,
        )
        for reader in ("subscribe", "async for")
    ]
    return table, checks


def _bytes(crowd: Crowd, action: Callable[[], None]) -> tuple[int, int]:
    """At the peak, while answers are held, and afterwards; over those before."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    action()
    crowd.model.batches.clear()  # the model notes every step
    gc.collect()
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak - before, after - before
