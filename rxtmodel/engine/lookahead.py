"""Steps of a CPU that are computed while the tokens of the last one are dealt with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..native.ahead import RunAhead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..cache import KVCache
    from ..config import TokenIds
    from ..native import NativeDecoder, NativeDeltaWrite, NativeEncoder
    from .row import Row


def worth_it() -> bool:
    """Whether there is a processor for it beside the one that deals with tokens."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) > 1
    return (os.cpu_count() or 1) > 1


class Lookahead:
    """The steps that are likely to be asked for next: of the same rows again.

    What is computed and then not asked for is not lost: a row keeps it (``Row.ahead``) until it is
    its turn, or ends. While steps are under way nothing else may touch the cache: ``settle`` first.
    Nor is the memory update after an answer that ends alone, which ``run`` begins by itself.
    """

    def __init__(
        self,
        decoder: NativeDecoder,
        cache: KVCache,
        tokens: TokenIds,
        encoder: NativeEncoder | None = None,
        write: NativeDeltaWrite | None = None,
    ) -> None:
        ends = tokens.special()
        self.run, self._cache = RunAhead(decoder, ends, encoder, write, tokens.eos), cache
        self._ends = frozenset(ends)
        self._asked: list[Row] = []
        """Of the run, in the order in which they are asked for; empty: there is none."""
        self._places: list[int] = []

    def take(self, rows: Sequence[Row]) -> list[int] | None:
        """The next tokens of ``rows``, if it is they that are under way; waits for them."""
        if not self._asked or rows != self._asked:
            return None
        if (tokens := self._take()) is None:
            self._asked = []
        return tokens

    def _take(self) -> list[int] | None:
        drawn = self.run.take()
        if drawn is None:
            return None
        lengths = self._cache.lengths
        tokens = [drawn[place] for place in self._places]
        for row, token, place in zip(self._asked, tokens, self._places, strict=True):
            row.take(token)
            lengths[place] += 1
        return tokens

    def begin(self, rows: Sequence[Row]) -> None:
        """Go on with ``rows``, if they are the first ones of the cache and have no tokens left."""
        if any(row.index >= len(rows) for row in rows):
            return
        lengths = self._cache.lengths
        most = min(row.end - lengths[row.index] for row in rows)
        if most < 1 or any(row.ahead or not row.plain or row.pending in self._ends for row in rows):
            return
        ids = [0] * len(rows)
        for row in rows:
            ids[row.index] = row.pending
        alone = rows[0] if len(rows) == 1 else None
        whole = (alone.said, alone.memory_LSD) if alone is not None else ()
        if self.run.begin(ids, lengths[: len(rows)], most, *whole):
            self._asked, self._places = list(rows), [row.index for row in rows]

    def settle(self) -> None:
        """Stop. What was computed is kept with its rows."""
        if not self._asked:
            return
        self.run.halt()
        while (tokens := self._take()) is not None:
            for row, token in zip(self._asked, tokens, strict=True):
                row.ahead.append(token)
        self._asked = []
