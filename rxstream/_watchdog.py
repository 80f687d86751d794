"""Ends readers that hold a producer up for too long."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from .errors import SlowSubscriberError

if TYPE_CHECKING:
    from ._readership import Readership
    from ._wake import Clock, Timer


class Watchdog:
    """One timer for a log at most, started by the first stall.

    It runs on when the stall ends: a fast producer and a fast reader stall thousands of times in a
    second. When it fires it looks which readers stand still, and sleeps again if there are any.
    Methods marked "locked" are called under the log's lock, the others without it.
    """

    __slots__ = ("_clock", "_log", "_pending", "_timer")

    def __init__(self, log: Readership[Any], clock: Clock) -> None:
        self._log = weakref.ref(log)  # A pending timer must not keep the log alive.
        self._clock = clock
        self._pending = False
        self._timer: Timer | None = None

    def plan(self, log: Readership[Any]) -> float | None:
        """Locked. Note since when each full reader stands still.

        Returns after how many seconds ``start`` must look again; None: a timer runs, or no need to.
        """
        now = self._clock.now()
        delay: float | None = None
        for gate in log.gates:
            if gate.block_timeout is None or log.head - gate.pos < log.capacity:
                continue
            if gate.stalled_at != gate.pos:
                gate.stalled_at, gate.stalled_since = gate.pos, now
            left = max(0.0, gate.stalled_since + gate.block_timeout - now)
            delay = left if delay is None else min(delay, left)
        if delay is None or self._pending:
            return None
        self._pending = True
        return delay

    def cancel(self) -> Timer | None:
        """Locked. The timer that the caller has to cancel without the lock."""
        timer, self._timer, self._pending = self._timer, None, False
        return timer

    def start(self, log: Readership[Any], delay: float) -> None:
        """Look again in ``delay`` seconds."""
        timer = self._clock.submit_later(delay, self._fire)
        with log.lock:
            if self._pending and self._timer is None:
                self._timer = timer
                return
        timer.cancel()  # Closed, or no gate left, meanwhile.

    def _fire(self) -> None:
        if (log := self._log()) is None:
            return
        with log.lock:
            self._timer, self._pending = None, False
            if not log.stalled:
                return
            now = self._clock.now()
            late = [
                gate
                for gate in log.gates
                if gate.block_timeout is not None
                and gate.stalled_at == gate.pos
                and now - gate.stalled_since >= gate.block_timeout
            ]
        for gate in late:
            gate.leave(
                SlowSubscriberError(
                    f"held up the producer for {gate.block_timeout} seconds without reading"
                )
            )
        with log.lock:
            delay = self.plan(log) if log.stalled else None
        if delay is not None:
            self.start(log, delay)
