"""Many conversations, turn after turn: queries, steps and updates beside each other.

The engine alone, without runtime or text: a conversation asks again as soon as its memory has taken
in what was said.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from rxtmodel import Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxtmodel import SamplerConfig
    from rxtmodel.engine import Engine, MemoryVersion

AT_ONCE = 64
"""Memories that are updated together, at most."""


class Shape(NamedTuple):
    """Tokens of a query, and of an answer from and to."""

    asked: int
    least: int
    most: int


def shape_of(length: int) -> Shape:
    """For a model that takes so many tokens in an interaction."""
    return Shape(length // 5, length // 16, length // 4)


class Talk:
    """A conversation: its memory, and the answer under way."""

    def __init__(self, memory: MemoryVersion, seed: int) -> None:
        self.memory, self.seed = memory, seed
        self.row: Any = None
        self.left, self.ids = 0, [0]
        self.said_at = self.known_at = 0.0


class Load:
    """A conversation for each of ``memories``, over one engine."""

    def __init__(
        self,
        engine: Engine,
        memories: Sequence[MemoryVersion],
        vocabulary: int,
        shape: Shape,
        sampling: SamplerConfig,
    ) -> None:
        self.engine, self.shape, self.sampling = engine, shape, sampling
        self._random = random.Random(0)
        self._talks = [Talk(memory, i) for i, memory in enumerate(memories)]
        self._queries = [
            self._random.choices(range(11, vocabulary), k=shape.asked) for _ in range(64)
        ]
        self._said: queue.SimpleQueue[Talk | None] = queue.SimpleQueue()
        self._known: queue.SimpleQueue[Talk | BaseException] = queue.SimpleQueue()
        self.steps: list[float] = []
        self.waits: list[float] = []
        self.tokens = self.turns = 0

    def run(self, seconds: float) -> float:
        """From where the last run ended; the seconds it took."""
        self.steps, self.waits, self.tokens, self.turns = [], [], 0, 0
        thread = threading.Thread(target=self._update)
        if self.engine.thread_safe:
            thread.start()
        asking = [talk for talk in self._talks if talk.row is None]
        running = [talk for talk in self._talks if talk.row is not None]
        before = began = time.perf_counter()
        try:
            while (now := time.perf_counter()) < began + seconds:
                if not self.engine.thread_safe:
                    self._said.put(None)
                    self._update()
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
            if self.engine.thread_safe:
                thread.join()
            else:
                self._update()
        while not self._known.empty():
            self._next()
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
            talk.left = self._random.randint(self.shape.least, self.shape.most)
            given.append((talk.ids, talk.memory, Sampler(self.sampling, talk.seed)))
        for talk, row in zip(talks, self.engine.add_all(given), strict=True):
            talk.row = row
            self.engine.limit(row, talk.left)

    def _step(self, running: list[Talk]) -> list[Talk]:
        drawn = self.engine.step([talk.row for talk in running])
        self.tokens += len(drawn)
        left = []
        for talk, token in zip(running, drawn, strict=True):
            talk.ids.append(token)
            talk.left -= 1
            if talk.left:
                left.append(talk)
                continue
            self.turns += 1
            self.engine.remove(talk.row)
            talk.row, talk.said_at = None, time.perf_counter()
            self._said.put(talk)
        return left

    def _update(self) -> None:
        try:
            while (talk := self._said.get()) is not None:
                talks = [talk]
                while len(talks) < AT_ONCE and not self._said.empty():
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
