"""One stream for each interaction."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from reactivex import Observable
from reactivex.disposable import Disposable, SingleAssignmentDisposable

from ..errors import RxStreamError
from ..events import TERMINAL, Event, error_of
from ..log import EventLog
from ..stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import abc


class _Groups:
    """The open interactions of one subscription."""

    def __init__(self, capacity: int, observer: abc.ObserverBase[EventStream[Event]]) -> None:
        self._capacity = capacity
        self._observer = observer
        self._open: dict[str, EventLog[Event]] = {}
        self._lock = threading.Lock()
        self._left = False
        self.source = SingleAssignmentDisposable()

    def on_next(self, event: Event) -> None:
        name = event.interaction
        log = self._open.get(name)
        fresh = log is None
        if log is None:
            if self._left or not name:  # A restore belongs to no interaction.
                return
            log = EventLog(self._capacity, on_detach=self._on_detach)
            with self._lock:
                self._open[name] = log
        log.append(event)
        if fresh:
            self._observer.on_next(EventStream(log, start=0))
        if event.kind in TERMINAL:
            with self._lock:
                del self._open[name]
            log.close(error_of(event))

    def on_error(self, error: Exception) -> None:
        self._end(error)
        self._observer.on_error(error)

    def on_completed(self) -> None:
        self._end(None)
        self._observer.on_completed()

    def _end(self, error: Exception | None) -> None:
        with self._lock:
            logs, self._open = list(self._open.values()), {}
        for log in logs:
            log.close(error)

    def dispose(self) -> None:
        """No new interactions; those that somebody reads go on to their end."""
        self._left = True
        self._on_detach(0)

    def _on_detach(self, _: int) -> None:
        if not self._left:
            return
        with self._lock:
            unread = {name: log for name, log in self._open.items() if not log.readers}
            done = len(unread) == len(self._open)
            logs = list(self._open.values()) if done else []
        if done:
            self.source.dispose()
            for log in logs:
                log.close(_DROPPED)


_DROPPED = RxStreamError("the subscription to per_interaction() that gave this stream is disposed")


def per_interaction(
    capacity: int = 4096,
) -> Callable[[Observable[Any]], Observable[EventStream[Event]]]:
    """A stream for each interaction, which replays from its first event and ends::

        source             --Q1-S1-Q2-T1-A1-U1-D1-S2-T2-F2-|
        per_interaction()
                           --i1----i2----------------------|
                             i1: Q1-S1-T1-A1-U1-D1|
                             i2: Q2-S2-T2-F2#

    The streams end as those of ``ask()``: with an error after a failure or a rejection, else
    complete, and with the source if that ends first. ``capacity`` bounds the events kept of each.
    After the outer subscription is disposed, interactions that have a reader go on to their end.
    """

    def operator(source: Observable[Any]) -> Observable[EventStream[Event]]:
        def subscribe(
            observer: abc.ObserverBase[EventStream[Event]],
            scheduler: abc.SchedulerBase | None = None,
        ) -> abc.DisposableBase:
            groups = _Groups(capacity, observer)
            groups.source.disposable = source.subscribe(
                groups.on_next, groups.on_error, groups.on_completed, scheduler=scheduler
            )
            return Disposable(groups.dispose)

        return Observable(subscribe)

    if capacity < 1:
        raise ValueError(f"capacity must be >= 1, not {capacity}")
    return operator
