"""A result that arrives later, for threads, asyncio and trio alike."""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

import anyio
import anyio.lowlevel

from .errors import BackpressureDeadlock

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType

T = TypeVar("T")


def on_event_loop() -> bool:
    """Whether the calling thread runs a task of an event loop just now."""
    try:
        anyio.lowlevel.current_token()
    except RuntimeError:
        return False
    return True


class Pending(Generic[T]):
    """Something under way: ``await`` it on an event loop, or call ``result`` from a thread.

    The work goes on whether or not anybody waits. All methods may be called from any thread.
    """

    def __init__(self, may_wait: Callable[[], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._may_wait = may_wait
        self._done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._traceback: TracebackType | None = None
        self._callbacks: list[Callable[[], object]] = []

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} belongs to a running process and cannot be pickled")

    @property
    def done(self) -> bool:
        """Whether the result, or the error, is there."""
        return self._done

    def result(self, timeout: float | None = None) -> T:
        """Wait in this thread. Raises the error of the work, or TimeoutError.

        Raises BackpressureDeadlock on a lane of the runtime and inside an event loop, where waiting
        would stop what is waited for, or everything else; use ``await`` or a callback there.
        """
        if not self._done:
            if self._may_wait is not None:
                self._may_wait()
            if on_event_loop():
                raise BackpressureDeadlock("result() would block the event loop; use await instead")
            event = threading.Event()
            remove = self.when_done(event.set)
            try:
                if not event.wait(timeout):
                    raise TimeoutError(f"no result within {timeout} s")
            finally:
                remove()
        return self._get()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        if self._done:
            await anyio.lowlevel.checkpoint()
        else:
            event, token = anyio.Event(), anyio.lowlevel.current_token()

            def wake() -> None:
                with suppress(anyio.RunFinishedError):  # nobody is left to be woken
                    token.backend_class.run_sync_soon(event.set, (), token.native_token)

            remove = self.when_done(wake)
            try:
                await event.wait()
            finally:
                remove()
        return self._get()

    def when_done(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call ``callback`` once there is a result, now if there is. Returns how to forget it."""
        with self._lock:
            if not self._done:
                self._callbacks.append(callback)
                return partial(self._forget, callback)
        callback()
        return lambda: None

    def _forget(self, callback: Callable[[], object]) -> None:
        with self._lock, suppress(ValueError):
            self._callbacks.remove(callback)

    def resolve(self, value: T) -> bool:
        """Set the result; False when there was one already."""
        return self._finish(value, None)

    def reject(self, error: BaseException) -> bool:
        """Set the error; False when there was a result already."""
        return self._finish(None, error)

    def _finish(self, value: T | None, error: BaseException | None) -> bool:
        with self._lock:
            if self._done:
                return False
            self._value, self._error, self._done = value, error, True
            self._traceback = error.__traceback__ if error is not None else None
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
        return True

    def _get(self) -> T:
        if self._error is not None:
            # Raising adds frames of the caller: those of the one before go.
            raise self._error.with_traceback(self._traceback)
        return self._value  # type: ignore[return-value]
