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
from typing import TYPE_CHECKING, Any, Generic

from ._cursor import EMPTY, END, Cursor, E, InlineCursor, Overflow
from ._readers import AsyncCursor, BlockingCursor
from ._wake import SystemClock, elsewhere
from ._watchdog import Watchdog
from .errors import BackpressureDeadlock, ClosedError
from .events import Gap
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._wake import Clock

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

SPARE = 64
"""Events that a log keeps for ``block`` readers beyond its capacity: only the next token waits for
a reader, the end of an answer, a failure or a cancellation never does."""

CROWD = 16
"""So many events wake a reader that rests."""


class EventLog(Generic[E]):
    """The last ``capacity`` events, in one order for all readers.

    ``on_detach(left)`` is called, outside of all locks, when a reader leaves a log that is still
    open; ``left`` is the number of readers that stay. ``clock`` times ``block_timeout``.
    ``deliver(log)`` sees to it that ``log.deliver()`` is called soon, on a thread that may call
    subscribers; without it they are called by whoever appends, at once. ``check()`` raises when
    nobody may begin to read any more.
    """

    __slots__ = (
        *(
            "capacity",
            "spare",
            "size",
            "ring",
            "head",
            "closed",
            "error",
            "stalled",
            "gates",
            "lock",
        ),
        *("_readers", "_inline", "_parked", "_resting", "_on_detach", "_deliver", "_check"),
        "_watchdog",
        "__weakref__",
    )

    def __init__(
        self,
        capacity: int,
        *,
        spare: int = SPARE,
        on_detach: Callable[[int], object] | None = None,
        deliver: Callable[[EventLog[E]], object] | None = None,
        check: Callable[[], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be >= 1, not {capacity}")
        if spare < 0:
            raise ValueError(f"spare must be >= 0, not {spare}")
        self.capacity = capacity
        self.spare = spare
        self.size = capacity + spare
        self.ring: list[tuple[int, E]] = []
        """Event n with its number at n % size, so that a reader sees when it was overtaken."""
        self.head = 0
        """The number of events so far, which is the number of the next one."""
        self.closed = False
        self.error: Exception | None = None
        self.stalled: list[Callable[[], object]] = []
        """Callbacks of parked producers."""
        self.lock = threading.Lock()
        self._readers: set[Cursor[E]] = set()
        self.gates: tuple[Cursor[E], ...] = ()
        self._inline: tuple[InlineCursor[E], ...] = ()
        # A reader that stopped waiting, by cancellation or timeout, stays here until the next
        # event: waking it is harmless, and removing it would need the lock inside a finaliser.
        self._parked: dict[Cursor[E], Callable[[], bool]] = {}
        self._resting: dict[Cursor[E], Callable[[], bool]] = {}
        self._on_detach = on_detach
        self._deliver = deliver
        self._check = check
        self._watchdog = Watchdog(self, clock or SystemClock())

    # The producer's side.

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
                self.ring.append((head, event))
            else:
                self.ring[head % self.size] = (head, event)
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

    def set_aside(self) -> list[Callable[[Any], object]]:
        """Call the subscribers that are being called just now on threads of their own from now on.

        Returns their functions.
        """
        return [told for inline in self._inline if (told := inline.set_aside()) is not None]

    def _is_crowded(self) -> bool:
        oldest = self.head - min(CROWD, self.capacity)
        return any(cursor.pos <= oldest for cursor in tuple(self._resting))

    def _rouse(self) -> None:
        with self.lock:
            resting, self._resting = self._resting, {}
        self._wake(resting)

    def _wake(self, waiting: dict[Cursor[E], Callable[[], bool]]) -> None:
        for cursor, wake in waiting.items():
            if not wake():
                self.leave(cursor, ClosedError("the event loop on which this was read has ended"))

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
        _run(callbacks)
        self.flush()

    def ready(self) -> bool:
        """Whether every ``block`` reader is less than ``capacity`` events behind."""
        if self.gates and not self.closed:
            full = self.head - self.capacity
            for gate in self.gates:
                if gate.pos <= full and not gate.gone:
                    return False
        return True

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

    # The readers' side.

    def cursor(
        self,
        start: int | None = None,
        overflow: Overflow = "error",
        block_timeout: float | None = 30.0,
        *,
        replay: int | None = None,
    ) -> Cursor[E]:
        """A place in the log: event ``start``, or the last ``replay`` events, or the next one.

        A ``block`` reader that stands still for ``block_timeout`` seconds while a producer waits
        for it ends with ``SlowSubscriberError``. Raises ``ValueError`` for a start outside the log.
        """
        if self._check is not None:
            self._check()
        with self.lock:
            cursor = Cursor(self, self._place(start, replay), _checked(overflow), block_timeout)
            self._join(cursor)
        return cursor

    def subscribe(
        self,
        on_next: Callable[[Any], object] | None,
        on_error: Callable[[Exception], object] | None = None,
        on_completed: Callable[[], object] | None = None,
        *,
        start: int | None = None,
        overflow: Overflow = "error",
        block_timeout: float | None = 30.0,
        replay: int | None = None,
    ) -> InlineCursor[E]:
        """A cursor that calls functions. Call its ``drain()`` to deliver what is there already."""
        if self._check is not None:
            self._check()
        with self.lock:
            place = self._place(start, replay)
            handlers = (on_next or _ignore, on_error, on_completed)
            cursor = InlineCursor(self, place, _checked(overflow), block_timeout, handlers)
            self._join(cursor)
            self._inline = (*self._inline, cursor)
        return cursor

    @property
    def readers(self) -> int:
        """How many readers there are."""
        return len(self._readers)

    @property
    def lag(self) -> int:
        """How many events the slowest reader is behind."""
        with self.lock:
            return max((self.head - reader.pos for reader in self._readers), default=0)

    def park(self, cursor: Cursor[E], wake: Callable[[], bool], *, rest: bool = False) -> bool:
        """Have ``wake`` called at the next event or end. False: there is something to take now.

        A reader that will look again soon by itself may ``rest``: then it is called only when it
        must not wait that long, see ``flush``.
        """
        with self.lock:
            if cursor.pos != self.head or self.closed or cursor.closed:
                return False
            (self._resting if rest else self._parked)[cursor] = wake
            return True

    def release(self) -> None:
        """Let parked producers go on if the log is ready. Called by a reader that has moved."""
        if self.ready():
            with self.lock:
                callbacks = self._take_stalled()
            _run(callbacks)

    def leave(self, cursor: Cursor[E], error: Exception | None = None) -> None:
        """Remove ``cursor``; see ``Cursor.leave``."""
        with self.lock:
            if cursor.closed:
                return
            wake = self._remove(cursor)
            cursor.error = error
            callbacks = self._take_stalled() if self.ready() else []
            timer = None if self.gates else self._watchdog.cancel()
            left, is_open = len(self._readers), not self.closed
        if timer is not None:
            timer.cancel()
        if wake is not None:
            wake()
        _run(callbacks)
        if is_open and self._on_detach is not None:
            on_detach = self._on_detach
            _run([lambda: on_detach(left)])

    def abandon(self, cursor: Cursor[E]) -> None:
        """The handle of ``cursor`` was dropped. Runs in a finaliser: waits for no lock, runs no
        callback here."""
        if cursor.closed:
            return
        cursor.gone = True
        if self._on_detach is None and self.lock.acquire(blocking=False):
            try:
                if not self.stalled:
                    self._remove(cursor)
                    return
            finally:
                self.lock.release()
        elsewhere(cursor.leave)

    # Under the lock.

    def _place(self, start: int | None, replay: int | None) -> int:
        if replay is not None:
            if replay < 0:
                raise ValueError(f"replay must be >= 0, not {replay}")
            return self.head - min(replay, self.head, self.capacity)
        if start is None:
            return self.head
        if not 0 <= start <= self.head:
            raise ValueError(f"start must lie between 0 and {self.head}, not {start}")
        return start

    def _join(self, cursor: Cursor[E]) -> None:
        self._readers.add(cursor)
        if cursor.overflow == "block":
            self.gates = (*self.gates, cursor)

    def _remove(self, cursor: Cursor[E]) -> Callable[[], bool] | None:
        cursor.closed = True
        self._readers.discard(cursor)
        if cursor.overflow == "block":
            self.gates = tuple(gate for gate in self.gates if gate is not cursor)
        if isinstance(cursor, InlineCursor):
            self._inline = tuple(inline for inline in self._inline if inline is not cursor)
        return self._parked.pop(cursor, None) or self._resting.pop(cursor, None)

    def _take_stalled(self) -> list[Callable[[], object]]:
        callbacks, self.stalled = self.stalled, []
        return callbacks


def _checked(overflow: Overflow) -> Overflow:
    if overflow not in ("block", "error", "latest"):
        raise ValueError(f"overflow must be 'block', 'error' or 'latest', not {overflow!r}")
    return overflow


def _ignore(_: object) -> None:
    pass


def _run(callbacks: list[Callable[[], object]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception as error:  # It is not the error of the reader who happens to run it.
            report(error)
