"""Batches of work: trying a batch, and then one by one; taking what a policy chose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._turn import Turn

A = TypeVar("A")
R = TypeVar("R")


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


def split(items: list[Turn], chosen: Sequence[int]) -> tuple[list[Turn], list[Turn]]:
    taken = set(chosen)
    rest = [item for i, item in enumerate(items) if i not in taken]
    return [items[i] for i in chosen], rest
