"""From queries to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._pipeline import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable

    from .._line import Busy
    from ..events import Event
    from ..memory import ShortTermMemory
    from ._pipeline import Query


def decode(
    memory: ShortTermMemory[Any], *, conversation: str = "main", busy: Busy | None = None
) -> Callable[[Observable[str] | Observable[Query]], Observable[Event]]:
    """Answer queries from ``memory``; it stays as it is unless ``encode`` and ``attend`` follow::

        queries         --q1----q2------------------|
        decode(memory)
                        --Q1-S1-T1-A1-K1-Q2-S2-T2-A2-K2-|

    Cold: each subscription asks anew, and disposing it cancels what it asked. An interaction that
    fails is an event; the stream goes on. ``busy`` is what a query does that comes while another of
    the conversation runs, by default it waits (as concat_map does, without losing any).
    """

    def operator(source: Observable[Any]) -> Observable[Event]:
        return Stage(source, memory, depth="decoded", conversation=conversation, busy=busy)

    return operator
