"""What calls of the model cost at several batch sizes, measured here and fitted to formulas."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rxstream.model import CompletedInteraction, DecodeRequest, Sampling

from .measure import Settings, timed
from .report import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TEXT = "my brother lives in a small town near the sea and his dog is called Biscuit. "


@dataclass(frozen=True)
class Line:
    """Seconds of a call: for itself, for each item in it, for each character."""

    call: float
    item: float
    character: float

    def seconds(self, items: int, characters: int) -> float:
        """Of one call."""
        return self.call + self.item * items + self.character * characters


@dataclass(frozen=True)
class Costs:
    """Of all calls of a model."""

    steps: tuple[tuple[int, float], ...]
    """(batch, seconds), growing; between them a straight line."""
    start: Line
    update: Line
    dump: float

    def step(self, batch: int) -> float:
        """Seconds of a decode step of so many."""
        sizes, seconds = zip(*self.steps, strict=True)
        return float(np.interp(batch, sizes, seconds))

    def rate(self, tokens: float, query: float, answer: float, batch: int) -> float:
        """Turns a second, were the batch always full: what the model can do."""
        turn = tokens * self.step(batch) / batch
        for line, characters in ((self.start, query), (self.update, query + answer)):
            turn += line.item + line.character * characters
        return 1 / turn


def measure(settings: Settings) -> tuple[Costs, Table]:
    """Measure the model of ``settings`` and fit; the table shows both."""
    adapter = settings.adapter
    table = Table(
        "Costs of the model (ms a call, medians)",
        ["call", "batch", "characters each", "measured", "fitted"],
    )
    rounds = min(settings.rounds, 9)
    batches = [b for b in (1, 2, 4, 8, 16, 32) if b <= adapter.max_batch]
    lengths = (8, 24) if settings.quick else (16, 64, 160)

    def seconds(action: Callable[[], object]) -> float:
        action()
        return statistics.median(timed(settings.now, action)["seconds"] for _ in range(rounds))

    memory = adapter.initial_memory()

    def requests(batch: int, length: int) -> list[DecodeRequest[Any]]:
        sampling = Sampling(max_tokens=10_000)
        return [DecodeRequest(query=_text(length), memory=memory, sampling=sampling)] * batch

    steps = []
    for batch in batches:
        decodings = adapter.start(requests(batch, lengths[0]))
        steps.append((batch, seconds(lambda d=decodings: adapter.step(d))))
        for decoding in decodings:
            adapter.finish(decoding)
        table.add("step", batch, None, steps[-1][1] * 1e3, steps[-1][1] * 1e3)

    def start(batch: int, length: int) -> None:
        for decoding in adapter.start(requests(batch, length)):
            adapter.finish(decoding)

    def update(batch: int, length: int) -> None:
        half = _text(length // 2)
        done = [CompletedInteraction(query=half, answer=half)] * batch
        adapter.attend([memory] * batch, adapter.encode(done))

    lines = {}
    for name, call in (("start", start), ("update", update)):
        points = [
            (batch, length, seconds(lambda b=batch, n=length, call=call: call(b, n)))
            for batch in (1, 4, batches[-1])
            for length in lengths
        ]
        lines[name] = line = _fit(points)
        for batch, length, took in points:
            fitted = line.seconds(batch, batch * length)
            table.add(name, batch, length, took * 1e3, fitted * 1e3)
    dump = seconds(lambda: adapter.dump(memory))
    table.add("dump", 1, None, dump * 1e3, dump * 1e3)
    return Costs(tuple(steps), lines["start"], lines["update"], dump), table


def _fit(points: Sequence[tuple[int, int, float]]) -> Line:
    """Least squares of relative errors; what comes out negative is noise, and 0."""
    rows = np.array([(1, batch, batch * length) for batch, length, _ in points], float)
    took = np.array([seconds for *_, seconds in points])
    free = [0, 1, 2]
    while True:
        solution, *_ = np.linalg.lstsq(rows[:, free] / took[:, None], np.ones_like(took))
        if (solution >= 0).all() or len(free) == 1:
            break
        free.pop(int(np.argmin(solution)))
    parts = [0.0, 0.0, 0.0]
    for index, value in zip(free, solution, strict=True):
        parts[index] = max(0.0, float(value))
    return Line(*parts)


def _text(length: int) -> str:
    return (TEXT * (1 + length // len(TEXT)))[:length]
