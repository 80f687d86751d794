"""A reader's place in an event log.

``Cursor`` is the state: a number and a policy, which the log knows. A reader that pulls holds a
handle around it (``AsyncCursor``, ``BlockingCursor``), which the log does not know: a handle that
is dropped without being closed must be collectable, or it would pause a producer for ever.
"""

from __future__ import annotations

import contextvars
import enum
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeVar, cast

from ._wake import elsewhere
from .errors import SlowSubscriberError
from .events import Gap
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._readership import Readership

E = TypeVar("E")

Overflow = Literal["block", "error", "latest"]
"""What happens to a reader that falls behind: ``block`` pauses the producer, ``error`` ends the
reader with ``SlowSubscriberError``, ``latest`` gives it a ``Gap`` and the newest event."""


class Signal(enum.Enum):
    """What ``Cursor.take`` returns when it returns no event."""

    EMPTY = 0
    END = 1


EMPTY: Final = Signal.EMPTY
END: Final = Signal.END


class Cursor(Generic[E]):
    """A position in a log, made by ``EventLog.cursor``. One thread at a time takes from it.

    ``take`` never waits. Once it has returned ``END``, ``error`` is what the reader ended with.
    """

    __slots__ = (
        *("log", "pos", "overflow", "limit", "block_timeout"),
        *("closed", "gone", "error", "thread", "stalled_at", "stalled_since"),
    )

    def __init__(
        self, log: Readership[E], pos: int, overflow: Overflow, block_timeout: float | None
    ) -> None:
        self.log = log
        self.pos = pos
        self.overflow = overflow
        self.limit = log.capacity + log.spare if overflow == "block" else log.capacity
        self.block_timeout = block_timeout
        self.closed = False
        """Left the log. Written under the log's lock."""
        self.gone = False
        """The handle was dropped: gates nobody from now on, leaves the log in a moment."""
        self.error: Exception | None = None
        self.thread: int | None = None
        """The thread that takes, as far as known: it must not wait for this cursor."""
        self.stalled_at = -1
        self.stalled_since = 0.0

    def take(self) -> E | Gap | Signal:
        """The next event, or ``EMPTY``, or ``END``."""
        if self.closed:
            return END
        log, n = self.log, self.pos
        head = log.head
        if n < head:
            if head - n <= self.limit:
                event = log.ring[n % log.size]
                # Between reading head and the ring, writers may have gone around once.
                if log.head - n < log.size:
                    self.pos = n + 1
                    if log.stalled:
                        log.release()
                    return event
            return self._lapped()
        # The head that counts is the one after closing: the last event comes before the end.
        if log.closed and log.head == n:
            self.leave(log.error)
            return END
        return EMPTY

    def _lapped(self) -> Gap | Signal:
        head = self.log.head
        behind = head - self.pos
        if self.overflow == "latest":
            self.pos = head - 1
            return Gap(skipped=behind - 1)
        self.leave(
            SlowSubscriberError(
                f"{behind} events behind, and the log keeps {self.limit}: read faster, or choose "
                'overflow="latest" or overflow="block"'
            )
        )
        return END

    def leave(self, error: Exception | None = None) -> None:
        """Take no more, and hold up nobody. Idempotent, from any thread."""
        self.log.leave(self, error)


class InlineCursor(Cursor[E]):
    """Calls a subscriber on whichever thread appends, in order and one call at a time.

    The log holds it until it ends or is disposed.
    """

    __slots__ = ("_apart", "_baton", "_context", "_gating", "_handlers")

    def __init__(
        self,
        log: Readership[E],
        pos: int,
        overflow: Overflow,
        block_timeout: float | None,
        handlers: tuple[
            Callable[[Any], object],
            Callable[[Exception], object] | None,
            Callable[[], object] | None,
        ],
    ) -> None:
        super().__init__(log, pos, overflow, block_timeout)
        # Held by the thread that delivers. Tried, never waited for: who does not get it leaves
        # its events to the holder, who looks again after letting go.
        self._baton = threading.Lock()
        self._context: contextvars.Context | None = contextvars.copy_context()
        self._handlers: Any = handlers
        self._gating = overflow == "block"
        self._apart = False
        """Called on threads of its own: it has held somebody else's up."""

    def set_aside(self) -> Callable[[Any], object] | None:
        """If it is being called: its function, which is called apart from others from now on."""
        handlers = self._handlers
        if handlers is None or not self._baton.locked():
            return None
        self._apart = True
        function: Callable[[Any], object] = handlers[0]
        return function

    def dispose(self) -> None:
        """Stop listening: no call starts from now on; one in flight elsewhere completes.

        Idempotent, never waits, never raises; the subscriber's functions are released.
        """
        self._handlers = self._context = None
        self.leave()

    def drain(self) -> None:
        """Deliver what is there, unless somebody is delivering: then it is delivered there."""
        if self._apart:
            if not self._baton.locked():
                elsewhere(self._drain)
        else:
            self._drain()

    def _drain(self) -> None:
        log = self.log
        while (self.pos != log.head or log.closed) and not self.closed:
            if not self._baton.acquire(False):
                return
            try:
                context = self._context
                if context is not None:
                    if self._gating:
                        self.thread = threading.get_ident()
                    context.run(_deliver, self, log)
            finally:
                self.thread = None
                self._baton.release()

    def _end(self, handlers: Any, error: Exception | None) -> None:
        _, on_error, on_completed = handlers
        try:
            if error is None:
                if on_completed is not None:
                    on_completed()
            elif on_error is not None:
                on_error(error)
            else:
                report(error)
        except Exception as fault:
            report(fault)


def _deliver(cursor: InlineCursor[Any], log: Readership[Any]) -> None:
    """Call the subscriber of ``cursor`` until nothing is left. In its context, under its baton."""
    ring, size, limit = log.ring, log.size, cursor.limit
    while (handlers := cursor._handlers) is not None:
        # The first branch is the first branch of ``take``, without the call.
        n, head = cursor.pos, log.head
        item: Any = EMPTY
        if n < head and head - n <= limit and not cursor.closed:
            item = ring[n % size]
        if item is not EMPTY and log.head - n < size:
            cursor.pos = n + 1
            if log.stalled:
                log.release()
        elif (item := cursor.take()) is EMPTY:
            return
        elif item is END:
            cursor.dispose()
            cursor._end(handlers, cursor.error)
            return
        try:
            handlers[0](item)
        except Exception as error:
            if cursor._handlers is None:
                report(error)  # It had disposed itself: it gets no more signals.
            else:
                cursor.dispose()
                cursor._end(handlers, error)
            return
        if cursor.pos == log.head and not log.closed:
            return


def value(item: E | Gap | Signal) -> E:
    """``item`` as an event: the caller has ruled out the signals; a Gap stands for an event."""
    return cast("E", item)
