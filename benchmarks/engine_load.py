"""Many conversations on a GPU, turn after turn: queries, steps and updates beside each other.

The engine alone, without runtime or text: a conversation asks again as soon as its memory has taken
in what was said.
"""

from __future__ import annotations

import queue
import random
import statistics
import threading
import time
from typing import TYPE_CHECKING

import torch

from rxtmodel import Sampler
from rxtmodel.engine.gpu import DeviceEngine

from .engine_model import LENGTH, SAMPLING, memories, query
from .report import Table

if TYPE_CHECKING:
    from rxtmodel import ReactiveTransformer
    from rxtmodel.engine.device import DeviceRow
    from rxtmodel.engine.memory import MemoryVersion

ASKED, ANSWERED = 100, (32, 128)
"""Tokens of a query, and of an answer from and to."""


class Talk:
    """A conversation: its memory, and the answer under way."""

    def __init__(self, memory: MemoryVersion, seed: int) -> None:
        self.memory, self.seed = memory, seed
        self.row: DeviceRow | None = None
        self.left, self.ids = 0, [0]
        self.said_at = self.known_at = 0.0


class Load:
    """``count`` conversations over one engine; updates of up to ``at_once`` memories."""

    def __init__(self, model: ReactiveTransformer, count: int, at_once: int) -> None:
        self.engine = DeviceEngine(model, count, LENGTH)
        self.engine.batch.warm_up(queries=[ASKED])
        self.engine.updater.warm_up(lengths=[ASKED + ANSWERED[1]])
        self.at_once, self._random = at_once, random.Random(0)
        self._talks = [Talk(memory, i) for i, memory in enumerate(memories(model, count))]
        self._queries = [query(i)[:ASKED] for i in range(64)]
        self._said: queue.SimpleQueue[Talk | None] = queue.SimpleQueue()
        self._known: queue.SimpleQueue[Talk | BaseException] = queue.SimpleQueue()
        self.steps: list[float] = []
        self.waits: list[float] = []
        self.tokens = self.turns = 0

    def run(self, seconds: float) -> float:
        """From where the last run ended; the seconds it took."""
        self.steps, self.waits, self.tokens, self.turns = [], [], 0, 0
        thread = threading.Thread(target=self._update)
        thread.start()
        asking = [talk for talk in self._talks if talk.row is None]
        running = [talk for talk in self._talks if talk.row is not None]
        before = began = time.perf_counter()
        try:
            while (now := time.perf_counter()) < began + seconds:
                while not self._known.empty() or not (running or asking):
                    asking.append(self._next())
                self._begin(asking)
                running += asking
                asking = []
                running = self._step(running)
                self.steps.append(time.perf_counter() - max(before, began))
                before = time.perf_counter()
        finally:
            self._said.put(None)
            thread.join()
        while not self._known.empty():
            self._next()
        torch.cuda.synchronize()
        return now - began

    def _next(self) -> Talk:
        found = self._known.get()
        if isinstance(found, BaseException):
            raise found
        self.waits.append(found.known_at - found.said_at)
        return found

    def _begin(self, talks: list[Talk]) -> None:
        if not talks:
            return
        given = []
        for talk in talks:
            talk.seed += 1
            talk.ids = list(self._queries[talk.seed % 64])
            talk.left = self._random.randint(*ANSWERED)
            given.append((talk.ids, talk.memory, Sampler(SAMPLING, talk.seed)))
        for talk, row in zip(talks, self.engine.add_all(given), strict=True):
            talk.row = row
            self.engine.limit(row, talk.left)

    def _step(self, running: list[Talk]) -> list[Talk]:
        drawn = self.engine.step([talk.row for talk in running])  # type: ignore[misc]
        self.tokens += len(drawn)
        left = []
        for talk, token in zip(running, drawn, strict=True):
            talk.ids.append(token)
            talk.left -= 1
            if talk.left:
                left.append(talk)
                continue
            self.turns += 1
            self.engine.remove(talk.row)  # type: ignore[arg-type]
            talk.row, talk.said_at = None, time.perf_counter()
            self._said.put(talk)
        return left

    def _update(self) -> None:
        try:
            while (talk := self._said.get()) is not None:
                talks = [talk]
                while len(talks) < self.at_once and not self._said.empty():
                    if (more := self._said.get()) is None:
                        self._said.put(None)
                        break
                    talks.append(more)
                encoded = self.engine.encode([each.ids for each in talks])
                new = self.engine.attend([each.memory for each in talks], encoded)
                new[-1].settled()
                for each, version in zip(talks, new, strict=True):
                    each.memory, each.known_at = version, time.perf_counter()
                    self._known.put(each)
        except BaseException as error:
            self._known.put(error)


def table(model: ReactiveTransformer, count: int, seconds: float) -> Table:
    """Tokens a second, gaps between tokens, and how long it takes until a memory knows."""
    found = Table(
        f"Conversations that go on and on: {ASKED} tokens asked, {ANSWERED[0]} to {ANSWERED[1]} "
        "answered, remembered (ms)",
        ["conversations", "tokens/s", "turns/s", "a gap", "95 %", "99 %", "remembered", "95 %"],
    )
    load = Load(model, count, 64)
    load.run(seconds / 4)
    took = load.run(seconds)
    gaps, waits = (
        statistics.quantiles([1e3 * x for x in each], n=100) for each in (load.steps, load.waits)
    )
    found.add(
        count, load.tokens / took, load.turns / took, gaps[49], gaps[94], gaps[98], waits[49],
        waits[94],
    )  # fmt: skip
    return found
