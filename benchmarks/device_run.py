"""Times of a GPU, by events around work that its host launches ahead; variants by turns."""

from __future__ import annotations

import random
import statistics
import time
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Name = TypeVar("Name", bound=str)
ROUNDS = 5
LEAST_SECONDS = 0.1
"""Of a run."""


class Run:
    """As many times the work as fill some milliseconds, one right after the other: so what the host
    launches lies behind what the GPU does, as long as it takes less than that."""

    def __init__(self, work: Callable[[], object], device: str) -> None:
        self._work, self._device, self._count = work, device, 1
        work()  # compiles
        if device == "cuda":
            self._count = max(1, min(1000, round(LEAST_SECONDS / self.seconds())))

    def launched(self) -> float:
        """Seconds that the host takes to launch one; on a CPU those of the work."""
        return statistics.median(self._launch() for _ in range(3))

    def _launch(self) -> float:
        self._wait()
        began = time.perf_counter()
        self._work()
        took = time.perf_counter() - began
        self._wait()
        return took

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()

    def seconds(self) -> float:
        """Of one, on the GPU."""
        if self._device == "cpu":
            began = time.perf_counter()
            self._work()
            return time.perf_counter() - began
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(self._count):
            self._work()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / self._count


def in_turns(runs: Mapping[Name, Run], rounds: int = ROUNDS) -> list[dict[Name, float]]:
    """Seconds of each in each round."""
    order, found, draw = list(runs), [], random.Random(0)
    for _ in range(rounds):
        draw.shuffle(order)  # a device is slower after much work, and faster after little
        found.append({name: runs[name].seconds() for name in order})
    return found
