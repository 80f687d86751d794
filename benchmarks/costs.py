"""What calls of the model cost at several batch sizes, measured here and fitted to formulas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rxstream.model import CompletedInteraction, DecodeRequest, Sampling

from .measure import interleave, timed
from .report import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .measure import Phases, Settings

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
    batches = [b for b in (1, 2, 4, 8, 16, 32) if b <= settings.adapter.max_batch]
    lengths = (8, 24) if settings.quick else (16, 64, 160)
    calls = _Calls(settings)
    variants: dict[tuple[str, int, int], Callable[[], Phases]] = {}
    for batch in batches:
        variants["step", batch, 0] = partial(calls.step, batch)
    for batch in (1, 4, batches[-1]):
        for length in lengths:
            variants["start", batch, length] = partial(calls.start, batch, length)
            variants["update", batch, length] = partial(calls.update, batch, length)
    variants["dump", 1, 0] = calls.dump
    found = interleave(variants, min(settings.rounds, 15), warmup=1)
    took = {key: samples.median("seconds") for key, samples in found.items()}
    start, update = (_fit(took, name) for name in ("start", "update"))
    steps = tuple((batch, took["step", batch, 0]) for batch in batches)
    costs = Costs(steps, start, update, took["dump", 1, 0])
    return costs, _table(took, {"start": start, "update": update})


class _Calls:
    """One timed call of each kind."""

    def __init__(self, settings: Settings) -> None:
        self.adapter, self.now = settings.adapter, settings.now
        self.memory = self.adapter.initial_memory()

    def _requests(self, batch: int, length: int) -> list[DecodeRequest[Any]]:
        sampling = Sampling(max_tokens=10_000)
        return [DecodeRequest(query=_text(length), memory=self.memory, sampling=sampling)] * batch

    def step(self, batch: int) -> Phases:
        """Of ``batch`` answers that have just begun."""
        decodings = self.adapter.start(self._requests(batch, 16))
        found = timed(self.now, lambda: self.adapter.step(decodings), 3)
        self._finish(decodings)
        return found

    def start(self, batch: int, length: int) -> Phases:
        """Prefill of queries of ``length`` characters."""
        decodings: list[Any] = []
        requests = self._requests(batch, length)
        found = timed(self.now, lambda: decodings.extend(self.adapter.start(requests)))
        self._finish(decodings)
        return found

    def update(self, batch: int, length: int) -> Phases:
        """Memory updates of interactions of ``length`` characters."""
        half = _text(length // 2)
        done = [CompletedInteraction(query=half, answer=half)] * batch
        attend, encode = self.adapter.attend, self.adapter.encode
        return timed(self.now, lambda: attend([self.memory] * batch, encode(done)))

    def dump(self) -> Phases:
        """A memory at rest."""
        return timed(self.now, lambda: self.adapter.dump(self.memory))

    def _finish(self, decodings: list[Any]) -> None:
        for decoding in decodings:
            self.adapter.finish(decoding)


def _table(took: Mapping[tuple[str, int, int], float], lines: Mapping[str, Line]) -> Table:
    table = Table(
        "Costs of the model (ms a call, medians)",
        ["call", "batch", "characters each", "measured", "fitted"],
    )
    for (name, batch, length), seconds in took.items():
        fitted = lines[name].seconds(batch, batch * length) if name in lines else seconds
        table.add(name, batch, length or None, seconds * 1e3, fitted * 1e3)
    table.rows.sort(key=lambda row: ("step", "start", "update", "dump").index(row[0]))
    return table


def _fit(found: Mapping[tuple[str, int, int], float], name: str) -> Line:
    """Least squares of relative errors; what comes out negative is noise, and 0."""
    points = [(*key[1:], seconds) for key, seconds in found.items() if key[0] == name]
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
