"""Decoding many answers at once on a GPU: whole steps as graphs, tokens copied while the next runs.

A step leaves each row's token on the device, where the next step takes it from. So the host need
not know a token to start the step after it: it always launches one step ahead and then waits for
the copy of the step before. A row that ends has one step in vain behind it, which nobody sees.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from .graphs import buckets, round_up
from .launches import MOST_QUERIES, Launches, Query
from .pool import MemoryPool
from .rows import DeviceRows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import ReactiveTransformer
    from ..sampler import Sampler
    from .handover import Letter
    from .memory import MemoryVersion

_LEAST_TOKENS = 16


@dataclass(slots=True, eq=False)
class DeviceRow:
    """One answer under way."""

    index: int
    slot: int
    length: int
    """Tokens in its cache when all launched steps are done; the last one is not there yet."""
    end: int
    """Tokens that its cache may come to hold: no more are asked for."""
    ahead: deque[tuple[Letter, int]] = field(default_factory=deque)
    """Steps that were launched, and this row's place in them."""
    ended: bool = False


class DeviceBatch:
    """Rows for up to ``max_rows`` answers of ``max_len`` tokens, query included.

    Results of a row do not depend on the other rows of its step. They may differ in the last bit
    between steps of one row and of many, which take other kernels.

    Args:
        pool: where projected memories lie.
        fused: see ``Launches``.
        lookahead: launch one step more than was asked for.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        max_rows: int,
        max_len: int,
        pool: MemoryPool | None = None,
        *,
        fused: bool | None = None,
        lookahead: bool = True,
    ) -> None:
        self.model, self.lookahead = model, lookahead
        with torch.inference_mode():
            self.rows = DeviceRows(model, max_rows, max_len)
            self.pool = pool or MemoryPool(model, 2 * max_rows)
            self.launches = Launches(model, self.rows, self.pool, fused=fused)
        self.graphs = self.launches.graphs
        self._free = list(range(max_rows - 1, -1, -1))

    @torch.inference_mode()
    def add(self, ids: Sequence[int], memory: MemoryVersion, sampler: Sampler) -> DeviceRow:
        """Read a query against a memory; the next step draws the answer's first token."""
        return self.add_all([(ids, memory, sampler)])[0]

    @torch.inference_mode()
    def add_all(
        self, queries: Sequence[tuple[Sequence[int], MemoryVersion, Sampler]]
    ) -> list[DeviceRow]:
        """Read queries, in one pass where they are of like length.

        Raises IndexError when rows or slots do not suffice, or ids do not fit; then none is added.
        """
        if len(queries) > len(self._free):
            raise IndexError(f"{len(queries)} answers need rows, {len(self._free)} are free")
        for ids, _, _ in queries:
            if not 1 <= len(ids) <= self.rows.max_len:
                raise IndexError(f"a row holds 1 to {self.rows.max_len} tokens, got {len(ids)}")
        added: list[DeviceRow] = []
        try:
            for _, memory, _ in queries:
                slot = self._slot_of(memory)
                added.append(DeviceRow(self._free.pop(), slot, 0, self.rows.max_len))
            by_length: dict[int, list[int]] = {}
            for place, (ids, _, _) in enumerate(queries):
                by_length.setdefault(self._bucket_of(len(ids) - 1), []).append(place)
            for length, places in by_length.items():
                for start in range(0, len(places), MOST_QUERIES):
                    some = places[start : start + MOST_QUERIES]
                    self._read(length, [(added[i], queries[i][0], queries[i][2]) for i in some])
        except BaseException:
            for row in added:
                self._end(row)
            raise
        return added

    @torch.inference_mode()
    def step(self, rows: Sequence[DeviceRow]) -> list[int]:
        """The next token of each of ``rows``, in their order."""
        for row in rows:
            if row.ended:
                raise ValueError("the row has ended")
        self._launch([row for row in rows if not row.ahead])
        drawn = [row.ahead.popleft() for row in rows]
        if self.lookahead:
            self._launch([row for row in rows if not row.ahead and row.length < row.end])
        tokens, last, values = [], None, []
        for letter, place in drawn:  # mostly of one step
            if letter is not last:
                last, values = letter, letter.read()
            tokens.append(values[place])
        return tokens

    def remove(self, row: DeviceRow) -> None:
        """End an answer and free its row. Raises ValueError when it has ended already."""
        if row.ended:
            raise ValueError("the row has ended")
        self._end(row)

    def room(self, row: DeviceRow) -> int:
        """Tokens that ``row`` can still take."""
        return self.rows.max_len - row.length + len(row.ahead)

    def limit(self, row: DeviceRow, tokens: int) -> None:
        """No more than so many tokens will be asked of ``row``: none is computed in vain."""
        row.end = min(self.rows.max_len, row.length - len(row.ahead) + tokens)

    @torch.inference_mode()
    def warm_up(
        self,
        rows: Sequence[int] | None = None,
        queries: Sequence[int] | None = None,
        at_once: Sequence[int] | None = None,
    ) -> None:
        """Record what steps of that many rows and ``at_once`` queries of that many tokens replay,
        so that nobody waits for it later; without numbers, of all there can be."""
        limit, initial = self.rows.max_rows, self.model.initial_memory()[:, 0].contiguous()
        with self.graphs.on_stream():
            self.launches.project(initial, self.pool.nobody)
        for count in buckets(limit) if rows is None else rows:
            self.launches.step(round_up(count, limit), [])
        some = buckets(min(MOST_QUERIES, limit)) if at_once is None else at_once
        every = [length + 1 for length in buckets(self.rows.max_len, _LEAST_TOKENS)]
        lengths = every if queries is None else queries
        for length in lengths:
            for count in some:
                self.launches.read(self._bucket_of(length - 1), [], least=count)

    def _end(self, row: DeviceRow) -> None:
        row.ended = True
        row.ahead.clear()
        self.pool.release(row.slot)
        self._free.append(row.index)

    def _bucket_of(self, length: int) -> int:
        return round_up(max(1, length), self.rows.max_len, _LEAST_TOKENS)

    def _slot_of(self, memory: MemoryVersion) -> int:
        """A pinned slot in which the memory stands, projected now unless it was before."""
        if self.graphs.queue is not None and memory.ready is not None:
            self.graphs.queue.wait(memory.ready)
        slot = self.pool.find(memory)
        if slot is not None:
            return slot
        slot = self.pool.take(memory)
        if slot is None:
            raise IndexError(f"all {self.pool.size} memory slots are read by answers under way")
        try:
            with self.graphs.on_stream():
                if self.graphs.queue is not None:
                    if (written := self.pool.written(slot)) is not None:
                        self.graphs.queue.wait(written)
                    memory.lend(self.graphs.queue.stream)
                self.launches.project(memory.tensor, slot)
        except BaseException:
            self.pool.discard(slot)
            raise
        return slot

    def _read(
        self, length: int, queries: Sequence[tuple[DeviceRow, Sequence[int], Sampler]]
    ) -> None:
        for row, ids, _ in queries:
            row.length = len(ids) - 1
        self.launches.read(
            length, [Query(ids, row.index, row.slot, sampler) for row, ids, sampler in queries]
        )

    def _launch(self, rows: Sequence[DeviceRow]) -> None:
        if not rows:
            return
        count = round_up(len(rows), self.rows.max_rows)
        drawn = self.launches.step(count, [row.index for row in rows])
        for place, row in enumerate(rows):
            row.ahead.append((drawn, place))
            row.length += 1
