"""What a device is given to do while answers are under way, each kind of work as graphs.

A step leaves each row's token on the device, where the next step takes it from, and on its way to
the host, which can launch the step after it before it knows the token.
"""

# Shape suffixes: B rows of a batch, T tokens, L layers, S slots, D width.

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .alone import alone
from .fused import FusedStep
from .fused_read import FusedRead
from .graphs import Graphs, fill, round_up
from .plain import PlainStep
from .rows import INTEGERS, DeviceRows, flags_of
from .support import why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from ..model import ReactiveTransformer
    from ..sampler import Sampler
    from .pool import MemoryPool

MOST_QUERIES = 16
"""Queries that are read at once."""


@dataclass(slots=True)
class Drawn:
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


@dataclass(frozen=True, slots=True)
class Query:
    """A query that begins an answer: its ids, and the row and the slot of its memory."""

    ids: Sequence[int]
    row: int
    slot: int
    sampler: Sampler


class Launches:
    """Steps, queries and projections of memories, on one stream.

    Args:
        fused: whether to use the kernels of ``FusedStep`` and ``FusedRead``; None: where they can
            run the model.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        rows: DeviceRows,
        pool: MemoryPool,
        *,
        fused: bool | None = None,
    ) -> None:
        self.model, self.rows, self.pool = model, rows, pool
        reason = why_not(model)
        if fused and reason is not None:
            raise ValueError(f"the fused kernels cannot run this model: {reason}")
        self.plain = PlainStep(model, rows, pool)
        use = reason is None if fused is None else fused
        self.fused = FusedStep(model, rows, pool) if use else None
        self._read: Callable[[Tensor, Tensor, Tensor], None] = self.plain.read
        if self.fused is not None:
            self._read = FusedRead(self.fused.layers, rows, pool)
        self.graphs = Graphs(rows.device)
        self._order: dict[int, tuple[list[int], Tensor]] = {}
        """Of each bucket: the rows of its last step, and the tensor that says so."""
        self._out: dict[int, Tensor] = {}
        self._queries: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}
        self._projected: tuple[Tensor, Tensor] | None = None

    def project(self, memory_LSD: Tensor, slot: int) -> None:
        """What the decoder reads of a memory, into a slot of the pool."""
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

    def read(self, length: int, queries: Sequence[Query], *, least: int = 1) -> None:
        """Read queries of up to ``length`` tokens before their last one, in a bucket of ``least``
        or more."""
        count = round_up(max(least, len(queries)), MOST_QUERIES)
        nobody = [self.rows.nobody, 0, 0, self.pool.nobody, 0, 0, 0, 0]
        integers, numbers, ids = [], [], []
        for query in queries:
            config, before = query.sampler.config, len(query.ids) - 1
            values = {
                "row": query.row, "token": query.ids[-1], "pos": before, "slot": query.slot,
                "flags": flags_of(config), "top_k": config.top_k, "seed": query.sampler.seed,
                "drawn": query.sampler.count,
            }  # fmt: skip
            integers.append([values[name] for name in INTEGERS])
            numbers.append(
                [config.temperature, config.top_p, config.min_p, config.repetition_penalty]
            )
            ids.append([*query.ids[:-1], *[0] * (length - before)])
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
            for query in queries:
                self.rows.write_wide(query.row, query.sampler.config, query.sampler.seen)

    def _fill(self, inputs: tuple[Tensor, ...], values: tuple[Any, ...]) -> None:
        for tensor, value in zip(inputs, values, strict=True):
            fill(tensor, value)

    def _begin(self, ids_BT: Tensor, integers_B8: Tensor, numbers_B4: Tensor) -> None:
        self.rows.write(integers_B8, numbers_B4)
        self._read(ids_BT, integers_B8[:, 0], integers_B8[:, INTEGERS.index("slot")])

    def step(self, count: int, rows: list[int]) -> Drawn:
        """The next token of each of ``rows``, in a bucket of ``count``."""
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
            with self._alone(count):
                if not self.graphs.has(("step", count)):
                    self.graphs.run(("step", count), work, hush)
                    before = []
                if rows != before:
                    fill(order, rows + [self.rows.nobody] * (count - len(rows)))
                    self._order[count] = (rows, order)
                self.graphs.run(("step", count), work, hush)
            out = self._out[count]
            if self.graphs.stream is None:
                return Drawn(out.clone(), None)
            host = torch.empty(count, dtype=torch.int32, pin_memory=True)
            host.copy_(out, non_blocking=True)
            done = torch.cuda.Event()
            done.record()
            return Drawn(host, done)

    def _alone(self, count: int) -> AbstractContextManager[Any]:
        stream = self.graphs.stream
        if stream is None or self.fused is None or not self.fused.goes_whole(count):
            return nullcontext()
        return alone(stream)

    def _step(self, order_B: Tensor, out_B: Tensor) -> None:
        if self.fused is not None:
            self.fused.step(order_B, out_B)
        else:
            self.rows.draw(self.plain.logits(order_B), order_B, out_B)
