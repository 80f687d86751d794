"""Lanes: threads that own a kind of work.

A lane runs actions one after another, in the order of submission, and survives every exception.
A runtime has five: *decode* (all model calls of answering), *memory* (encoder and memory attention;
the same as decode unless the model is thread-safe), *io* (stores), *clock* (timeouts only, so that
they fire while a model call hangs) and *events* (subscribers, of what happens on no other lane:
what a user's thread or the clock causes). A thread starts with its lane's first action.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from reactivex.scheduler import VirtualTimeScheduler

from ._give_way import GiveWay
from ._lane import Lane, deliver_later, log_error
from ._relief import Watch
from .errors import BackpressureDeadlock, ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import abc

    from .log import EventLog

__all__ = [
    "Lane",
    "LaneLike",
    "Lanes",
    "SchedulerLane",
    "Timer",
    "call",
    "log_error",
    "refuse_to_wait",
]

T = TypeVar("T")

_REST = 0.05
"""Seconds; see ``Lanes.rest``. Most queries come sooner after an answer, or much later."""


class Timer(Protocol):
    """A pending ``submit_later``."""

    def cancel(self) -> None:
        """Forget the action. From any thread; harmless when it ran already."""
        ...


class LaneLike(Protocol):
    """What the runtime needs of a lane."""

    def submit(self, action: Callable[[], object]) -> None:
        """Run ``action`` after all submitted before. From any thread. Raises ClosedError."""
        ...

    def submit_later(self, seconds: float, action: Callable[[], object]) -> Timer:
        """Run ``action`` once, not before ``seconds`` have passed."""
        ...

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def is_current(self) -> bool:
        """Whether waiting for this lane here would wait for oneself."""
        ...

    def close(self, timeout: float | None = None) -> bool:
        """Run what was submitted, drop timers, stop. True when the lane has stopped in time."""
        ...


def call(lane: LaneLike, function: Callable[[], T]) -> T:
    """Run ``function`` on ``lane`` and wait for its result; on the lane itself, run it directly."""
    if lane.is_current():
        return function()
    done = threading.Event()
    outcome: list[Any] = [None, None]

    def action() -> None:
        try:
            outcome[0] = function()
        except Exception as error:
            outcome[1] = error
        except BaseException:
            outcome[1] = ClosedError("the lane was interrupted")
            raise
        finally:
            done.set()

    lane.submit(action)
    done.wait()
    if outcome[1] is not None:
        try:
            raise outcome[1]
        finally:
            outcome.clear()  # breaks the cycle between the traceback and this frame
    result: T = outcome[0]
    return result


class _Disposing:
    def __init__(self, disposable: abc.DisposableBase) -> None:
        self._disposable = disposable

    def cancel(self) -> None:
        self._disposable.dispose()


class SchedulerLane:
    """Any RxPY scheduler as a lane. It must run actions one at a time, in order."""

    def __init__(
        self,
        scheduler: abc.SchedulerBase,
        on_error: Callable[[BaseException], object] = log_error,
    ) -> None:
        self._scheduler = scheduler
        self._on_error = on_error
        self._closed = False

    def _guarded(self, action: Callable[[], object]) -> Callable[..., None]:
        def run(scheduler: abc.SchedulerBase, state: Any = None) -> None:
            try:
                action()
            except Exception as error:
                self._on_error(error)

        return run

    def submit(self, action: Callable[[], object]) -> None:
        if self._closed:
            raise ClosedError("the lane is closed")
        self._scheduler.schedule(self._guarded(action))

    def submit_later(self, seconds: float, action: Callable[[], object]) -> Timer:
        if self._closed:
            raise ClosedError("the lane is closed")
        return _Disposing(self._scheduler.schedule_relative(seconds, self._guarded(action)))

    def now(self) -> float:
        return self._scheduler.to_seconds(self._scheduler.now)

    def is_current(self) -> bool:
        # In virtual time there is one thread, and it is always the one that must go on.
        return isinstance(self._scheduler, VirtualTimeScheduler)

    def close(self, timeout: float | None = None) -> bool:
        self._closed = True
        return True


def refuse_to_wait(*lanes: LaneLike, what: str) -> None:
    """Raise BackpressureDeadlock when the current thread belongs to one of ``lanes``."""
    for lane in lanes:
        if lane.is_current():
            raise BackpressureDeadlock(
                f"{what} would wait for the very lane it is called on; call it from another "
                "thread, or subscribe instead of waiting"
            )


def _to_nobody(answers: int) -> None:
    """There is no thread to give way to."""


class Lanes:
    """The lanes of one runtime. ``memory`` is ``decode`` itself unless the model is thread-safe."""

    def __init__(
        self,
        *,
        decode: LaneLike,
        memory: LaneLike,
        io: LaneLike,
        clock: LaneLike,
        events: LaneLike | None = None,
    ) -> None:
        """Without ``events``, subscribers are called by whoever appends, at once."""
        self.decode, self.memory, self.io, self.clock = decode, memory, io, clock
        self.events = events
        self.deliver = self._deliver if events is not None else None
        """How streams reach their subscribers."""
        self.inline = False
        """Lanes without threads: what waits for them has to run them."""
        self.rest = 0.0
        """Seconds for which background work that others do not wait for is put off."""
        self.give_way: Callable[[int], object] = _to_nobody
        """On the decode lane, between two steps; of how many answers the last one was."""
        self._advance: Callable[[], object] | None = None

    @classmethod
    def threads(
        cls,
        *,
        thread_safe: bool,
        on_error: Callable[[BaseException], object] = log_error,
        clock: LaneLike | None = None,
    ) -> Lanes:
        """A thread for each; ``clock`` may be one that tests set by hand."""
        decode, io, events = (Lane(name, on_error) for name in ("decode", "io", "events"))
        memory = Lane("memory", on_error) if thread_safe else decode
        rest = _REST if clock is None else 0.0
        clock = clock or Lane("clock", on_error)
        Watch(clock, dict.fromkeys((decode, memory, io, events)))
        lanes = cls(decode=decode, memory=memory, io=io, clock=clock, events=events)
        lanes.rest = rest
        lanes.give_way = GiveWay([lane for lane in (memory, io, events) if lane is not decode])
        return lanes

    @classmethod
    def on(cls, scheduler: abc.SchedulerBase) -> Lanes:
        """All on one RxPY scheduler, for instance one in virtual time."""
        lane = SchedulerLane(scheduler)
        lanes = cls(decode=lane, memory=lane, io=lane, clock=lane)
        if isinstance(scheduler, VirtualTimeScheduler):
            lanes.inline, lanes._advance = True, scheduler.start
        return lanes

    def _deliver(self, log: EventLog[Any]) -> None:
        """At the end of what a lane does just now; from any other thread on the events lane."""
        assert self.events is not None
        if not deliver_later(log):
            try:
                self.events.submit(partial(deliver_later, log))
            except ClosedError:
                log.deliver()

    def then(self, action: Callable[[], object]) -> None:
        """On the decode lane: go on with ``action`` when subscribers have got what is there."""
        if isinstance(self.decode, Lane):
            self.decode.then(action)
        else:
            action()

    def close(self, timeout: float | None = None) -> list[str]:
        """Stop all; returns the names of those that did not stop in time."""
        ends = None if timeout is None else time.monotonic() + timeout
        late = []
        for name, lane in self._named().items():
            left = None if ends is None else max(0.0, ends - time.monotonic())
            if not lane.close(left):
                late.append(name)
        return late

    def _named(self) -> dict[str, LaneLike]:
        """All of them once; the clock last, on whose timers the others rely."""
        lanes = {"decode": self.decode, "memory": self.memory, "io": self.io}
        if self.memory is self.decode:
            del lanes["memory"]
        if self.events is not None:
            lanes["events"] = self.events
        return lanes | {"clock": self.clock}

    def all(self) -> tuple[LaneLike, ...]:
        """All of them."""
        return tuple(self._named().values())

    def busy(self) -> dict[str, float]:
        """Seconds that each lane with a thread has worked."""
        named = self._named().items()
        return {name: lane.busy_seconds for name, lane in named if isinstance(lane, Lane)}

    def run(self) -> object:
        """For lanes without threads: work until nothing is left. Else nothing."""
        return self._advance() if self._advance is not None else None
