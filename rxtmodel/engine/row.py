"""An answer under way on a CPU."""

# Shape suffixes: L layers, S slots, D width.

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ..sampler import Sampler


@dataclass(slots=True, eq=False)
class Row:
    """One answer under way. A handle: ``DecodeBatch`` moves it between rows of its slabs."""

    index: int
    pending: int
    """The last token, not yet run through the model."""
    sampler: Sampler
    end: int
    """Tokens that the cache may come to hold of it: no more are asked for."""
    said: list[int]
    """The query, and all that was drawn."""
    memory_LSD: Tensor | None = None
    """What it reads, where that is known."""
    ahead: deque[int] = field(default_factory=deque)
    """Tokens that were drawn and not yet asked for."""

    @property
    def plain(self) -> bool:
        """Whether compiled code draws its tokens without Python."""
        return self.sampler.greedy and not self.sampler.config.allowed

    def take(self, token: int) -> None:
        """What was drawn last."""
        self.pending = token
        self.said.append(token)
