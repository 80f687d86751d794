"""Choosing events by their type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from reactivex import Observable

from ..events import MemoryUpdated, Token

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import abc

T = TypeVar("T")


def of(*types: type[T]) -> Callable[[Observable[Any]], Observable[T]]:
    """Only the events of these types::

        source  --Q-S-T-T-A-U-D-|
        of(AnswerCompleted)
                ----------A-----|

    Raises ``ValueError`` without a type, ``TypeError`` for what is none.
    """
    if not types:
        raise ValueError("of() needs at least one event type")
    for each in types:
        if not isinstance(each, type):
            raise TypeError(f"of() takes types of events, such as Token, not {each!r}")

    def operator(source: Observable[Any]) -> Observable[T]:
        def subscribe(
            observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            def on_next(event: Any) -> None:
                if isinstance(event, types):
                    observer.on_next(event)

            return source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )

        return Observable(subscribe)

    return operator


def tokens() -> Callable[[Observable[Any]], Observable[Token]]:
    """Only the tokens, of all channels."""
    return of(Token)


def memory_updates() -> Callable[[Observable[Any]], Observable[MemoryUpdated]]:
    """Only the events that tell of a new memory version."""
    return of(MemoryUpdated)
