"""Fewer, larger pieces of text."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from reactivex import Observable
from reactivex.disposable import CompositeDisposable, SerialDisposable
from reactivex.scheduler import TimeoutScheduler

from ..events import Event, Token
from ..log import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import abc


class _Coalescer:
    """Collects neighbouring tokens; all that it emits goes through one log, which keeps the order
    between the source's thread and the timer's."""

    def __init__(self, seconds: float, scheduler: abc.SchedulerBase) -> None:
        self.log: EventLog[Event] = EventLog(1024)
        self.timer = SerialDisposable()
        self._seconds = seconds
        self._scheduler = scheduler
        self._lock = threading.Lock()
        self._held: list[Token] = []
        self._window = 0

    def on_next(self, event: Event) -> None:
        start, window = False, 0
        with self._lock:
            if isinstance(event, Token):
                if self._held and not _joins(self._held[-1], event):
                    self._let_go()
                start = not self._held
                self._held.append(event)
                window = self._window
            else:
                self._let_go()
                self.log.push(event)
        if start:
            self.timer.disposable = self._scheduler.schedule_relative(
                self._seconds, lambda *_: self._elapsed(window)
            )
        self.log.flush()

    def end(self, error: Exception | None = None) -> None:
        with self._lock:
            self._let_go()
        self.timer.dispose()
        self.log.close(error)

    def _elapsed(self, window: int) -> None:
        with self._lock:
            if window == self._window:  # Else these tokens are out, and the next window is open.
                self._let_go()
        self.log.flush()

    def _let_go(self) -> None:
        if self._held:
            last = self._held[-1]
            text = "".join(token.text for token in self._held)
            self.log.push(last if len(self._held) == 1 else dataclasses.replace(last, text=text))
            self._held.clear()
            self._window += 1


def _joins(last: Token, token: Token) -> bool:
    return last.interaction == token.interaction and last.channel == token.channel


def coalesce(
    ms: float, scheduler: abc.SchedulerBase | None = None
) -> Callable[[Observable[Any]], Observable[Event]]:
    """Join the tokens that come within ``ms`` milliseconds of the first of them into one::

        source         --S-T("a")-T("b")-T("c")------T("d")-A-|
        coalesce(50)
                       --S---------------------T("abc")-T("d")-A-|

    For screens and networks: the text is whole, in order, and at most ``ms`` late. The joined token
    has the ``seq``, ``index`` and ``id`` of its last part. Any other event, and the end, first lets
    go what is held. There is one timer for each window, on ``scheduler``, else on the one given to
    ``subscribe``, else on a thread. Raises ``ValueError`` unless ``ms`` is positive.
    """
    if not ms > 0:
        raise ValueError(f"ms must be positive, not {ms}")

    def operator(source: Observable[Any]) -> Observable[Event]:
        def subscribe(
            observer: abc.ObserverBase[Event], scheduler_: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = scheduler or scheduler_ or TimeoutScheduler.singleton()
            coalescer = _Coalescer(ms / 1000, clock)
            cursor = coalescer.log.subscribe(
                observer.on_next, observer.on_error, observer.on_completed
            )
            subscription = source.subscribe(
                coalescer.on_next, coalescer.end, coalescer.end, scheduler=scheduler_
            )
            return CompositeDisposable(cursor, subscription, coalescer.timer)

        return Observable(subscribe)

    return operator
