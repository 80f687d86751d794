"""The queries of one memory that wait for their turn."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ._turn import Turn
    from .events import Event
    from .log import EventLog

Busy = Literal["enqueue", "reject", "switch", "parallel"]


class Channel:
    """A conversation, seen from inside. Guarded by the machine's lock."""

    def __init__(
        self, name: str, *, busy: Busy, max_pending: int, read_only: bool, label: str
    ) -> None:
        self.name, self.max_pending = name, max_pending
        self.busy: Busy = busy
        self.read_only, self.label = read_only, label
        self.pending: deque[Turn] = deque()
        self.active = 0
        self.served = 0
        self.log: EventLog[Event] | None = None

    @property
    def precedence(self) -> tuple[int, int]:
        """Who was served longest ago comes first, then who asked first."""
        return self.served, self.pending[0].ticket


class Line:
    """Conversations with waiting queries: first come first served in each, in turn among them."""

    def __init__(self) -> None:
        self._channels: dict[Channel, None] = {}
        self._served = itertools.count(1)
        self._length = 0

    def __bool__(self) -> bool:
        return self._length > 0  # also asked without the lock

    def add(self, turn: Turn) -> None:
        """A new query, behind those of its conversation."""
        self._length += 1
        turn.channel.pending.append(turn)
        self._channels[turn.channel] = None

    def remove(self, turn: Turn) -> None:
        """It waits no longer."""
        self._length -= 1
        turn.channel.pending.remove(turn)

    def take(self, before: float) -> Turn | None:
        """The next query that was asked before ticket ``before`` and whose conversation is free."""
        best: Channel | None = None
        for channel in tuple(self._channels):
            if not channel.pending:
                del self._channels[channel]
                continue
            free = not channel.active or channel.busy == "parallel"
            if (
                free
                and channel.pending[0].ticket < before
                and (best is None or channel.precedence < best.precedence)
            ):
                best = channel
        if best is None:
            return None
        self._length -= 1
        best.served = next(self._served)
        return best.pending.popleft()
