"""Readers that pull: ``async for`` on asyncio and trio, ``for`` on a thread.

Both are what the user holds; the log knows only their cursor. Dropping one without closing it
releases the producer, with or without a garbage collection.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
import weakref
from typing import TYPE_CHECKING, Generic

import anyio
from anyio.lowlevel import current_token

from ._cursor import EMPTY, END, Cursor, E, value
from ._wake import LoopWaker, loop_here, wake
from .errors import BackpressureDeadlock

if TYPE_CHECKING:
    from types import TracebackType

    from anyio.abc import AsyncBackend

FAIR = 64
"""Events that a reader may take in a row before other tasks of its event loop get a turn."""

REST = 0.005
"""Seconds between two wake-ups of a reader, at least, while tokens come faster than that.

Waking a thread for each token makes the thread that computes the next one fight for the
interpreter lock at every operator. A reader that has just been woken therefore looks again by
itself after this time, CPython's own switch interval, and takes what came meanwhile. Only tokens
wait for it, and only after the first: any other event wakes at once, so do a crowd of tokens and a
producer that waits for the reader."""

APIECE = 100e-6
"""Seconds that each reader adds to the rest of all that an event loop wakes together.

To resume a thousand tasks takes a loop some thirty milliseconds: while it is busy with that, who
looks for every single token only keeps it busy, and gets none of them sooner."""


class _Handle(Generic[E]):
    __slots__ = ("__weakref__", "_busy", "_cursor", "_dropped")

    def __init__(self, cursor: Cursor[E]) -> None:
        self._cursor = cursor
        self._busy = False
        cursor.thread = threading.get_ident()
        # No atexit: at exit there is nobody left to release.
        self._dropped = weakref.finalize(self, cursor.log.abandon, cursor)
        self._dropped.atexit = False

    @property
    def lag(self) -> int:
        """How many events are there and not yet taken."""
        return self._cursor.log.head - self._cursor.pos

    def close(self) -> None:
        """Stop reading and release the producer. Idempotent, from any thread, never waits."""
        self._cursor.leave()
        # A Ctrl-C that meets a finaliser is lost: Python prints it and goes on.
        self._dropped.detach()

    def _enter(self) -> None:
        if self._busy:
            raise anyio.BusyResourceError("reading from")
        self._busy = True

    def _error(self) -> Exception | None:
        """The error to raise at the end: once, then the reader is simply over."""
        error, self._cursor.error = self._cursor.error, None
        return error


class AsyncCursor(_Handle[E]):
    """An async iterator over a log, on asyncio and trio; best used as ``async with``.

    Cancellation loses no event and repeats none. One task at a time may read, a second one gets
    ``anyio.BusyResourceError``; a reader stays on the event loop on which it began. Raises
    ``SlowSubscriberError`` when it was too slow for its policy, and the error of the log at its
    end. After ``break`` the producer is released when the iterator is dropped, after the
    cancellation of a task perhaps only by the next garbage collection; ``async with`` releases it
    at once.
    """

    __slots__ = ("_backend", "_taken", "_waker", "_woken")

    def __init__(self, cursor: Cursor[E]) -> None:
        super().__init__(cursor)
        self._taken = 0
        # anyio.lowlevel.checkpoint looks the backend up, for half a microsecond, at every call.
        self._backend: type[AsyncBackend] | None = None
        self._waker: LoopWaker | None = None
        self._woken = time.monotonic()  # as if woken: what was there already is taken first

    def __aiter__(self) -> AsyncCursor[E]:
        return self

    async def __anext__(self) -> E:
        self._enter()
        try:
            # Taking is the last thing that happens: after it nothing is awaited, so that a
            # cancellation cannot lose what was taken.
            if (backend := self._backend) is None:
                backend = self._backend = current_token().backend_class
            self._taken += 1
            if self._taken % FAIR:
                await backend.checkpoint_if_cancelled()
            else:
                await backend.checkpoint()
            take, now = self._cursor.take, time.monotonic
            if (item := take()) is EMPTY:
                waker = self._waker
                pause = REST if waker is None else max(REST, APIECE * waker.crowd)
                rest = self._woken + pause - now()
                if rest > 0:
                    await self._wait(rest)
                while (item := take()) is EMPTY:
                    await self._wait(None)
                self._woken = now()
        finally:
            self._busy = False
        if item is END:
            if (error := self._error()) is not None:
                raise error
            raise StopAsyncIteration
        return value(item)

    async def _wait(self, rest: float | None) -> None:
        """Until there is something to take; or to rest, for ``rest`` seconds at most."""
        cursor = self._cursor
        cursor.thread = threading.get_ident()
        waker = self._waker
        if waker is None or asyncio._get_running_loop() is not waker.loop:
            token = current_token()
            if not isinstance(token.native_token, asyncio.AbstractEventLoop):
                event = anyio.Event()
                call = functools.partial(wake, token, event.set)
                if cursor.log.park(cursor, call, rest=rest is not None):
                    with anyio.move_on_after(rest):
                        await event.wait()
                return
            waker = self._waker = LoopWaker(token.native_token)
        # On asyncio without an Event: this happens once for each token of an answer.
        if cursor.log.park(cursor, waker, rest=rest is not None):
            timer = None if rest is None else waker.loop.call_later(rest, waker.resume)
            try:
                await waker
            finally:
                if timer is not None:
                    timer.cancel()

    async def aclose(self) -> None:
        """Stop reading and release the producer. Idempotent."""
        self.close()

    async def __aenter__(self) -> AsyncCursor[E]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()


class BlockingCursor(_Handle[E]):
    """An iterator over a log for threads; best used as ``with``.

    Waits for an event at most ``timeout`` seconds, then raises ``TimeoutError``, and can go on.
    Raises ``BackpressureDeadlock`` where it would have to wait on the thread of an event loop.
    """

    __slots__ = ("_timeout", "_woken")

    def __init__(self, cursor: Cursor[E], timeout: float | None = None) -> None:
        super().__init__(cursor)
        self._timeout = timeout
        self._woken = time.monotonic()  # as if woken: what was there already is taken first

    def __iter__(self) -> BlockingCursor[E]:
        return self

    def __next__(self) -> E:
        self._enter()
        try:
            self._cursor.thread = threading.get_ident()
            take, now = self._cursor.take, time.monotonic
            if (item := take()) is EMPTY:
                rest = self._woken + REST - now()
                if rest > 0:
                    self._wait(rest)
                while (item := take()) is EMPTY:
                    self._wait(None)
                self._woken = now()
        finally:
            self._busy = False
        if item is END:
            if (error := self._error()) is not None:
                raise error
            raise StopIteration
        return value(item)

    def _wait(self, rest: float | None) -> None:
        if loop_here() is not None:
            raise BackpressureDeadlock(
                "waiting here would stop the event loop of this thread: use async for"
            )
        cursor = self._cursor
        moved = threading.Lock()
        moved.acquire()

        def wake() -> bool:
            moved.release()
            return True

        if not cursor.log.park(cursor, wake, rest=rest is not None):
            return
        if rest is not None:
            moved.acquire(timeout=rest)
        elif not moved.acquire(timeout=-1 if self._timeout is None else self._timeout):
            raise TimeoutError(f"no event for {self._timeout} seconds")

    def __enter__(self) -> BlockingCursor[E]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()
