"""Getting something to run on an event loop, on a fresh thread, or after a while."""

from __future__ import annotations

import _thread
import asyncio
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol

from anyio import RunFinishedError
from anyio.lowlevel import EventLoopToken, current_token

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Generator


class Timer(Protocol):
    """A pending ``Clock.submit_later``."""

    def cancel(self) -> None:
        """Forget the action."""
        ...


class Clock(Protocol):
    """Tells the time and runs an action later. Lanes and virtual clocks are clocks."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def submit_later(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Run ``action`` once, not before ``seconds`` have passed."""
        ...


class SystemClock:
    """The clock of the computer; every pending action holds a daemon thread."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def submit_later(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Start a timer thread."""
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.name = "rxstream-timer"
        timer.start()
        return timer


def loop_here() -> EventLoopToken | None:
    """The event loop that runs on this thread, asyncio's or trio's, or None."""
    try:
        return current_token()
    except RuntimeError:  # Also where a thread inherited the context of a loop, and no loop runs.
        return None


def wake(loop: EventLoopToken, action: Callable[[], object]) -> bool:
    """Run ``action`` soon on ``loop``; from any thread, never waits. False: the loop has ended."""
    try:
        loop.backend_class.run_sync_soon(action, (), loop.native_token)
    except RunFinishedError:
        return False
    return True


class _Dock:
    """Where the threads that wake readers of one loop leave them: the first one calls the loop.

    A step of the model gives a token to each of many readers. To call the loop for each would be a
    system call each, and would start the loop beside the thread that has not finished yet.
    """

    __slots__ = ("_called", "_loop", "_waiting", "__weakref__", "crowd")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._waiting: deque[LoopWaker] = deque()
        self._called = False
        self.crowd = 0
        """How many readers were woken last, in one turn of the loop."""

    def land(self, waker: LoopWaker) -> bool:
        """Resume it soon. From any thread. False: the loop has ended."""
        loop = waker.loop
        if loop.is_closed():  # perhaps with a call that it never answered
            self._waiting.clear()
            return False
        self._waiting.append(waker)  # before looking: who clears ``_called`` looks after that
        if self._called:
            return True
        self._called = True
        try:
            loop.call_soon_threadsafe(self._clear)
        except RuntimeError:
            self._called = False
            if loop.is_closed():
                return False
            raise
        return True

    def _clear(self) -> None:
        self._called = False
        waiting = self._waiting
        self.crowd = len(waiting)
        try:
            # Those that come meanwhile are of the next turn: other tasks want one, too.
            for _ in range(len(waiting)):
                waiting.popleft().resume()
        finally:
            if waiting and not self._called and (loop := self._loop()) is not None:
                self._called = True
                loop.call_soon(self._clear)


_docks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Dock] = weakref.WeakKeyDictionary()


def _dock_of(loop: asyncio.AbstractEventLoop) -> _Dock:
    """On the loop."""
    if (dock := _docks.get(loop)) is None:
        dock = _docks[loop] = _Dock(loop)
    return dock


class LoopWaker:
    """What a waiting reader leaves with its log, on asyncio: called, it wakes the reader.

    It is what the reader's task awaits, too: a future-like object (``_asyncio_future_blocking``)
    that resumes the task in the very turn of the loop that was woken. ``asyncio.Future`` takes
    another turn, which costs as much again, once for each token of an answer.

    One serves all waits of a reader. A call that was meant for an earlier wait may end the next
    one too early, so whoever waits must look and wait again.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_dock", "_resume", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._dock = _dock_of(loop)
        self._asyncio_future_blocking = False
        self._cancelled: list[object] | None = None
        self._resume: tuple[Callable[[LoopWaker], object], contextvars.Context] | None = None

    def __call__(self) -> bool:
        """From any thread, never waits. False: the loop has ended."""
        return self._dock.land(self)

    @property
    def crowd(self) -> int:
        """How many readers of this loop were woken together last."""
        return self._dock.crowd

    def resume(self) -> None:
        """On the loop: go on with the task that waits, if one does."""
        if (resume := self._resume) is not None:
            self._resume = None
            resume[1].run(resume[0], self)

    # What a task asks of that which it awaits

    def __await__(self) -> Generator[LoopWaker, None, None]:
        """Wait for the next call. On the loop, before the log gets this waker."""
        self._cancelled = None
        self._asyncio_future_blocking = True
        yield self
        self.result()

    def done(self) -> bool:
        """Whether the wait is over; asked by tools that look at what a task waits for."""
        return self._resume is None

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop on which the reader waits."""
        return self.loop

    def add_done_callback(
        self, callback: Callable[[LoopWaker], object], *, context: contextvars.Context
    ) -> None:
        """How to go on with the task."""
        self._resume = callback, context

    def cancel(self, msg: object = None) -> bool:
        """End the wait with ``CancelledError``, in a turn of its own as tasks expect."""
        if self._resume is None:
            return False
        self._cancelled = [msg]
        self.loop.call_soon(self.resume)
        return True

    def result(self) -> None:
        """Raises ``CancelledError`` when the wait was cancelled."""
        if (cancelled := self._cancelled) is not None:
            raise asyncio.CancelledError(*(m for m in cancelled if m is not None))


def elsewhere(action: Callable[[], object]) -> None:
    """Run ``action`` on a thread of its own. May be called inside a finaliser.

    A finaliser interrupts its thread anywhere, also where that thread holds a lock that ``action``
    needs, so it must not run ``action`` itself. Starting a ``threading.Thread`` takes locks of the
    threading module, which may be just the ones held; the raw start below takes none.
    """

    def start() -> None:
        threading.Thread(target=action, name="rxstream-release", daemon=True).start()

    try:
        _thread.start_new_thread(start, ())
    except RuntimeError:
        pass  # The interpreter is shutting down: nobody is left to be released.
