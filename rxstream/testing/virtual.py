"""A runtime in virtual time: one thread, no waiting, every interleaving at will."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from ..errors import ClosedError
from ..lanes import Lanes
from ..runtime import Runtime
from .fakes import FakeModel

if TYPE_CHECKING:
    from collections.abc import Callable


class _Timer:
    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        self.action = None


class VirtualLane:
    """A lane whose actions run when its :class:`Lab` says so."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.name = name
        self.actions: deque[Callable[[], object]] = deque()
        self._lab, self._closed = lab, False

    def submit(self, action: Callable[[], object]) -> None:
        if self._closed:
            raise ClosedError(f"lane {self.name!r} is closed")
        self.actions.append(action)

    def submit_later(self, seconds: float, action: Callable[[], object]) -> _Timer:
        if self._closed:
            raise ClosedError(f"lane {self.name!r} is closed")
        timer = _Timer(action)
        self._lab.add_timer(seconds, timer, self)
        return timer

    def now(self) -> float:
        return self._lab.time

    def is_current(self) -> bool:
        return True  # there is one thread, and whatever waits would wait for itself

    def close(self, timeout: float | None = None) -> bool:
        self._lab.run()
        self._closed = True
        return True


class Lab(Lanes):
    """Lanes in virtual time, and the means to drive them.

    ::

        lab = Lab()
        runtime = Runtime(FakeModel(), lanes=lab)
        it = runtime.memory("m").conversation().ask("hello")
        lab.run()          # until nothing is left to do; time stands still
        lab.advance(5)     # let time pass; timeouts fire in order

    ``choose`` gets how many lanes have work and says which goes on, so that all interleavings of
    lanes can be had from one thread. ``errors`` collects what actions raised.
    """

    def __init__(
        self, *, memory_lane: bool = False, choose: Callable[[int], int] | None = None
    ) -> None:
        self.time = 0.0
        self.errors: list[BaseException] = []
        self._timers: list[tuple[float, int, _Timer, VirtualLane]] = []
        self._order = itertools.count()
        self._choose = choose
        self._turn = 0
        decode = VirtualLane(self, "decode")
        memory = VirtualLane(self, "memory") if memory_lane else decode
        io, clock = VirtualLane(self, "io"), VirtualLane(self, "clock")
        super().__init__(decode=decode, memory=memory, io=io, clock=clock)
        self.lanes = [decode, io, clock] if memory is decode else [decode, memory, io, clock]
        self.inline = True

    def runtime(self, model: Any = None, **options: Any) -> Runtime[Any]:
        """A runtime on these lanes, by default of a fresh :class:`FakeModel`.

        What a fake model costs is virtual time.
        """
        model = FakeModel() if model is None else model
        if isinstance(model, FakeModel):
            model.sleep = self.skip
        return Runtime(model, lanes=self, **options)

    def kill(self, runtime: Runtime[Any]) -> None:
        """As ``kill -9`` would: nothing more runs, nothing is closed; the store is as it is."""
        runtime._core.closing = True  # neither its finaliser nor the end of the program close it
        for lane in self.lanes:
            lane.actions.clear()
        self._timers.clear()

    def step(self) -> bool:
        """Run one action of one lane. False when there is none."""
        ready = [lane for lane in self.lanes if lane.actions]
        if not ready:
            return False
        if self._choose is not None:
            lane = ready[self._choose(len(ready))]
        else:
            self._turn += 1
            lane = ready[self._turn % len(ready)]
        try:
            lane.actions.popleft()()
        except Exception as error:
            self.errors.append(error)
        return True

    def run(self, steps: int = 1_000_000) -> int:
        """Run actions until none is left, or so many; returns how many ran. Time stands still."""
        for done in range(steps):
            if not self.step():
                return done
        return steps

    def advance(self, seconds: float) -> None:
        """Let time pass: run all actions, and each timer when it is due."""
        end = self.time + seconds
        self.run()
        while self._timers and self._timers[0][0] <= end:
            due, _, timer, lane = heapq.heappop(self._timers)
            if timer.action is None:
                continue
            self.time = max(self.time, due)
            lane.actions.append(timer.action)
            self.run()
        self.time = max(self.time, end)  # what calls cost may have taken longer

    def skip(self, seconds: float) -> None:
        """Let time pass while everything hangs: timers that are due wait for their lanes to run."""
        self.time += seconds
        while self._timers and self._timers[0][0] <= self.time:
            _, _, timer, lane = heapq.heappop(self._timers)
            if timer.action is not None:
                lane.actions.append(timer.action)

    def add_timer(self, seconds: float, timer: _Timer, lane: VirtualLane) -> None:
        """For lanes."""
        due = self.time + max(0.0, seconds)
        heapq.heappush(self._timers, (due, next(self._order), timer, lane))


class HandClock:
    """A clock lane that stands still until ``advance``; for runtimes whose other lanes are threads.

    ::

        clock = HandClock()
        runtime = Runtime(model, lanes=Lanes.threads(thread_safe=False, clock=clock))
    """

    def __init__(self) -> None:
        self._time = 0.0
        self._lock = threading.Lock()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()

    def submit(self, action: Callable[[], object]) -> None:
        action()

    def submit_later(self, seconds: float, action: Callable[[], object]) -> _Timer:
        timer = _Timer(action)
        with self._lock:
            heapq.heappush(self._timers, (self._time + seconds, next(self._order), timer))
        return timer

    def now(self) -> float:
        return self._time

    def is_current(self) -> bool:
        return False

    def close(self, timeout: float | None = None) -> bool:
        return True

    def advance(self, seconds: float) -> None:
        """Let time pass; what is due runs here, now."""
        with self._lock:
            self._time += seconds
            due = []
            while self._timers and self._timers[0][0] <= self._time:
                due.append(heapq.heappop(self._timers)[2].action)
        for action in due:
            if action is not None:
                action()
