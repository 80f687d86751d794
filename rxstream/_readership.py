"""Who reads a log: joining, waiting for events, holding the producer up, leaving.

What every log has beside its producer's side, see ``log``.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic

from ._cursor import Cursor, E, InlineCursor, Overflow
from ._wake import SystemClock, elsewhere
from ._watchdog import Watchdog
from .errors import ClosedError
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._wake import Clock

SPARE = 64
"""Events that a log keeps for ``block`` readers beyond its capacity: only the next token waits for
a reader, the end of an answer, a failure or a cancellation never does."""


class Readership(Generic[E]):
    """The readers of a ring of events. Its parameters are those of ``EventLog``."""

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
        deliver: Callable[[Any], object] | None = None,
        check: Callable[[], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be >= 1, not {capacity}")
        if spare < 0:
            raise ValueError(f"spare must be >= 0, not {spare}")
        self.capacity = capacity
        self.spare = spare
        self.size = capacity + spare + 1
        self.ring: list[E] = []
        """Event n at n % size. It stays there until event n + size is pushed, so it was the right
        one if ``head`` is less than that after it was read. Events stand there by themselves, as
        each further object would cost the garbage collector as much as the event."""
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
        run_all(callbacks)
        if is_open and self._on_detach is not None:
            on_detach = self._on_detach
            run_all([lambda: on_detach(left)])

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

    # For the producer

    def ready(self) -> bool:
        """Whether every ``block`` reader is less than ``capacity`` events behind."""
        if self.gates and not self.closed:
            full = self.head - self.capacity
            for gate in self.gates:
                if gate.pos <= full and not gate.gone:
                    return False
        return True

    def release(self) -> None:
        """Let parked producers go on if the log is ready. Called by a reader that has moved."""
        if self.ready():
            with self.lock:
                callbacks = self._take_stalled()
            run_all(callbacks)

    def set_aside(self) -> list[Callable[[Any], object]]:
        """Call the subscribers that are being called just now on threads of their own from now on.

        Returns their functions.
        """
        return [told for inline in self._inline if (told := inline.set_aside()) is not None]

    def _wake(self, waiting: dict[Cursor[E], Callable[[], bool]]) -> None:
        for cursor, wake in waiting.items():
            if not wake():
                self.leave(cursor, ClosedError("the event loop on which this was read has ended"))

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


def run_all(callbacks: list[Callable[[], object]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception as error:  # It is not the error of the reader who happens to run it.
            report(error)
