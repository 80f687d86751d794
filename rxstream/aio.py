"""Bridges between observables, async iterators and threads, on asyncio and trio.

Nothing here starts a task unless the caller hands over a task group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import anyio
from anyio.lowlevel import current_token
from reactivex import Observable, abc
from reactivex.disposable import Disposable

from ._checks import check_type
from ._wake import loop_here, wake
from .stream import EventStream, Keeping, bounded

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable

    from anyio.abc import TaskGroup

    from ._cursor import Overflow
    from ._readers import AsyncCursor, BlockingCursor
    from .events import Gap

T = TypeVar("T")


@overload
def aiter(
    source: Observable[T], *, capacity: int = ..., overflow: Keeping = ...
) -> AsyncCursor[T]: ...


@overload
def aiter(
    source: Observable[T], *, capacity: int = ..., overflow: Literal["latest"]
) -> AsyncCursor[T | Gap]: ...


def aiter(
    source: Observable[Any], *, capacity: int = 1024, overflow: Overflow = "error"
) -> AsyncCursor[Any]:
    """Iterate any observable with ``async for``; best as ``async with aiter(source) as events``.

    At most ``capacity`` events wait for the reader; an ``EventStream`` has its own capacity. With
    ``overflow="block"`` an observable that emits on another thread waits for the reader. The
    subscription begins with this call and ends with the iterator.
    """
    return _stream(source, capacity).iter(overflow=overflow)


@overload
def blocking(
    source: Observable[T],
    *,
    capacity: int = ...,
    overflow: Keeping = ...,
    timeout: float | None = ...,
) -> BlockingCursor[T]: ...


@overload
def blocking(
    source: Observable[T],
    *,
    capacity: int = ...,
    overflow: Literal["latest"],
    timeout: float | None = ...,
) -> BlockingCursor[T | Gap]: ...


def blocking(
    source: Observable[Any],
    *,
    capacity: int = 1024,
    overflow: Overflow = "error",
    timeout: float | None = None,
) -> BlockingCursor[Any]:
    """Iterate any observable with ``for``, waiting on this thread; arguments as for ``aiter``.

    Waiting for one event longer than ``timeout`` seconds raises ``TimeoutError``.
    """
    return _stream(source, capacity).blocking(overflow=overflow, timeout=timeout)


async def consume(
    source: Observable[T],
    handler: Callable[[T], Awaitable[Any]],
    *,
    concurrency: int = 1,
    capacity: int = 1024,
    overflow: Keeping = "error",
) -> None:
    """Await ``handler(event)`` for every event of ``source``; returns when the source completes.

    With ``concurrency`` above 1 that many handlers run at a time, in tasks. When a handler raises,
    the subscription is disposed, its siblings are cancelled and the error propagates (as an
    ``ExceptionGroup`` from tasks). The error of the source propagates after the handlers are done.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be >= 1, not {concurrency}")
    async with aiter(source, capacity=capacity, overflow=overflow) as events:
        if concurrency == 1:
            async for event in events:
                await handler(event)
            return
        slots = anyio.Semaphore(concurrency)
        failure: Exception | None = None

        async def run(event: T) -> None:
            try:
                await handler(event)
            finally:
                slots.release()

        async with anyio.create_task_group() as tasks:
            while True:
                # The slot first: an event that is taken has somebody to handle it.
                await slots.acquire()
                try:
                    event = await anext(events)
                except StopAsyncIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                tasks.start_soon(run, event)
        if failure is not None:
            raise failure


def from_aiter(factory: Callable[[], AsyncIterable[T]], task_group: TaskGroup) -> Observable[T]:
    """A cold observable: each subscription iterates ``factory()`` in a task of ``task_group``.

    Call it on the event loop of the task group; subscribe and dispose from any thread. The iterator
    is closed when it ends, fails or is disposed. When the task group is cancelled, observers get no
    terminal event: a subscription lives no longer than its scope.
    """
    loop = current_token()

    def subscribe(
        observer: abc.ObserverBase[T], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        scope: anyio.CancelScope | None = None  # Made, entered and cancelled on the loop.
        disposed = False

        async def pump(scope: anyio.CancelScope) -> None:
            if disposed:
                return
            with scope:
                try:
                    await _feed(factory, observer, lambda: disposed)
                except Exception as error:
                    observer.on_error(error)
                else:
                    observer.on_completed()

        def start() -> None:
            nonlocal scope
            if disposed:
                return
            scope = anyio.CancelScope()
            try:
                task_group.start_soon(pump, scope)
            except Exception as error:  # The task group is over. Raising would reach the loop.
                observer.on_error(error)

        def stop() -> None:
            if scope is not None:
                scope.cancel()

        def dispose() -> None:
            nonlocal disposed
            disposed = True
            if loop_here() == loop:
                stop()
            else:
                wake(loop, stop)

        if loop_here() == loop:
            start()
        elif not wake(loop, start):
            raise RuntimeError("the event loop of this observable has ended")
        return Disposable(dispose)

    return Observable(subscribe)


async def _feed(
    factory: Callable[[], AsyncIterable[T]],
    observer: abc.ObserverBase[T],
    disposed: Callable[[], bool],
) -> None:
    iterator = factory().__aiter__()
    try:
        async for item in iterator:
            if disposed():
                return
            observer.on_next(item)
            if disposed():
                return
    finally:
        # A generator that is not closed here would be closed by whoever collects it.
        if (aclose := getattr(iterator, "aclose", None)) is not None:
            with anyio.CancelScope(shield=True):
                await aclose()


def _stream(source: Observable[T], capacity: int) -> EventStream[T]:
    if isinstance(source, EventStream):
        return source
    check_type(source, Observable, "what is iterated")
    return bounded(source, capacity)
