"""From encoded interactions to the next version of the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._pipeline import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable

    from ..events import Event
    from ..memory import ShortTermMemory


def attend(
    memory: ShortTermMemory[Any],
) -> Callable[[Observable[Event]], Observable[Event]]:
    """Fold interactions into ``memory`` by memory attention; directly after ``encode(memory)``::

        queries                                         --q1-----q2------|
        decode(memory), encode(memory), attend(memory)
                                                        --Q1-S1-T1-A1-U1-D1-Q2-S2-T2-A2-U2-D2-|

    In order, at most once each, and on record in the store before the version counts up. Raises
    ValueError when it follows anything else.
    """

    def operator(source: Observable[Event]) -> Observable[Event]:
        if not isinstance(source, Stage):
            raise ValueError("attend() must follow encode() directly")
        return source.deeper(memory, "attended", after="encoded")

    return operator
