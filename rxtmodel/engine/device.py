"""Decoding many answers at once on a GPU: whole steps as graphs, tokens copied while the next runs.

A step leaves each row's token on the device, where the next step takes it from. So the host need
not know a token to start the step after it: it always launches one step ahead and then waits for
the copy of the step before. A row that ends has one step in vain behind it, which nobody sees.
"""

# Shape suffixes: B rows of a batch, T tokens.

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .fused import FusedStep
from .graphs import Graphs, fill, round_up
from .plain import PlainStep
from .pool import MemoryPool
from .rows import INTEGERS, DeviceRows, flags_of
from .support import why_not

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import ReactiveTransformer
    from ..sampler import Sampler
    from .memory import MemoryVersion

_LEAST_TOKENS = 16
_MOST_QUERIES = 16
"""Queries that are read at once."""


@dataclass(slots=True)
class _Drawn:
    """Tokens of one step on their way to the host."""

    tokens_B: Tensor
    done: torch.cuda.Event | None
    values: list[int] | None = None

    def value(self, place: int) -> int:
        """The token of one row; waits for the copy."""
        if self.values is None:
            if self.done is not None:
                self.done.synchronize()
            self.values = self.tokens_B.tolist()
        return self.values[place]


@dataclass(slots=True, eq=False)
class DeviceRow:
    """One answer under way."""

    index: int
    slot: int
    length: int
    """Tokens in its cache when all launched steps are done; the last one is not there yet."""
    ahead: deque[tuple[_Drawn, int]] = field(default_factory=deque)
    """Steps that were launched, and this row's place in them."""
    ended: bool = False


