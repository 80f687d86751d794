"""From complete answers to encoded interactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._pipeline import Stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable

    from ..events import Event
    from ..memory import ShortTermMemory


def encode(
    memory: ShortTermMemory[Any], *, conversation: str = "main"
) -> Callable[[Observable[Any]], Observable[Event]]:
    """Hand complete interactions to the encoder; ``attend`` folds them into ``memory``.

    Directly after ``decode(memory)``, or on an observable of ``CompletedInteraction``: then
    interactions that happened elsewhere are imported, one after another::

        interactions                            --i1----i2---------|
        encode(memory), attend(memory)
                                                --Q1-S1-A1-U1-D1-Q2-S2-A2-U2-D2-|

    Raises ValueError when it follows another operator on events, or another memory's.
    """

    def operator(source: Observable[Any]) -> Observable[Event]:
        if isinstance(source, Stage):
            return source.deeper(memory, "encoded", after="decoded")
        return Stage(source, memory, depth="encoded", conversation=conversation)

    return operator
