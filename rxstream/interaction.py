"""One query, its answer, and the memory update that follows: as a stream and as a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._turn import Phase
from .events import Event
from .stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Generator
    from types import TracebackType
    from typing import Any

    from ._promise import Pending
    from ._turn import Turn
    from .answer import Answer


class Interaction(EventStream[Event]):
    """A hot, replayable ``Observable[Event]`` that runs exactly once, subscribed to or not.

    Every subscriber sees all events from ``QueryAccepted`` on, whenever it comes. The stream
    completes after ``Cancelled``, ``MemorySkipped`` and ``MemoryUpdated`` and ends with an error
    after ``Failed`` (GenerationError), ``MemoryFailed`` (MemoryUpdateError) and ``Rejected``
    (QueryRejected).

    To *dispose* a subscription is to stop listening; when the last listener goes before the answer
    is complete, the interaction is cancelled, unless it was asked with ``detach="keep"``. To
    *cancel* is to abandon it, memory untouched; to *stop* is to be content with what there is.

    ``await`` gives the answer once it is on record in the store, on asyncio and trio; ``result``
    does so for threads. All methods may be called from any thread.
    """

    def __init__(self, turn: Turn) -> None:
        super().__init__(turn.log, start=0)
        self._turn = turn

    def __repr__(self) -> str:
        return f"<Interaction {self.id} {self._turn.phase.name.lower()}>"

    @property
    def id(self) -> str:
        """Its id, as in the events."""
        return self._turn.id

    @property
    def query(self) -> str:
        """What was asked."""
        return self._turn.query

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        return self._turn.key

    @property
    def answer(self) -> Answer | None:
        """The answer, as soon as it is complete."""
        return self._turn.answer

    @property
    def is_over(self) -> bool:
        """Whether the last event has happened."""
        return self._turn.phase is Phase.OVER

    def stop(self) -> bool:
        """Complete the answer with the tokens there are; memory remembers it.

        False when nothing is being generated: still queued, or the answer is complete.
        """
        self._turn.machine.engine.check()
        return self._turn.machine.stop(self._turn)

    def cancel(self) -> bool:
        """Abandon it; memory stays as it is. After True no more tokens come.

        False, and nothing happens, when the answer is complete or the interaction is over.
        """
        self._turn.machine.engine.check()
        return self._turn.machine.cancel(self._turn)

    def result(self, timeout: float | None = None) -> Answer:
        """Wait in this thread for the answer to be complete and on record.

        Raises InteractionCancelled, GenerationError or QueryRejected when there will be none,
        TimeoutError after ``timeout`` seconds (the interaction goes on), and BackpressureDeadlock
        on a lane or an event loop, which must not wait. A failed memory update does not raise here.
        """
        self._turn.machine.engine.check()
        self._listen(1)
        try:
            return self._turn.promise.result(timeout)
        finally:
            self._listen(-1, leave=False)

    def __await__(self) -> Generator[Any, Any, Answer]:  # type: ignore[override]
        return self._answer().__await__()

    async def _answer(self) -> Answer:
        self._turn.machine.engine.check()
        self._listen(1)
        try:
            return await self._turn.promise
        finally:
            self._listen(-1)

    def when_answered(self) -> Pending[Answer]:
        """The answer as a ``Pending``, which does not count as a listener."""
        return self._turn.promise

    async def __aenter__(self) -> Interaction:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cancel()

    def _listen(self, change: int, *, leave: bool = True) -> None:
        self._turn.machine.listen(self._turn, change, leave=leave)