class DeviceBatch:
    """Rows for up to ``max_rows`` answers of ``max_len`` tokens, query included.

    Results of a row do not depend on the other rows of its step. They may differ in the last bit
    between steps of one row and of many, which take other kernels.

    Args:
        pool: where projected memories lie.
        fused: whether to use the kernels of ``FusedStep``; None: where they can run the model.
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
            reason = why_not(model)
            if fused and reason is not None:
                raise ValueError(f"the fused kernels cannot run this model: {reason}")
            self.plain = PlainStep(model, self.rows, self.pool)
            use = reason is None if fused is None else fused
            self.fused = FusedStep(model, self.rows, self.pool) if use else None
        self.graphs = Graphs(self.rows.device)
        self._free = list(range(max_rows - 1, -1, -1))
        self._order: dict[int, tuple[list[int], Tensor]] = {}
        """Of each bucket: the rows of its last step, and the tensor that says so."""
        self._out: dict[int, Tensor] = {}
        self._queries: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        self._projected: tuple[Tensor, Tensor] | None = None

    # Rows

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
                added.append(DeviceRow(self._free.pop(), slot, 0))
            by_length: dict[int, list[int]] = {}
            for place, (ids, _, _) in enumerate(queries):
                by_length.setdefault(self._bucket_of(len(ids) - 1), []).append(place)
            for length, places in by_length.items():
                for start in range(0, len(places), _MOST_QUERIES):
                    some = places[start : start + _MOST_QUERIES]
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
            self._launch([row for row in rows if not row.ahead and self._room(row) > 0])
        return [step.value(place) for step, place in drawn]

    def remove(self, row: DeviceRow) -> None:
        """End an answer and free its row. Raises ValueError when it has ended already."""
        if row.ended:
            raise ValueError("the row has ended")
        self._end(row)

    def room(self, row: DeviceRow) -> int:
        """Tokens that ``row`` can still take."""
        return self._room(row) + len(row.ahead)

    def warm_up(self, rows: Sequence[int] = (1,), queries: Sequence[int] = (128,)) -> None:
        """Record the graphs for steps of that many rows and for queries of that many tokens, so
        that nobody waits for it later."""
        with torch.inference_mode():
            for count in rows:
                self._launch_bucket(round_up(count, self.rows.max_rows), [])
            for length in queries:
                self._read(self._bucket_of(length), [])

    # The device

    def _room(self, row: DeviceRow) -> int:
        return self.rows.max_len - row.length

    def _end(self, row: DeviceRow) -> None:
        row.ended = True
        row.ahead.clear()
        self.pool.release(row.slot)
        self._free.append(row.index)

    def _bucket_of(self, length: int) -> int:
        return round_up(max(1, length), self.rows.max_len, _LEAST_TOKENS)

    def _slot_of(self, memory: MemoryVersion) -> int:
        """A pinned slot in which the memory stands, projected now unless it was before."""
        if self.graphs.stream is not None and memory.ready is not None:
            self.graphs.stream.wait_event(memory.ready)
        slot = self.pool.find(memory)
        if slot is not None:
            return slot
        slot = self.pool.take(memory)
        if slot is None:
            raise IndexError(f"all {self.pool.size} memory slots are read by answers under way")
        try:
            with self.graphs.on_stream():
                if self.graphs.stream is not None:
                    if (written := self.pool.written(slot)) is not None:
                        self.graphs.stream.wait_event(written)
                    memory.tensor.record_stream(self.graphs.stream)
                self._project(memory.tensor, slot)
        except BaseException:
            self.pool.discard(slot)
            raise
        return slot

    def _project(self, memory_LSD: Tensor, slot: int) -> None:
        if self._projected is None:
            index = torch.tensor([self.pool.nobody], device=self.rows.device)
            self._projected = torch.empty_like(memory_LSD)[:, None], index
        source_L1SD, slots = self._projected
        work = partial(self._project_work, source_L1SD, slots)
        hush = partial(slots.fill_, self.pool.nobody)
        if not self.graphs.has("project"):
            self.graphs.run("project", work, hush)
        source_L1SD[:, 0].copy_(memory_LSD)
        fill(slots, [slot])
        self.graphs.run("project", work, hush)

    def _project_work(self, memory_L1SD: Tensor, slots: Tensor) -> None:
        self.pool.write(slots, self.model.project_memory(memory_L1SD))

    def _read(
        self, length: int, queries: Sequence[tuple[DeviceRow, Sequence[int], Sampler]]
    ) -> None:
        """Read queries of up to ``length`` tokens before their last one."""
        count = round_up(max(1, len(queries)), _MOST_QUERIES)
        nobody = [self.rows.nobody, 0, 0, self.pool.nobody, 0, 0, 0, 0]
        integers, numbers, ids = [], [], []
        for row, query, sampler in queries:
            config = sampler.config
            row.length = len(query) - 1
            values = {
                "row": row.index, "token": query[-1], "pos": len(query) - 1, "slot": row.slot,
                "flags": flags_of(config), "top_k": config.top_k, "seed": sampler.seed,
                "drawn": sampler.count,
            }  # fmt: skip
            integers.append([values[name] for name in INTEGERS])
            numbers.append(
                [config.temperature, config.top_p, config.min_p, config.repetition_penalty]
            )
            ids.append([*query[:-1], *[0] * (length - len(query) + 1)])
        missing = count - len(queries)
        integers += [nobody] * missing
        numbers += [[0.0, 1.0, 0.0, 1.0]] * missing
        ids += [[0] * length] * missing
        key = (count, length)
        with self.graphs.on_stream():
            if key not in self._queries:
                self._queries[key] = tuple(  # type: ignore[assignment]
                    torch.tensor(part, device=self.rows.device) for part in (ids, integers, numbers)
                )
            given = partial(self._fill, self._queries[key], (ids, integers, numbers))
            hush = partial(
                self._fill, self._queries[key],
                ([[0] * length] * count, [nobody] * count, [[0.0, 1.0, 0.0, 1.0]] * count),
            )  # fmt: skip
            work = partial(self._begin, *self._queries[key])
            if not self.graphs.has(("read", *key)):
                self.graphs.run(("read", *key), work, hush)
            given()
            self.graphs.run(("read", *key), work, hush)
            for row, _, sampler in queries:
                self.rows.write_wide(row.index, sampler.config, sampler.seen)

    def _fill(self, inputs: tuple[Tensor, ...], values: tuple[Any, ...]) -> None:
        for tensor, value in zip(inputs, values, strict=True):
            fill(tensor, value)

    def _begin(self, ids_BT: Tensor, integers_B8: Tensor, numbers_B4: Tensor) -> None:
        self.rows.write(integers_B8, numbers_B4)
        self.plain.read(ids_BT, integers_B8[:, 0], integers_B8[:, INTEGERS.index("slot")])

    def _launch(self, rows: Sequence[DeviceRow]) -> None:
        if not rows:
            return
        count = round_up(len(rows), self.rows.max_rows)
        drawn = self._launch_bucket(count, [row.index for row in rows])
        for place, row in enumerate(rows):
            row.ahead.append((drawn, place))
            row.length += 1

    def _launch_bucket(self, count: int, rows: list[int]) -> _Drawn:
        device = self.rows.device
        with self.graphs.on_stream():
            if count not in self._order:
                none = [self.rows.nobody] * count
                order = torch.tensor(none, device=device, dtype=torch.int32)
                self._order[count] = ([], order)
                self._out[count] = torch.zeros_like(order)
            before, order = self._order[count]
            work = partial(self._step, order, self._out[count])
            hush = partial(order.fill_, self.rows.nobody)
            if not self.graphs.has(("step", count)):
                self.graphs.run(("step", count), work, hush)
                before = []
            if rows != before:
                fill(order, rows + [self.rows.nobody] * (count - len(rows)))
                self._order[count] = (rows, order)
            self.graphs.run(("step", count), work, hush)
            out = self._out[count]
            if self.graphs.stream is None:
                return _Drawn(out.clone(), None)
            host = torch.empty(count, dtype=torch.int32, pin_memory=True)
            host.copy_(out, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
            return _Drawn(host, done)

    def _step(self, order_B: Tensor, out_B: Tensor) -> None:
        step = self.fused or self.plain
        logits_BV = step.logits(order_B)
        (self.fused or self.rows).draw(logits_BV, order_B, out_B)
