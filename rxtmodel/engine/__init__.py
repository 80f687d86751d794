"""Batched, step-wise execution of a model. Decides nothing about order.

``open_engine`` gives what suits the device: answers under way are rows of it, which join with
``add_all``, advance by a token with ``step`` and leave with ``remove``; ``encode`` and ``attend``
fold finished interactions into memories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .decode import DecodeBatch
from .gpu import DeviceEngine
from .host import HostEngine
from .memory import MemoryVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import ReactiveTransformer
    from ..sampler import Sampler

__all__ = ["DecodeBatch", "DeviceEngine", "Engine", "HostEngine", "MemoryVersion", "open_engine"]


class Engine(Protocol):
    """What both engines do. Rows and encoded interactions are handles of theirs."""

    thread_safe: bool
    """Whether ``encode`` and ``attend`` may run on another thread than the rest."""

    def warm_up(self) -> None:
        """Compile and record now what would hold everybody up when it is needed first: each size
        of a step, of queries read together, and of memories updated together."""
        ...

    def add_all(
        self, queries: Sequence[tuple[Sequence[int], MemoryVersion, Sampler]], /
    ) -> list[Any]:
        """Read queries (ids, memory, sampler); the next step draws the first tokens of answers.
        IndexError when they do not fit; then none is added."""
        ...

    def step(self, rows: Sequence[Any], /) -> list[int]:
        """The next token of each row."""
        ...

    def remove(self, row: Any, /) -> None:
        """End an answer."""
        ...

    def room(self, row: Any, /) -> int:
        """Tokens that a row can still take."""
        ...

    def limit(self, row: Any, tokens: int, /) -> None:
        """No more than so many tokens will be asked of a row: none is computed in vain."""
        ...

    def encode(self, interactions: Sequence[Sequence[int]], /) -> list[Any]:
        """Finished interactions by their ids, encoded."""
        ...

    def attend(
        self, memories: Sequence[MemoryVersion], encoded: Sequence[Any], /
    ) -> list[MemoryVersion]:
        """The next version of each memory."""
        ...


def open_engine(model: ReactiveTransformer, max_rows: int, max_len: int) -> Engine:
    """An engine for up to ``max_rows`` answers of ``max_len`` tokens, where the model is."""
    if model.embedding.weight.device.type == "cuda":
        return DeviceEngine(model, max_rows, max_len)
    return HostEngine(model, max_rows, max_len)
