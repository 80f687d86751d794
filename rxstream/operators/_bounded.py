"""A bounded log behind any observable."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from .. import stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable

    from .._cursor import Overflow

T = TypeVar("T")


def bounded(
    capacity: int = 1024, overflow: Overflow = "error"
) -> Callable[[Observable[T]], stream.EventStream[T]]:
    """Put at most ``capacity`` events between an observable and each of its readers.

    The result can be iterated with ``async for`` and serves emission from several threads one event
    at a time. See ``rxstream.stream.bounded`` for the policies.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be >= 1, not {capacity}")

    def operator(source: Observable[T]) -> stream.EventStream[T]:
        return stream.bounded(source, capacity, overflow)

    return operator
