"""A lane with a thread of its own.

Subscribers are called last: an action of a lane only notes which streams have news, and they are
delivered when it is done. So a subscriber that does not return holds up nothing but the thread:
another one can take the lane over at that very place.
"""

from __future__ import annotations

import contextvars
import heapq
import itertools
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ._relief import PATIENCE
from .errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._relief import Watch
    from .log import EventLog

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
    """What a lane shares with its thread, and with the one that takes over from it."""

    def __init__(self, on_error: Callable[[BaseException], object]) -> None:
        self.lock = threading.Lock()
        self.wake = threading.Condition(self.lock)
        self.ident: int | None = None
        """The thread that works for this lane now."""
        self.ended = threading.Event()
        self.watch: Watch | None = None
        self.news: deque[EventLog[Any]] = deque()
        """To be delivered after the present action; the first one is being delivered."""
        self.delivering = 0
        """The number of the delivery under way; 0 for none."""
        self.deliveries = itertools.count(1)
        self.seen = 0
        """The delivery that the watch has seen."""
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


class _Here(threading.local):
    state: _State | None = None


_here = _Here()


def deliver_later(log: EventLog[Any]) -> bool:
    """Deliver ``log`` when the present action of this lane is done. False: this is no lane."""
    state = _here.state
    if state is None or state.watch is None:
        return False
    if not state.delivering:
        state.news.append(log)
    else:  # inside of a subscriber, from which the lane may just be taken over
        with state.lock:
            if state.ident != threading.get_ident():
                return False
            state.news.append(log)
    if not state.watch.armed:
        state.watch.arm()
    return True


def _run(state: _State) -> None:
    state.ident = threading.get_ident()
    _here.state = state
    actions = state.actions
    if state.news and not _deliver(state):  # left by the thread that had the lane before
        return
    while _wait_for_work(state):
        before, began = state.worked[0], time.monotonic()
        state.worked = before, began
        # Timers are looked at between bursts only; the clock lane has no bursts.
        while actions:
            action = actions.popleft()
            _guarded(state, action)
            del action
            if state.news and not _deliver(state):
                return
        state.worked = before + time.monotonic() - began, None
    state.ended.set()


def _guarded(state: _State, action: Callable[[], object]) -> None:
    try:
        action()
    except BaseException as error:
        try:
            state.on_error(error)
        except Exception:
            logger.exception("error handler of a lane failed")


def _deliver(state: _State) -> bool:
    """Call the subscribers of what has news. False: the lane was taken over meanwhile."""
    news, me = state.news, threading.get_ident()
    while True:
        with state.lock:
            if state.ident != me:
                return False
            if state.delivering:
                news.popleft()
            state.delivering = next(state.deliveries) if news else 0
        if not state.delivering:
            return True
        _guarded(state, news[0].deliver)


class Lane:
    """A lane with a daemon thread of its own. ``close`` joins it."""

    def __init__(self, name: str, on_error: Callable[[BaseException], object] = log_error) -> None:
        self.name = name
        self._state = _State(on_error)
        self._thread: threading.Thread | None = None

    def submit(self, action: Callable[[], object]) -> None:
        state = self._state
        if state.ident == threading.get_ident():
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
                if state.timers[0] is entry:  # else the thread wakes before it is due
                    state.wake.notify()
            elif self._thread is None:
                self._start()
        return timer

    def then(self, action: Callable[[], object]) -> None:
        """On the lane itself: run ``action`` next, once all news is delivered."""
        self._state.actions.appendleft(action)

    def _start(self) -> None:
        # An empty context: what the first caller had set must not leak into every later action.
        run = contextvars.Context().run
        self._thread = threading.Thread(
            target=run, args=(_run, self._state), name=f"rxstream-{self.name}", daemon=True
        )
        self._thread.start()

    def watch(self, watch: Watch) -> None:
        """Call subscribers at the end of actions, and have ``watch`` look after that."""
        self._state.watch = watch

    def relieve(self) -> bool:
        """Take the lane over from a subscriber that has not returned since the last time.

        The subscriber keeps the thread that it has. False when no subscriber is being called.
        """
        state = self._state
        with state.lock:
            seen, state.seen = state.seen, state.delivering
            if not state.delivering or state.delivering != seen:
                return state.delivering > 0
            held = state.news[0]
            state.ident = None
            state.delivering = 0  # its other subscribers have not got it yet: it stays the first
        for function in held.set_aside():
            logger.warning(
                "a subscriber does not return and has held the lane %r up for more than %g s: %r. "
                "It keeps its thread, and is called on threads of its own from now on",
                *(self.name, PATIENCE, function),
            )
        self._start()
        return True

    def now(self) -> float:
        return time.monotonic()

    def is_current(self) -> bool:
        return self._state.ident == threading.get_ident()

    @property
    def waits(self) -> bool:
        """Whether its thread was woken for something, and has not come to run yet."""
        return self._state.idle and bool(self._state.actions)

    @property
    def works(self) -> bool:
        """Whether it is in the middle of something."""
        return self._state.worked[1] is not None

    @property
    def busy_seconds(self) -> float:
        """Time spent in actions so far."""
        before, began = self._state.worked
        return before if began is None else before + time.monotonic() - began

    def close(self, timeout: float | None = None) -> bool:
        state = self._state
        with state.wake:
            state.closing = True
            state.timers.clear()
            state.wake.notify()
        if self._thread is None:
            return True
        if self.is_current():
            return False
        if not state.ended.wait(timeout):
            return False
        self._thread.join()  # it has nothing more to do
        state.ident = None  # another thread may get that number now
        return True
