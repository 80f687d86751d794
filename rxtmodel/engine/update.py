"""Memory updates of many conversations at once, beside decoding, on a stream of their own."""

# Shape suffixes: L layers, B interactions, T tokens, S slots, D width.

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..template import PAD
from .alone import goes_first
from .fused_encoder import FusedEncoder
from .fused_fold import FusedFold
from .graphs import Graphs, buckets, put, put_rows, round_up
from .handover import Inbox
from .memory import MemoryVersion
from .module_fold import ModuleEncoder, ModuleFold
from .support import why_not_encode, why_not_fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..model import ReactiveTransformer
    from .driver import Event
    from .pool import MemoryPool

_LEAST_TOKENS = 32
MOST_UPDATES = 64
"""Memories that are updated at once."""


class Together:
    """What was encoded together, [L, B, T, D]: where a graph left it, until that runs again."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded interaction: a row of what was encoded together."""

    batch: Together
    row: int
    length: int

    @property
    def tensor(self) -> Tensor:
        """[L, T, D], without padding; as long as you have this object, too."""
        return self.batch.tensor[:, self.row, : self.length]


class Updater:
    """Encodes interactions and folds them into memories, ``max_batch`` at once.

    By kernels of ``FusedEncoder`` and ``FusedFold`` where they can run the model, else by its
    modules. What a memory becomes does not depend on the others of its batch.

    Args:
        pool: where new versions are projected to, as long as there is room.
        decoding: graphs of the stream that reads the pool.
        fused: False: by the model's modules all the same.
        compiled: have PyTorch's compiler fuse what the modules do between products. Half a minute
            for each new shape, and half the time from then on, where many are updated at once.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        pool: MemoryPool | None = None,
        decoding: Graphs | None = None,
        *,
        max_batch: int = MOST_UPDATES,
        fused: bool = True,
        compiled: bool = False,
    ) -> None:
        self.model, self.pool, self.max_batch = model, pool, max_batch
        self.device = model.embedding.weight.device
        self._decoding = decoding
        self.graphs = Graphs(self.device)
        self._inputs: dict[tuple[str, int, int], Any] = {}
        self._last: dict[tuple[str, int, int], weakref.ref[Together]] = {}
        """What the graphs of encoders left last."""
        self._encoded: Event | None = None
        self._spare: deque[Tensor] = deque(maxlen=max_batch)
        self._encoder: FusedEncoder | ModuleEncoder = ModuleEncoder(model, compiled=compiled)
        self.fold: FusedFold | ModuleFold
        with torch.inference_mode():
            if fused and why_not_encode(model) is None:
                self._encoder = FusedEncoder(model)
            if fused and why_not_fold(model) is None:
                self.fold = FusedFold(model, pool, self.graphs.queue)
            else:
                self.fold = ModuleFold(model, pool, self.graphs.queue, compiled=compiled)

    @torch.inference_mode()
    def encode(self, interactions: Sequence[Sequence[int]]) -> list[Encoded]:
        """Each interaction's ids, encoded. Raises IndexError where one is too long."""
        found: list[Encoded] = []
        longest, most = max(map(len, interactions), default=0), self.model.config.max_seq_len
        if longest > most:
            raise IndexError(
                f"an interaction has {longest} tokens, the model takes {most}; cut it off"
            )
        for start in range(0, len(interactions), self.max_batch):
            found += self._encode(interactions[start : start + self.max_batch])
        return found

    @torch.inference_mode()
    def attend(
        self, memories: Sequence[MemoryVersion], encoded: Sequence[Encoded]
    ) -> list[MemoryVersion]:
        """The next version of each memory. The given ones stay as they are."""
        found: list[MemoryVersion] = []
        for start in range(0, len(memories), self.max_batch):
            end = start + self.max_batch
            found += self._attend(memories[start:end], encoded[start:end])
        return found

    def warm_up(
        self, at_once: Sequence[int] | None = None, lengths: Sequence[int] | None = None
    ) -> None:
        """Record what updates of ``at_once`` memories by interactions of ``lengths`` tokens
        replay, so that nobody waits for it later; without numbers, of all there can be.

        Memories that nobody reads just now may lose their places in the pool, and are projected
        again when somebody does.
        """
        value = self.model.initial_memory()[:, 0].detach().contiguous()
        most = self.model.config.max_seq_len
        for length in buckets(most, _LEAST_TOKENS) if lengths is None else lengths:
            for count in buckets(self.max_batch) if at_once is None else at_once:
                self.attend([MemoryVersion(value)] * count, self.encode([[PAD] * length] * count))

    def _encode(self, interactions: Sequence[Sequence[int]]) -> list[Encoded]:
        count = round_up(len(interactions), self.max_batch)
        length = self._bucket_of(max(map(len, interactions)))
        lengths = [max(1, len(row)) for row in interactions] + [1] * (count - len(interactions))
        key, queue = ("encode", count, length), self.graphs.queue
        with self.graphs.on_stream():
            if key not in self._inputs:
                inputs = torch.ones(count * (length + 1), dtype=torch.int32, device=self.device)
                ids_BT, lengths_B = inputs[:-count].view(count, length), inputs[-count:]
                # Not memory of the graph, in which others work: it is read while they run.
                layers, width = len(self.model.encoder), self.model.config.embed_dim
                weight = self.model.embedding.weight
                out_LBTD = weight.new_empty(layers, count, length, width)
                work = partial(self._encoder, ids_BT, lengths_B, out_LBTD)
                self._inputs[key] = Inbox(inputs, queue), out_LBTD, work
            inbox, out_LBTD, work = self._inputs[key]
            if not self.graphs.has(key):
                self.graphs.run(key, work)
            place = inbox.open()
            put(place, put_rows(place, interactions, (count, length)), "i", lengths)
            inbox.send()
            if key in self._last and (last := self._last[key]()) is not None:
                # Somebody may still read it; most have been folded into memories by now.
                last.tensor = last.tensor.clone()
            self.graphs.run(key, work)
            batch = Together(out_LBTD)
            self._last[key] = weakref.ref(batch)
            if queue is not None:
                self._encoded = self._encoded or queue.event()
                queue.record(self._encoded)
                goes_first(queue, self._encoded)
        return [Encoded(batch, row, len(ids)) for row, ids in enumerate(interactions)]

    def _attend(
        self, memories: Sequence[MemoryVersion], encoded: Sequence[Encoded]
    ) -> list[MemoryVersion]:
        count = round_up(len(memories), self.max_batch)
        length = self._bucket_of(max(part.length for part in encoded))
        key, queue = ("attend", count, length), self.graphs.queue
        with self.graphs.on_stream():
            self._await(memories)
            # Anew where recording has failed before: places of memories may be another batch's.
            if key not in self._inputs or not self.graphs.has(key):
                slots_B = torch.zeros(count, dtype=torch.int64, device=self.device)
                self._inputs[key] = self.fold.inputs(count, length), Inbox(slots_B, queue)
            inputs, slots_B = self._inputs[key]
            work = partial(self.fold.work, inputs, slots_B.tensor)
            if not self.graphs.has(key):
                if self.pool is not None:
                    slots_B.tensor.fill_(self.pool.nobody)
                self.graphs.run(key, work)
            self.fold.begin(inputs, memories)
            values = [self._room_like(memory.tensor) for memory in memories]
            self.fold.give(inputs, encoded, values)
            ready = None if queue is None else queue.event()
            spare = None if queue is None else self._spare
            new = [MemoryVersion(value, ready, queue, spare) for value in values]
            slots = self._take_slots(new)
            try:
                self._point(slots_B, slots)
                self.fold.take(self.graphs.run(key, work), values)
                if queue is not None and ready is not None:
                    queue.record(ready)
                    goes_first(queue, ready)
            except BaseException:
                for slot in slots:
                    if self.pool is not None and slot is not None:
                        self.pool.discard(slot)
                raise
            for slot in slots:
                if self.pool is not None and slot is not None:
                    self.pool.release(slot, ready)
        return new

    def _room_like(self, memory_LSD: Tensor) -> Tensor:
        """For a new memory: what a version had that is gone, if there is any."""
        try:
            return self._spare.popleft()
        except IndexError:
            return torch.empty_like(memory_LSD, memory_format=torch.contiguous_format)

    def _await(self, memories: Sequence[MemoryVersion]) -> None:
        """Wait on the queue for what others compute, and have them keep it for us."""
        if self.graphs.queue is None:
            return
        for memory in memories:
            if memory.queue is not self.graphs.queue:
                if memory.ready is not None:
                    self.graphs.queue.wait(memory.ready)
                memory.lend(self.graphs.queue.stream)

    def _take_slots(self, new: Sequence[MemoryVersion]) -> list[int | None]:
        """Slots for new versions, as far as there are any."""
        if self.pool is None:
            return []
        return [self.pool.take(version, beside=True) for version in new]

    def _point(self, slots_B: Inbox, slots: Sequence[int | None]) -> None:
        """Have projections written to those slots."""
        if self.pool is None:
            return
        if self._decoding is not None:
            # Steps that still read what stood in those slots were launched before.
            self.graphs.follow(self._decoding)
        values = [self.pool.nobody if slot is None else slot for slot in slots]
        missing = len(slots_B.tensor) - len(values)
        put(slots_B.open(), 0, "q", values + [self.pool.nobody] * missing)
        slots_B.send()

    def _bucket_of(self, length: int) -> int:
        return round_up(max(1, length), self.model.config.max_seq_len, _LEAST_TOKENS)
