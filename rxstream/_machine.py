"""One memory's queue and lease: who is accepted, who runs, how it ends."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import TYPE_CHECKING, Literal

from ._answering import Answering
from ._memorize import Memorizer
from ._turn import Phase, Turn
from .errors import ClosedError, QueryRejected
from .events import QueryAccepted, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._engine import Engine
    from ._line import Channel
    from ._memorize import Start
    from ._tenants import Tenant

Isolation = Literal["serial", "snapshot"]
OnMemoryFailure = Literal["continue", "halt"]


class Machine(Answering):
    """One memory, from inside. Public methods take the lock unless they say otherwise."""

    def __init__(
        self,
        name: str,
        engine: Engine,
        start: Start,
        *,
        isolation: Isolation,
        on_memory_failure: OnMemoryFailure,
        tenant: Tenant,
        run_id: str,
    ) -> None:
        super().__init__(engine, tenant, run_id)
        self.name = name
        self.isolation: Isolation = isolation
        self.on_memory_failure: OnMemoryFailure = on_memory_failure
        self.channels: dict[str, Channel] = {}
        self.halted = False
        self.closing = self.closed = False
        self.tickets = itertools.count(1)
        self._idle_callbacks: list[Callable[[], object]] = []
        self.memorizer = Memorizer(self, start)

    # Asking

    def ask(self, turn: Turn, refusal: QueryRejected | None) -> QueryRejected | None:
        """Accept the query, or reject it for ``refusal`` or a reason of its own."""
        channel = turn.channel
        with self:
            if self.closing:
                refusal = QueryRejected("closed", f"memory {self.name!r} is closed")
            refusal = refusal or self._refusal(turn)
            if refusal is not None:
                rejected = Rejected(
                    **self.head(turn),
                    reason=refusal.reason,
                    message=str(refusal),
                    version=self.memorizer.keys.get(turn.key) if turn.key is not None else None,
                )
                self.emit(turn, rejected)
                turn.phase = Phase.OVER
                self.end(turn.log, refusal)
                self.settle(partial(turn.promise.reject, refusal))
                self.engine.tenants.count_rejected(self.tenant, refusal.reason)
                return refusal
            if channel.busy == "switch":
                for other in (*channel.pending, *self.active):
                    if other.channel is channel:
                        self._cancel(other, "superseded")
            if turn.key is not None:
                self.keys_under_way.add(turn.key)
            turn.ticket = next(self.tickets)
            position = len(channel.pending) + channel.active
            self.emit(turn, QueryAccepted(**self.head(turn), position=position, key=turn.key))
            self.line.add(turn)
            self._arm(turn)
            self.dispatch()
            if not turn.leased:
                # Whoever holds the lease may have been interrupted before it called the lane.
                self.after(self.engine.kick)
        return None

    def _refusal(self, turn: Turn) -> QueryRejected | None:
        channel, key = turn.channel, turn.key
        if self.halted:
            return QueryRejected("halted", "a memory update failed; call memory.resume()")
        if key is not None and (key in self.keys_under_way or key in self.memorizer.keys):
            version = self.memorizer.keys.get(key)
            told = "under way" if version is None else f"applied in version {version}"
            return QueryRejected("duplicate", f"key {key!r} is {told}")
        if channel.busy == "reject" and (channel.pending or channel.active or self._leased):
            return QueryRejected("busy", f"conversation {channel.name!r} is busy")
        if channel.busy != "switch" and len(channel.pending) >= channel.max_pending:
            return QueryRejected(
                "queue_full",
                f"conversation {channel.name!r} has {len(channel.pending)} queries waiting, and "
                f"its max_pending is {channel.max_pending}; wait for some of the answers",
            )
        return self.engine.tenants.reserve(self.tenant)

    @property
    def _leased(self) -> bool:
        return self.isolation == "serial" and bool(self.active)

    # The lease: who may run

    def dispatch(self) -> None:
        """Give the lease to whoever is next. Lock held."""
        while (turn := self._next()) is not None:
            turn.leased = True
            turn.channel.active += 1
            self.active[turn] = None
            turn.since = self.engine.now()
            self.after(partial(self.engine.admit, turn))

    def _next(self) -> Turn | None:
        restorer, rebaser = self.memorizer.restorer, self.memorizer.rebaser
        if rebaser.wanted and not restorer.running:
            rebaser.start()
        if self.halted or restorer.running or rebaser.running or self._leased:
            return None
        turn = self.line.take(before=restorer.next)
        if turn is None and restorer.next < math.inf and not self.active:
            restorer.start()
        return turn

    @property
    def has_waiting(self) -> bool:
        """Whether any query waits for the lease."""
        return bool(self.line)

    # How far memory is behind

    @property
    def lag(self) -> float:
        """For how many seconds an answer has not been part of the memory. From any thread."""
        oldest = self.memorizer.updating
        return 0.0 if oldest is None else max(0.0, self.engine.now() - oldest.answered_at)

    @property
    def owed(self) -> int:
        """Answers that are not part of the memory yet. Lock held."""
        return sum(turn.phase > Phase.STARTED for turn in self.active)

    # From any thread

    def listen(self, turn: Turn, change: int, *, leave: bool = True) -> None:
        """Somebody began (1) or ceased (-1) to wait for the answer; the last to go may cancel."""
        with self:
            turn.listeners += change
        if change < 0 and leave:
            self.detached(turn, turn.log.readers)

    def detached(self, turn: Turn, left: int) -> None:
        """A listener went, ``left`` subscribers stay."""
        if left or turn.detach != "cancel" or turn.phase > Phase.STARTED:
            return
        with self:
            if not turn.listeners and not turn.log.readers:
                self._cancel(turn, "detached")

    def resume(self) -> None:
        """Go on after a failed memory update."""
        with self:
            self.halted = False
            self.dispatch()

    def close(self, *, drain: bool) -> None:
        """Refuse queries, cancel queued ones and, unless ``drain``, those being generated."""
        with self:
            self.closing = True
            for turn in self._all():
                if not drain or turn.phase is Phase.QUEUED:
                    self._cancel(turn, "shutdown")
            self.memorizer.restorer.refuse(ClosedError("the memory is closed"))
            self.check_idle()

    def abandon(self, error: Exception) -> None:
        """End whatever has not ended: the lanes are gone, or the grace is over."""
        with self:
            self.closing = True
            for turn in self._all():
                if turn.phase is Phase.QUEUED:
                    self._cancel(turn, "shutdown")
                elif turn.phase is Phase.STARTED:
                    self._fail(turn, error, "shutdown")
                else:
                    self.memorizer.failed(turn, error, "shutdown")

    def shut(self) -> None:
        """The end: complete all streams that are not of one interaction."""
        with self:
            self.closing = self.closed = True
            logs = [self.log, *(channel.log for channel in self.channels.values())]
            persister = self.memorizer.persister
            for log in logs:
                if log is not None:
                    self.end(log)
            self.end(persister.outcomes)
            self.end(persister.changes)

    def when_idle(self, callback: Callable[[], object]) -> None:
        """Call back once nothing runs."""
        with self:
            self._idle_callbacks.append(callback)
            self.check_idle()

    def _all(self) -> Iterable[Turn]:
        queued = [turn for channel in self.channels.values() for turn in channel.pending]
        return [*queued, *self.active]

    def check_idle(self) -> None:
        restorer, rebaser = self.memorizer.restorer, self.memorizer.rebaser
        busy = self.active or self.line or restorer.running or restorer.next < math.inf
        busy = busy or rebaser.wanted or rebaser.running
        if self._idle_callbacks and not busy:
            callbacks, self._idle_callbacks = self._idle_callbacks, []
            for callback in callbacks:
                self.settle(callback)
