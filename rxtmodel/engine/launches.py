"""What a device is given to do while answers are under way, each kind of work as graphs.

A step leaves each row's token on the device, where the next step takes it from, and on its way to
the host, which can launch the step after it before it knows the token.
"""

# Shape suffixes: B rows of a batch, T tokens, L layers, S slots, D width.

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .alone import alone
from .fused import FusedStep
from .fused_read import FusedRead
from .graphs import Graphs, put, put_rows, round_up
from .handover import Inbox, Outbox
from .plain import PlainStep
from .rows import INTEGERS, NUMBERS, DeviceRows, flags_of
from .support import why_not

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from ..model import ReactiveTransformer
    from ..sampler import Sampler
    from .driver import Queue
    from .handover import Letter
    from .pool import MemoryPool

MOST_QUERIES = 16
"""Queries that are read at once."""


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
        self._steps: dict[int, _Steps] = {}
        self._queries: dict[tuple[int, int], tuple[Inbox, Callable[[], None]]] = {}
        self._projected: tuple[Tensor, Inbox] | None = None

    def project(self, memory_LSD: Tensor, slot: int) -> None:
        """What the decoder reads of a memory, into a slot of the pool."""
        if self._projected is None:
            index = torch.tensor([self.pool.nobody], device=self.rows.device)
            inbox = Inbox(index, self.graphs.queue)
            self._projected = torch.empty_like(memory_LSD)[:, None], inbox
        source_L1SD, slots = self._projected
        work = partial(self._project_work, source_L1SD, slots.tensor)
        hush = partial(slots.tensor.fill_, self.pool.nobody)
        if not self.graphs.has("project"):
            self.graphs.run("project", work, hush)
        source_L1SD[:, 0].copy_(memory_LSD)
        put(slots.open(), 0, "q", (slot,))
        slots.send()
        self.graphs.run("project", work, hush)

    def _project_work(self, memory_L1SD: Tensor, slots: Tensor) -> None:
        self.pool.write(slots, self.model.project_memory(memory_L1SD))

    def read(self, length: int, queries: Sequence[Query], *, least: int = 1) -> None:
        """Read queries of up to ``length`` tokens before their last one, in a bucket of ``least``
        or more."""
        count = round_up(max(least, len(queries)), MOST_QUERIES)
        key = (count, length)
        with self.graphs.on_stream():
            if key not in self._queries:
                size = count * (8 * length + 8 * len(INTEGERS) + 4 * len(NUMBERS))
                inputs = torch.zeros(size, dtype=torch.uint8, device=self.rows.device)
                work = partial(self._begin, *_parts(inputs, key))
                self._queries[key] = Inbox(inputs, self.graphs.queue), work
            inbox, work = self._queries[key]
            hush = partial(self._give, inbox, key, ())
            if not self.graphs.has(("read", *key)):
                self.graphs.run(("read", *key), work, hush)
            self._give(inbox, key, queries)
            self.graphs.run(("read", *key), work, hush)
            for query in queries:
                self.rows.write_wide(query.row, query.sampler.config, query.sampler.seen)

    def _give(self, inbox: Inbox, key: tuple[int, int], queries: Sequence[Query]) -> None:
        """``queries`` into what the graph of this size reads, and nobody's behind them."""
        count, _ = key
        nobody = (self.rows.nobody, 0, 0, self.pool.nobody, 0, 0, 0, 0)
        integers, numbers = [], []
        for query in queries:
            config, sampler = query.sampler.config, query.sampler
            # As INTEGERS and NUMBERS name them.
            integers += (
                query.row, query.ids[-1], len(query.ids) - 1, query.slot, flags_of(config),
                min(config.top_k, self.rows.vocab_size), sampler.seed, sampler.count,
            )  # fmt: skip
            numbers += (config.temperature, config.top_p, config.min_p, config.repetition_penalty)
        missing = count - len(queries)
        place = inbox.open()
        at = put_rows(place, [query.ids[:-1] for query in queries], key, "q")
        at = put(place, at, "q", (*integers, *nobody * missing))
        put(place, at, "f", (*numbers, *(0.0, 1.0, 0.0, 1.0) * missing))
        inbox.send()

    def _begin(self, ids_BT: Tensor, integers_B8: Tensor, numbers_B4: Tensor) -> None:
        self.rows.write(integers_B8, numbers_B4)
        self._read(ids_BT, integers_B8[:, 0], integers_B8[:, INTEGERS.index("slot")])

    def step(self, count: int, rows: list[int]) -> Letter:
        """The next token of each of ``rows``, in a bucket of ``count``."""
        key = ("step", count)
        if count not in self._steps:
            with self.graphs.on_stream():
                order = torch.full(
                    (count,), self.rows.nobody, device=self.rows.device, dtype=torch.int32
                )
                self._steps[count] = _Steps.of(order, self.graphs.queue)
        steps = self._steps[count]
        with self._alone(count):
            if not self.graphs.has(key):
                hush = partial(steps.inbox.tensor.fill_, self.rows.nobody)
                with self.graphs.on_stream():
                    self.graphs.run(key, partial(self._step, steps), hush)
                steps.rows = []
            if rows != steps.rows:
                order = rows + [self.rows.nobody] * (count - len(rows))
                put(steps.inbox.open(), 0, "i", order)
                steps.inbox.send()
                steps.rows = rows
            steps.outbox.make_room()
            self.graphs.run(key, partial(self._step, steps))
        return steps.outbox.fetch()

    def _alone(self, count: int) -> AbstractContextManager[Any]:
        queue = self.graphs.queue
        if queue is None or self.fused is None or not self.fused.goes_whole(count):
            return nullcontext()
        return alone(queue)

    def _step(self, steps: _Steps) -> None:
        order_B, drawn = steps.inbox.tensor, steps.outbox.drawn
        if self.fused is not None:
            self.fused.step(order_B, drawn)
        else:
            self.rows.draw(self.plain.logits(order_B), order_B, drawn)


@dataclass(slots=True)
class _Steps:
    """Of one size: which rows, those of the last one, and what they drew."""

    inbox: Inbox
    outbox: Outbox
    rows: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, order_B: Tensor, queue: Queue | None) -> _Steps:
        return cls(Inbox(order_B, queue), Outbox(len(order_B), order_B.device, queue))


def _parts(inputs: Tensor, key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids [B, T], integers [B, 8] and numbers [B, 4], which lie in bytes one behind the other."""
    count, length = key
    sizes = (8 * count * length, 8 * count * len(INTEGERS), 4 * count * len(NUMBERS))
    ids, integers, numbers = inputs.split(sizes)
    return (
        ids.view(torch.int64).view(count, length), integers.view(torch.int64).view(count, -1),
        numbers.view(torch.float32).view(count, -1),
    )  # fmt: skip
