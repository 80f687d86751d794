"""Measuring on a noisy machine: interleaved rounds, medians, ratios taken round by round."""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from adapters.model import RxtAdapter

    Phases = dict[str, float]
    """Seconds (or counts) of one run, by name."""
    Variant = Callable[[], Phases]


class NeedsGpu(RuntimeError):
    """A case needs a CUDA device, and there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line chose."""

    adapter: RxtAdapter
    model: str
    """The same as a name or a folder."""
    rounds: int = 30
    cpu_clock: bool = False
    quick: bool = False
    """Tiny sizes, to see that a case runs; the numbers mean nothing."""

    @property
    def now(self) -> Callable[[], float]:
        """The clock, in seconds: wall time, or CPU time of all threads of the process."""
        return time.process_time if self.cpu_clock else time.perf_counter


class Samples:
    """Measurements of one variant: a list of rounds, each with its phases."""

    def __init__(self) -> None:
        self.by_round: dict[int, Phases] = {}

    def values(self, phase: str) -> list[float]:
        """All measurements of ``phase``, in the order of the rounds."""
        return [phases[phase] for phases in self.by_round.values()]

    def median(self, phase: str) -> float:
        """Median of ``phase`` over the rounds."""
        return statistics.median(self.values(phase))

    def spread(self, phase: str) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        values = self.values(phase)
        if len(values) < 4:
            return (max(values) - min(values)) / 2 / statistics.median(values)
        low, middle, high = statistics.quantiles(values, n=4)
        return (high - low) / 2 / middle

    def ratio(self, phase: str, base: Samples) -> float:
        """Median of the ratios to ``base`` in the rounds that both have."""
        return statistics.median(
            phases[phase] / base.by_round[number][phase]
            for number, phases in self.by_round.items()
            if number in base.by_round
        )

    def total(self, phase: str) -> float:
        """Sum of ``phase`` over the rounds."""
        return sum(self.values(phase))


def interleave(
    variants: Mapping[str, Variant],
    rounds: int,
    *,
    warmup: int = 1,
    seconds_each: float | None = None,
) -> dict[str, Samples]:
    """Run all variants in every round, each time in another (seeded) order.

    ``seconds_each`` bounds the time for one variant: a slow one takes part in fewer rounds, spread
    evenly, never fewer than three. Without it all variants run equally often.
    """
    order = random.Random(0)
    share: dict[str, int] = {}
    for name, variant in variants.items():
        began = time.perf_counter()
        for _ in range(warmup):
            variant()
        took = (time.perf_counter() - began) / max(1, warmup)
        share[name] = rounds
        if seconds_each is not None and warmup and took * rounds > seconds_each:
            share[name] = min(rounds, max(3, int(seconds_each / took)))
    samples = {name: Samples() for name in variants}
    for number in range(rounds):
        names = [
            name
            for name, count in share.items()
            if number * count // rounds != (number - 1) * count // rounds
        ]
        order.shuffle(names)
        for name in names:
            samples[name].by_round[number] = variants[name]()
    return samples


def timed(now: Callable[[], float], action: Callable[[], object], times: int = 1) -> Phases:
    """``{"seconds": ...}`` for one call of ``action``, the mean of ``times`` calls."""
    began = now()
    for _ in range(times):
        action()
    return {"seconds": (now() - began) / times}


def middle(runs: Iterable[Phases]) -> Phases:
    """The median of every phase over ``runs``."""
    kept = list(runs)
    return {phase: statistics.median(run[phase] for run in kept) for phase in kept[0]}


def cycle(ids: Sequence[int], length: int) -> tuple[int, ...]:
    """``ids`` repeated to exactly ``length``."""
    return tuple(ids[i % len(ids)] for i in range(length))
