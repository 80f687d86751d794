"""The public type of streams: an Observable that can also be iterated, with back-pressure.

``subscribe`` and every operator of RxPY work as usual, and more safely: calls of one subscriber
never overlap, and one that raises ends itself alone. ``async for`` works on asyncio and trio.
"""

from __future__ import annotations

import inspect
import threading
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, cast, overload

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler

from . import _debug
from ._readers import AsyncCursor, BlockingCursor
from .errors import BackpressureDeadlock
from .hooks import hooks
from .log import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ._cursor import Cursor, InlineCursor, Overflow
    from .events import Gap

__all__ = ["EventStream", "bounded", "hooks"]

E = TypeVar("E")
Keeping = Literal["block", "error"]


class EventStream(Observable[E]):
    """A hot stream over an event log.

    ``start`` is where a reader begins unless it says otherwise: 0 replays everything, as an
    interaction does; None gives what comes from now on, as a conversation does.
    """

    def __init__(self, log: EventLog[E], *, start: int | None = None) -> None:
        super().__init__()
        self._log = log
        self._start = start

    def subscribe(
        self,
        on_next: abc.ObserverBase[E] | Callable[[E], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        on_completed: Callable[[], object] | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Call functions, or the methods of an observer, for every event.

        They run on a lane of the runtime (other streams: on the thread that emits), in a copy of
        the caller's context variables; what is there already is replayed on the caller's thread.
        One that does not return is left behind: others go on, see ``docs/streams.md``. One that
        raises gets its own ``on_error`` and is detached; an error that nobody handles goes to
        ``hooks.on_unhandled``. One that falls behind, being slow or re-entrant,
        gets ``SlowSubscriberError``. ``scheduler`` is accepted for RxPY's sake and not used.

        Raises ``TypeError`` for coroutine functions, which nobody would await, and for what cannot
        be called.
        """
        cursor = self._subscriber(*_checked(on_next, on_error, on_completed))
        if cursor.pos != cursor.log.head or cursor.log.closed:
            # As RxPY replays: inside a chain of operators only after the whole chain is subscribed,
            # so that take(2) can stop the replay.
            CurrentThreadScheduler.singleton().schedule(lambda *_: cursor.drain())
        return Disposable(cursor.dispose)

    def _subscribe_core(
        self, observer: abc.ObserverBase[E], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        return self.subscribe(observer, scheduler=scheduler)

    @overload
    def iter(
        self,
        *,
        overflow: Keeping = ...,
        start: int | None = ...,
        replay: int | None = ...,
        block_timeout: float | None = ...,
    ) -> AsyncCursor[E]: ...

    @overload
    def iter(
        self,
        *,
        overflow: Literal["latest"],
        start: int | None = ...,
        replay: int | None = ...,
        block_timeout: float | None = ...,
    ) -> AsyncCursor[E | Gap]: ...

    def iter(
        self,
        *,
        overflow: Overflow | None = None,
        start: int | None = None,
        replay: int | None = None,
        block_timeout: float | None = 30.0,
    ) -> AsyncCursor[Any]:
        """An async iterator and context manager, on asyncio and trio.

        ``overflow`` says what happens when the reader falls behind: ``"error"`` (default) ends it
        with ``SlowSubscriberError``, ``"block"`` pauses the producer, for at most ``block_timeout``
        seconds, ``"latest"`` skips to the newest event after a ``Gap``. ``start`` is the number of
        an event, ``replay`` how many past events to begin with; 0: only new ones.
        """
        return AsyncCursor(self._reader(overflow, start, replay, block_timeout))

    def __aiter__(self) -> AsyncCursor[E]:
        return self.iter()

    @overload
    def blocking(
        self,
        *,
        overflow: Keeping = ...,
        start: int | None = ...,
        replay: int | None = ...,
        block_timeout: float | None = ...,
        timeout: float | None = ...,
    ) -> BlockingCursor[E]: ...

    @overload
    def blocking(
        self,
        *,
        overflow: Literal["latest"],
        start: int | None = ...,
        replay: int | None = ...,
        block_timeout: float | None = ...,
        timeout: float | None = ...,
    ) -> BlockingCursor[E | Gap]: ...

    def blocking(
        self,
        *,
        overflow: Overflow | None = None,
        start: int | None = None,
        replay: int | None = None,
        block_timeout: float | None = 30.0,
        timeout: float | None = None,
    ) -> BlockingCursor[Any]:
        """An iterator and context manager for threads; arguments as for ``iter``.

        Waiting for one event longer than ``timeout`` seconds raises ``TimeoutError``.
        """
        return BlockingCursor(self._reader(overflow, start, replay, block_timeout), timeout)

    # Without this, iter() would find __getitem__ and yield Observables for ever.
    __iter__: None = None

    def __await__(self) -> Generator[Any, None, Any]:
        raise TypeError(
            f"no single result comes of {type(self).__name__}: use `async for`, or an operator"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} objects live in this process and cannot be pickled: "
            "send memory.snapshot() instead, or the events themselves"
        )

    # What ``bounded`` replaces.

    def _subscriber(self, *handlers: Any) -> InlineCursor[E]:
        return self._log.subscribe(*handlers, start=self._start)

    def _reader(
        self,
        overflow: Overflow | None,
        start: int | None,
        replay: int | None,
        block_timeout: float | None,
    ) -> Cursor[E]:
        start = self._start if start is None else start
        return self._log.cursor(start, overflow or "error", block_timeout, replay=replay)


class _Bounded(EventStream[E]):
    """Every reader has a subscription to ``source`` and a log of its own."""

    def __init__(self, source: Observable[E], capacity: int, overflow: Overflow) -> None:
        super().__init__(EventLog(capacity))  # Checks the capacity; never written.
        self._source = source
        self._overflow: Overflow = overflow

    def _open(self) -> tuple[EventLog[E], SingleAssignmentDisposable]:
        subscription = SingleAssignmentDisposable()
        log: EventLog[E] = EventLog(
            self._log.capacity, on_detach=lambda left: subscription.dispose()
        )
        return log, subscription

    def _connect(
        self, log: EventLog[E], overflow: Overflow, subscription: SingleAssignmentDisposable
    ) -> None:
        def on_next(item: E) -> None:
            if overflow == "block":
                try:
                    log.wait_ready()
                except BackpressureDeadlock as error:  # The reader's problem, not the source's.
                    log.close(error)
                    subscription.dispose()
                    return
            log.append(item)

        subscription.disposable = self._source.subscribe(on_next, log.close, log.close)

    def _subscriber(self, *handlers: Any) -> InlineCursor[E]:
        log, subscription = self._open()
        cursor = log.subscribe(*handlers, overflow=self._overflow)
        self._connect(log, self._overflow, subscription)
        return cursor

    def _reader(
        self,
        overflow: Overflow | None,
        start: int | None,
        replay: int | None,
        block_timeout: float | None,
    ) -> Cursor[E]:
        log, subscription = self._open()
        overflow = overflow or self._overflow
        cursor = log.cursor(start, overflow, block_timeout, replay=replay)
        # A source that emits while it is being subscribed must not wait for this very thread.
        cursor.thread = threading.get_ident()
        self._connect(log, overflow, subscription)
        return cursor


def bounded(
    source: Observable[E], capacity: int = 1024, overflow: Overflow = "error"
) -> EventStream[E]:
    """``source`` with at most ``capacity`` events between it and each of its readers.

    Every subscription and every iterator subscribes to ``source`` once, and disposes that
    subscription when it ends. ``"block"`` makes the emitting thread wait; where that is the thread
    that reads, the reader ends with ``BackpressureDeadlock``. Raises ``ValueError`` for a capacity
    below 1.
    """
    return _Bounded(source, capacity, overflow)


def _checked(on_next: Any, on_error: Any, on_completed: Any) -> tuple[Any, Any, Any]:
    """The three functions of a subscriber."""
    if isinstance(on_next, abc.ObserverBase) or callable(getattr(on_next, "on_next", None)):
        observer = cast("abc.ObserverBase[Any]", on_next)
        on_next, on_error, on_completed = (
            observer.on_next,
            observer.on_error,
            observer.on_completed,
        )
    for name, function in zip(
        ("on_next", "on_error", "on_completed"), (on_next, on_error, on_completed), strict=True
    ):
        if function is None:
            continue
        if not callable(function):
            raise TypeError(f"{name} must be callable, not {type(function).__name__}")
        if _is_async(function) or _is_async(getattr(function, "__call__", None)):  # noqa: B004
            raise TypeError(
                f"{name} is a coroutine function and would never be awaited: "
                "use `async for`, or rxstream.consume(stream, handler)"
            )
    return _debug.watched(on_next), on_error, on_completed


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
