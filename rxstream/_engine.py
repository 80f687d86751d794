"""What all memories of a runtime share: model, store, lanes, and who works on them."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._decode_loop import DecodeLoop
from ._planning import Planner
from ._updates import Updates
from .errors import ClosedError, ForkedRuntimeError
from .lanes import SchedulerLane, refuse_to_wait
from .log import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._batches import Batches
    from ._tenants import Tenants
    from ._turn import Turn
    from .lanes import Lanes
    from .model import ReactiveModel
    from .scheduling import Policy
    from .store import Store


class Engine:
    """What all memories of a runtime share. Every model call is made on one of its lanes."""

    def __init__(
        self,
        model: ReactiveModel[Any],
        store: Store,
        lanes: Lanes,
        policy: Policy,
        tenants: Tenants,
    ) -> None:
        self.model, self.store, self.lanes, self.tenants = model, store, lanes, tenants
        self.forked = False
        self.now = lanes.clock.now
        self.planner = Planner(policy, self.now)
        self.time_ns: Callable[[], int] = time.time_ns
        if lanes.inline or isinstance(lanes.decode, SchedulerLane):
            self.time_ns = lambda: int(self.now() * 1e9)
        self._updates = Updates(self, shares_lane=lanes.memory is lanes.decode)
        self.loop = DecodeLoop(self, self._updates)
        self.admit, self.kick = self.loop.admit, self.loop.kick
        self._lock = threading.Lock()
        self._saves: deque[Callable[[], object]] = deque()
        self._saving = False

    # From any thread

    def check(self) -> None:
        """Raise ForkedRuntimeError in a forked child."""
        if self.forked:
            raise ForkedRuntimeError(
                "this runtime was created before os.fork(): its threads exist in the parent only. "
                "Create a runtime in the child, or start the child with spawn"
            )

    def may_wait(self) -> None:
        """Raise BackpressureDeadlock on a lane."""
        refuse_to_wait(*self.lanes.all(), what="waiting here")

    def may_open(self) -> None:
        """Raise BackpressureDeadlock on a lane, where opening a memory would wait for another."""
        if not self.lanes.inline:
            refuse_to_wait(*self.lanes.all(), what="opening a memory")

    @property
    def updates(self) -> Batches:
        """Memory updates so far."""
        return self._updates.batches

    def log(
        self, capacity: int, *, on_detach: Callable[[int], object] | None = None
    ) -> EventLog[Any]:
        """A stream of this runtime."""
        return EventLog(
            capacity,
            on_detach=on_detach,
            deliver=self.lanes.deliver,
            check=self.check,
            clock=self.lanes.clock,
        )

    def update(self, turn: Turn) -> None:
        """Compute its memory update, batched with others."""
        self._updates.add(turn)

    def on_memory(self, action: Callable[[], object]) -> None:
        with suppress(ClosedError):
            self.lanes.memory.submit(action)

    def on_dump(self, dump: Callable[[], object]) -> None:
        """Where ``model.dump`` may be called: beside the model's work if it allows that."""
        if getattr(self.model, "dump_thread_safe", False):
            self.on_io(dump)
        else:
            self.on_memory(dump)

    def on_io(self, action: Callable[[], object]) -> None:
        with suppress(ClosedError):
            self.lanes.io.submit(action)

    def save(self, dump: Callable[[], object]) -> None:
        """Store a version in the background: one at a time, so that appends to logs, for which
        memories wait, never queue behind the versions of all others."""
        with self._lock:
            if self._saving:
                self._saves.append(dump)
                return
            self._saving = True
        self.on_dump(dump)

    def saved(self) -> None:
        """What ``save`` started is over."""
        with self._lock:
            dump = self._saves.popleft() if self._saves else None
            self._saving = dump is not None
        if dump is not None:
            self.on_dump(dump)
