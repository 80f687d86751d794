"""Batches of work: counting them; trying a batch, and then one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

A = TypeVar("A")
R = TypeVar("R")


class Batches:
    """Counts the calls of one kind and what was in them. Written by one lane."""

    __slots__ = ("calls", "cost", "items", "largest")

    def __init__(self) -> None:
        self.calls = self.items = self.largest = 0
        self.cost = 0.0
        """Seconds for each unit of size, lately."""

    def add(self, size: int) -> None:
        self.calls += 1
        self.items += size
        if size > self.largest:
            self.largest = size

    def took(self, seconds: float, size: int) -> None:
        """That a call on work of so much size lasted so long."""
        weight = 0.25 if self.cost else 1.0
        self.cost += weight * (seconds / size - self.cost)


def batched(
    name: str, function: Callable[[Any], list[R]], batch: Sequence[A]
) -> list[tuple[R | None, Exception | None]]:
    """Call a pure batched function; when it raises, one by one, so that only the guilty fails."""
    try:
        results = function(batch)
        check_size(name, batch, results)
        return [(result, None) for result in results]
    except Exception as error:
        if len(batch) == 1:
            return [(None, error)]
    return [batched(name, function, [item])[0] for item in batch]


def check_size(name: str, asked: Sequence[object], given: Sequence[object]) -> None:
    if len(asked) != len(given):
        raise RuntimeError(f"model.{name} returned {len(given)} results for {len(asked)} requests")
