"""Getting something to run on an event loop, on a fresh thread, or after a while."""

from __future__ import annotations

import _thread
import threading
import time
from typing import TYPE_CHECKING, Protocol

from anyio import RunFinishedError
from anyio.lowlevel import EventLoopToken, current_token

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


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


class LoopWaker:
    """What a waiting reader leaves with its log, on asyncio: called, it wakes the reader.

    One serves all waits of a reader. A call that was meant for an earlier wait may end the next
    one too early, so whoever waits must look and wait again.
    """

    __slots__ = ("_future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._future: asyncio.Future[None] | None = None

    def arm(self) -> asyncio.Future[None]:
        """What to await. On the loop, before the log gets this waker."""
        self._future = future = self.loop.create_future()
        return future

    def __call__(self) -> bool:
        """From any thread, never waits. False: the loop has ended."""
        try:
            self.loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            if self.loop.is_closed():
                return False
            raise
        return True

    def _wake(self) -> None:
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)


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
