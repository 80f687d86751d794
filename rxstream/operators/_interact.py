"""From queries to answers and memory: the whole interaction."""

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


def interact(
    memory: ShortTermMemory[Any], *, conversation: str = "main", busy: Busy | None = None
) -> Callable[[Observable[str] | Observable[Query]], Observable[Event]]:
    """``decode(memory)``, ``encode(memory)`` and ``attend(memory)`` in one::

        queries           --q1----------q2----------------|
        interact(memory)
                          --Q1-S1-T1-A1-U1-D1-Q2-S2-T2-F2-|

    Cold, and a failed interaction does not end the stream: see ``decode``.
    """

    def operator(source: Observable[Any]) -> Observable[Event]:
        return Stage(source, memory, depth="attended", conversation=conversation, busy=busy)

    return operator
