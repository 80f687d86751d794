"""Memory updates with kernels of our own between PyTorch's products, on a GPU."""

# Shape suffixes: L layers, B memories, T tokens, S slots, D width, N heads, G kv heads,
# H head width.

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .fold_kernels import FoldKernels
from .fold_parts import UNIT, Gate, aligned, place
from .graphs import Graphs, put
from .handover import Inbox

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import ReactiveTransformer
    from .driver import Event, Queue
    from .memory import MemoryVersion
    from .pool import MemoryPool
    from .update import Encoded


@dataclass(frozen=True, slots=True)
class Places:
    """Where a batch lies, on the device, and its size in tokens."""

    memory_at: Inbox
    table: Inbox
    """Of new memories, encoded interactions, their layers; and their lengths: int64, [4, B]."""
    length: int


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What an update takes of memories alone: what slots attended to among themselves, how that
    is gated in, and the queries that the result gives, [L, B, S, D]."""

    pre: Tensor
    pre_gate: Gate
    queries: Tensor


class FusedFold:
    """``model.attend`` and the projection of what comes out, for memories where they lie: nothing
    is copied together before, or apart after. ``support.why_not_fold`` must have found no reason
    against it.

    A memory is read three times and written once, and in between stands only what products give
    and take, in the weights' type; norms, gates and means are float32. What a memory becomes does
    not depend on the others of its batch. Holds copies of the matrices of keys and values.

    Args:
        pool: where what comes out is projected to.
        queue: on which it works.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        pool: MemoryPool | None,
        queue: Queue | None,
    ) -> None:
        self._queue = queue
        with torch.inference_mode():
            self._kernels = FoldKernels(model, pool)
            self._ahead = Graphs(model.embedding.weight.device)
            self._memory_at: dict[int, Inbox] = {}
            self._prepared: dict[int, _Prepared] = {}
            self._folded: Event | None = None
            self._copies: list[Tensor] = []
            """Of memories that did not lie well: an update reads them, and nobody else has them."""

    def inputs(self, count: int, length: int) -> Places:
        """Of a batch that is nobody's: the first memory reads nothing and becomes nothing. To be
        called with the queue's stream as the current one, which then waits for what is prepared."""
        if count not in self._prepared:
            memory_at = torch.zeros(count, dtype=torch.int64, device=self._kernels.first.device)
            self._memory_at[count] = Inbox(memory_at, self._ahead.queue)
            if not self._ahead.has(count):
                self._ahead.run(count, partial(self._prepare, memory_at))
            self._prepared[count] = self._ahead.run(count, partial(self._prepare, memory_at))
        else:  # those of the last batch of that count may be gone
            if self._folded is not None and self._ahead.queue is not None:
                self._ahead.queue.wait(self._folded)
            put(self._memory_at[count].open(), 0, "q", [0] * count)
            self._memory_at[count].send()
            if self._queue is not None and self._ahead.queue is not None:
                self._queue.follow(self._ahead.queue)
        table = torch.zeros(4, count, dtype=torch.int64, device=self._kernels.first.device)
        table[3] = 1
        return Places(self._memory_at[count], Inbox(table, self._queue), length)

    def begin(self, places: Places, memories: Sequence[MemoryVersion]) -> None:
        """Say where memories lie, and begin with what is about them alone."""
        count, ahead = len(places.memory_at.tensor), self._ahead.queue
        with self._ahead.on_stream():
            if ahead is not None:
                if self._folded is not None:
                    ahead.wait(self._folded)  # and so for all memories that were made here
                for memory in memories:
                    if memory.queue is not self._queue:
                        if memory.ready is not None:
                            ahead.wait(memory.ready)
                        memory.lend(ahead.stream)
            lying = [aligned(memory.tensor) for memory in memories]
            self._copies = [
                copy
                for copy, memory in zip(lying, memories, strict=True)
                if copy is not memory.tensor
            ]
            at = [place(tensor, self._kernels.first) for tensor in lying]
            put(places.memory_at.open(), 0, "q", at + [0] * (count - len(at)))
            places.memory_at.send()
            work = partial(self._prepare, places.memory_at.tensor)
            self._prepared[count] = self._ahead.run(count, work)

    def give(self, places: Places, encoded: Sequence[Encoded], new: Sequence[Tensor]) -> None:
        """Say where interactions lie, and where new memories shall."""
        missing = places.table.tensor.shape[1] - len(new)
        rows: list[list[int]] = [[], [], [], []]
        for part, memory_LSD in zip(encoded, new, strict=True):
            batch = part.batch.tensor
            row, layer = (batch.stride(i) * batch.element_size() // UNIT for i in (1, 0))
            rows[0].append(place(memory_LSD, self._kernels.nowhere))
            # Not of a view, which PyTorch would make.
            rows[1].append(place(batch, self._kernels.nothing) + part.row * row)
            rows[2].append(layer)
            rows[3].append(part.length)
        table = [number for i, row in enumerate(rows) for number in row + [int(i == 3)] * missing]
        put(places.table.open(), 0, "q", table)
        places.table.send()
        if self._queue is not None and self._ahead.queue is not None:
            # From here on what is freed on this queue may be taken again: nothing reads it ahead.
            self._queue.follow(self._ahead.queue)

    def take(self, result: None, new: Sequence[Tensor]) -> None:
        """Nothing but to say when it is done: new memories are where they belong."""
        if self._queue is not None:
            if self._folded is None:
                self._folded = self._queue.event()
            self._queue.record(self._folded)

    def work(self, places: Places, slots_B: Tensor) -> None:
        """Fold; from and to where ``places`` says."""
        kernels, count = self._kernels, len(places.memory_at.tensor)
        new_at, at, layer_at, lengths_B = places.table.tensor.unbind(0)
        prepared = self._prepared[count]
        encoded = kernels.interaction(places.length, at, layer_at, lengths_B)
        update = kernels.attend(kernels.write.attention, prepared.queries, encoded, lengths_B.int())
        known = places.memory_at.tensor, new_at, prepared.pre, prepared.pre_gate, update
        gate = kernels.gate(kernels.write.gate, lambda: kernels.renew(*known, None))
        read = kernels.renew(*known, gate)
        if kernels.read is not None:
            kernels.project(kernels.read, read, slots_B)

    def _prepare(self, memory_at: Tensor) -> _Prepared:
        kernels, write = self._kernels, self._kernels.write
        pre, pre_gate = kernels.first, kernels.open
        if write.variant != "simple":
            own, other = kernels.mix(memory_at)
            pre = kernels.attend(write.pre_attention, own, other, None)
            del own, other
            pre_gate = kernels.gate(write.pre_gate, lambda: kernels.address(memory_at, pre, None))
        return _Prepared(pre, pre_gate, kernels.address(memory_at, pre, pre_gate))
