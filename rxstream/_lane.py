"""A lane with a thread of its own."""

from __future__ import annotations

import contextvars
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from .errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("rxstream")


def log_error(error: BaseException) -> None:
    """Default handler of what an action raises."""
    logger.error("unhandled error on a lane", exc_info=error)


class _Timer:
    __slots__ = ("action",)

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        self.action = None  # the heap entry stays until due, but holds nothing


class _State:
    """What the thread holds. It never holds the Lane, so that a dropped Lane can stop it."""

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self.wake = threading.Condition(threading.Lock())
        self.actions: deque[Callable[[], object]] = deque()
        self.timers: list[tuple[float, int, _Timer]] = []
        self.order = itertools.count()
        self.idle = False
        self.closing = False
        self.worked: tuple[float, float | None] = (0.0, None)
        """Seconds in finished bursts, and when the present one began."""
        self.on_error = on_error


def _wait_for_work(state: _State) -> bool:
    with state.wake:
        while True:
            timers = state.timers
            while timers and (timers[0][2].action is None or timers[0][0] <= time.monotonic()):
                action = heapq.heappop(timers)[2].action
                if action is not None:
                    state.actions.append(action)
            if state.actions:
                return True
            if state.closing:
                return False
            state.idle = True
            state.wake.wait(timers[0][0] - time.monotonic() if timers else None)
            state.idle = False


def _run(state: _State) -> None:
    actions = state.actions
    while _wait_for_work(state):
        before, began = state.worked[0], time.monotonic()
        state.worked = before, began
        # Timers are looked at between bursts only; the clock lane has no bursts.
        while actions:
            action = actions.popleft()
            try:
                action()
            except BaseException as error:
                try:
                    state.on_error(error)
                except Exception:
                    logger.exception("error handler of a lane failed")
                del error
            del action
        state.worked = before + time.monotonic() - began, None


class Lane:
    """A lane with a daemon thread of its own. ``close`` joins it."""

    def __init__(self, name: str, on_error: Callable[[BaseException], object] = log_error) -> None:
        self.name = name
        self._state = _State(on_error)
        self._thread: threading.Thread | None = None
        self._ident: int | None = None

    def submit(self, action: Callable[[], object]) -> None:
        state = self._state
        if self._ident == threading.get_ident():
            state.actions.append(action)  # its own thread is awake, and drains before it stops
            return
        with state.wake:
            if state.closing:
                raise ClosedError(f"lane {self.name!r} is closed")
            state.actions.append(action)
            if state.idle:
                state.wake.notify()
            elif self._thread is None:
                self._start()

    def submit_later(self, seconds: float, action: Callable[[], object]) -> _Timer:
        state, timer = self._state, _Timer(action)
        with state.wake:
            if state.closing:
                raise ClosedError(f"lane {self.name!r} is closed")
            entry = (time.monotonic() + max(0.0, seconds), next(state.order), timer)
            heapq.heappush(state.timers, entry)
            if state.idle:
                state.wake.notify()
            elif self._thread is None:
                self._start()
        return timer

    def _start(self) -> None:
        # An empty context: what the first caller had set must not leak into every later action.
        run = contextvars.Context().run
        self._thread = threading.Thread(
            target=run, args=(_run, self._state), name=f"rxstream-{self.name}", daemon=True
        )
        self._thread.start()
        self._ident = self._thread.ident

    def now(self) -> float:
        return time.monotonic()

    def is_current(self) -> bool:
        return self._ident == threading.get_ident()

    @property
    def busy_seconds(self) -> float:
        """Time spent in actions so far."""
        before, began = self._state.worked
        return before if began is None else before + time.monotonic() - began

    def close(self, timeout: float | None = None) -> bool:
        with self._state.wake:
            self._state.closing = True
            self._state.timers.clear()
            self._state.wake.notify()
        thread = self._thread
        if thread is None:
            return True
        if thread is threading.current_thread():
            return False
        thread.join(timeout)
        if thread.is_alive():
            return False
        self._ident = None  # another thread may get that number now
        return True
