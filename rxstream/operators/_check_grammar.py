"""The grammar of conversations, checked on a live stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from ..events import Event
from ..grammar import GrammarChecker, GrammarViolation

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import abc

E = TypeVar("E", bound=Event)


def check_grammar(
    *, whole: bool = False, serial: bool = True
) -> Callable[[Observable[E]], Observable[E]]:
    """Pass events on unchanged, and end with ``GrammarViolation`` at the first out of place.

    ``whole``: the source is all of one memory from its first event on; ``serial``: its interactions
    exclude each other. See ``rxstream.grammar`` for what is checked.
    """

    def operator(source: Observable[E]) -> Observable[E]:
        def subscribe(
            observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            checker = GrammarChecker(whole=whole, serial=serial)
            subscription = SingleAssignmentDisposable()

            def on_next(event: E) -> None:
                try:
                    checker.check(event)
                except GrammarViolation as violation:
                    observer.on_error(violation)
                    subscription.dispose()
                else:
                    observer.on_next(event)

            subscription.disposable = source.subscribe(
                on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )
            return subscription

        return Observable(subscribe)

    return operator
