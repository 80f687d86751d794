"""A bounded event log: a producer's side, and any number of readers, each with its own place.

Appending takes constant time and never waits. Memory is bounded by the capacity, whatever the
number or the speed of the readers. Each reader has chosen what happens when it falls behind:

- ``block``: the producer asks ``ready()`` before it makes the next event. When the answer is no it
  registers ``when_ready(callback)`` and gives its thread back: it parks, it does not wait.
- ``error``: this reader ends with ``SlowSubscriberError``, nobody else notices.
- ``latest``: this reader gets a ``Gap`` and goes on with the newest event.

No callback runs while a lock is held, and the calls of one subscriber never overlap.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ._cursor import EMPTY, END, Cursor, E, InlineCursor, Overflow
from ._readers import AsyncCursor, BlockingCursor
from ._readership import Readership, run_all
from .errors import BackpressureDeadlock
from .events import Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "EMPTY",
    "END",
    "AsyncCursor",
    "BlockingCursor",
    "Cursor",
    "EventLog",
    "Gap",
    "InlineCursor",
    "Overflow",
]

CROWD = 64
"""So many events wake a reader that rests."""


class EventLog(Readership[E]):
    """The last ``capacity`` events, in one order for all readers.

    ``on_detach(left)`` is called, outside of all locks, when a reader leaves a log that is still
    open; ``left`` is the number of readers that stay. ``clock`` times ``block_timeout``.
    ``deliver(log)`` sees to it that ``log.deliver()`` is called soon, on a thread that may call
    subscribers; without it they are called by whoever appends, at once. ``check()`` raises when
    nobody may begin to read any more.
    """

    __slots__ = ()

    def append(self, event: E) -> bool:
        """Store ``event`` and deliver it. False: the log is closed, the event is dropped."""
        stored = self.push(event)
        if stored:
            self.flush()
        return stored

    def extend(self, events: Iterable[E]) -> None:
        """Append all ``events``."""
        for event in events:
            self.append(event)

    def push(self, event: E) -> bool:
        """Store ``event`` only: never waits, calls nobody, may be called with locks held.

        ``flush`` must follow, without locks. False: the log is closed, the event is dropped.
        """
        with self.lock:
            if self.closed:
                return False
            head = self.head
            if head < self.size:
                self.ring.append(event)
            else:
                self.ring[head % self.size] = event
            self.head = head + 1
        return True

    def flush(self, urgent: bool = True) -> None:
        """Wake the readers that wait, and have the subscribers called. Without locks.

        Readers that rest are left alone unless it is ``urgent`` or a crowd of events waits.
        """
        if self._parked:
            with self.lock:
                parked, self._parked = self._parked, {}
            self._wake(parked)
        if self._resting and (urgent or self._is_crowded()):
            self._rouse()
        if self._inline:
            if self._deliver is None:
                self.deliver()
            else:
                self._deliver(self)

    def deliver(self) -> None:
        """Call the subscribers, on this thread, unless another one is calling them."""
        failure: BaseException | None = None
        for inline in self._inline:
            try:
                inline.drain()
            except BaseException as interrupt:  # The other subscribers still get their events.
                failure = failure or interrupt
        if failure is not None:
            raise failure

    def _is_crowded(self) -> bool:
        oldest = self.head - (CROWD if CROWD < self.capacity else self.capacity)
        for cursor in tuple(self._resting):  # asked for every token
            if cursor.pos <= oldest:
                return True
        return False

    def _rouse(self) -> None:
        with self.lock:
            resting, self._resting = self._resting, {}
        self._wake(resting)

    def close(self, error: Exception | None = None) -> None:
        """End the log: readers get what is left, then the end, or ``error``. Idempotent."""
        with self.lock:
            if self.closed:
                return
            self.error = error
            self.closed = True
            callbacks = self._take_stalled()
            timer = self._watchdog.cancel()
        if timer is not None:
            timer.cancel()
        run_all(callbacks)
        self.flush()

    def when_ready(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once: now if ready, else when the slowest ``block`` reader has moved,
        left, or run out of its ``block_timeout``, or when the log is closed. It is called without
        locks on the thread of whoever made the log ready, and should only hand over."""
        with self.lock:
            self.stalled.append(callback)
            # A reader stores its place, then looks for stalled producers; so look after the append.
            if ready := self.ready():
                self.stalled.pop()
            delay = None if ready else self._watchdog.plan(self)
        if ready:
            callback()
            return
        if self._resting:
            self._rouse()
        if delay is not None:
            self._watchdog.start(self, delay)

    def wait_ready(self) -> None:
        """Wait on this thread until ready: for producers that cannot park.

        Raises ``BackpressureDeadlock`` when this is the thread that has to read.
        """
        if self.ready():
            return
        me = threading.get_ident()
        if any(g.thread == me and self.head - g.pos >= self.capacity for g in self.gates):
            raise BackpressureDeadlock(
                "the reader is full and reads on this very thread: emit from another thread, or "
                'choose overflow="error" or overflow="latest"'
            )
        moved = threading.Lock()
        moved.acquire()
        self.when_ready(moved.release)
        moved.acquire()
