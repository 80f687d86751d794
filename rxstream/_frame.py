"""What every transition of a memory stands in: the lock, the events, and what to do afterwards."""

from __future__ import annotations

import itertools
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._engine import Engine
    from ._turn import Turn
    from .events import Event
    from .log import EventLog


class Frame:
    """One lock for one memory, its event order, and the follow-ups of a transition.

    Transitions are made inside ``with frame:``. They only note what must happen next; leaving the
    block releases the lock and then does it, so that no callback ever runs under a lock.
    """

    def __init__(self, engine: Engine, run_id: str) -> None:
        self.engine = engine
        self.log: EventLog[Event] | None = None
        self.seq = 0
        self._run_id = run_id
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._after: list[Callable[[], object]] = []
        self._dirty: dict[EventLog[Any], None] = {}
        self._urgent = False
        self._ends: list[tuple[EventLog[Any], Exception | None]] = []
        self._settle: list[Callable[[], object]] = []

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        after, dirty, ends, settle = self._after, self._dirty, self._ends, self._settle
        urgent = self._urgent
        self._dirty, self._urgent = {}, False
        if after or ends or settle:
            self._after, self._ends, self._settle = [], [], []
        self._lock.release()
        for action in after:
            action()
        try:
            if not ends:
                for log in dirty:
                    log.flush(urgent)
            else:
                self._flush_and_end(dirty, dict(ends), urgent)
        except BaseException:
            # A subscriber asks the program to end; all others still get what is theirs.
            for ended, error in ends:
                with suppress(BaseException):
                    ended.close(error)
            raise
        finally:
            for action in settle:
                action()

    def _flush_and_end(
        self,
        dirty: dict[EventLog[Any], None],
        ends: dict[EventLog[Any], Exception | None],
        urgent: bool,
    ) -> None:
        """A reader is woken once for the last event and the end: to wake it is what takes time."""
        for log in dirty:
            if log in ends:
                log.close(ends[log])
            else:
                log.flush(urgent)
        for log, error in ends.items():
            log.close(error)

    def after(self, action: Callable[[], object]) -> None:
        """Do it once the lock is released, before events are delivered."""
        self._after.append(action)

    def settle(self, action: Callable[[], object]) -> None:
        """Do it last, after events are delivered."""
        self._settle.append(action)

    def emit(self, turn: Turn, event: Event, *, urgent: bool = True) -> None:
        """Append to all streams; ``event.seq`` must come from ``next_seq``.

        What is not ``urgent`` may reach readers that rest some milliseconds later.
        """
        if urgent:
            self._urgent = True
        channel = turn.channel
        dirty = self._dirty
        turn.log.push(event)
        dirty[turn.log] = None
        if channel.log is not None:
            channel.log.push(event)
            dirty[channel.log] = None
        if self.log is not None:
            self.log.push(event)
            dirty[self.log] = None

    def push(self, log: EventLog[Any], item: object) -> None:
        """Append to one of the memory's own streams."""
        log.push(item)
        self._dirty[log] = None
        self._urgent = True

    def next_seq(self) -> int:
        self.seq += 1
        return self.seq

    def head(self, turn: Turn) -> dict[str, Any]:
        """The fields that all events share."""
        return {
            "conversation": turn.channel.name,
            "interaction": turn.id,
            "seq": self.next_seq(),
            "at": self.engine.time_ns(),
        }

    def new_id(self) -> str:
        """An id for an interaction, unique in the store."""
        return f"{self._run_id}-{next(self._ids)}"

    def is_ours(self, interaction: str) -> bool:
        """Whether that id was made here, and not by another process that has the memory open."""
        return interaction.startswith(f"{self._run_id}-")

    def end(self, log: EventLog[Any], error: Exception | None = None) -> None:
        """Close a stream, after what was pushed before is delivered."""
        self._ends.append((log, error))
