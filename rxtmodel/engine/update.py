"""Memory updates of many conversations at once, beside decoding, on a stream of their own."""

# Shape suffixes: L layers, B interactions, T tokens, S slots, D width.

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..template import PAD
from .graphs import Graphs, fill, round_up
from .memory import MemoryVersion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..model import ReactiveTransformer
    from .pool import MemoryPool

_LEAST_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Encoded:
    """One encoded interaction: a row of what was encoded together."""

    batch_LBTD: Tensor
    row: int
    length: int

    @property
    def tensor(self) -> Tensor:
        """[L, T, D], without padding."""
        return self.batch_LBTD[:, self.row, : self.length]


class Updater:
    """Encodes interactions and folds them into memories, ``max_batch`` at once.

    Args:
        pool: where new versions are projected to, as long as there is room.
        decoding: graphs of the stream that reads the pool.
        compiled: have PyTorch's compiler fuse what lies between products. Half a minute for each
            new shape, and less than half the time from then on, where many are updated at once.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        pool: MemoryPool | None = None,
        decoding: Graphs | None = None,
        *,
        max_batch: int = 64,
        compiled: bool = False,
    ) -> None:
        self.model, self.pool, self.max_batch = model, pool, max_batch
        self.device = model.embedding.weight.device
        self._decoding = decoding
        self.graphs = Graphs(self.device)
        self._inputs: dict[tuple[str, int, int], tuple[Tensor, ...]] = {}
        made: Callable[[Any], Any] = partial(torch.compile, dynamic=False) if compiled else _same
        self._encoder, self._fold = made(model.encode), made(model.attend)
        self._projection = made(model.project_memory)

    @torch.inference_mode()
    def encode(self, interactions: Sequence[Sequence[int]]) -> list[Encoded]:
        """Each interaction's ids, encoded."""
        found: list[Encoded] = []
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

    def _encode(self, interactions: Sequence[Sequence[int]]) -> list[Encoded]:
        count = round_up(len(interactions), self.max_batch)
        length = self._bucket_of(max(map(len, interactions)))
        rows = [*interactions, *[()] * (count - len(interactions))]
        ids = [[*row, *[PAD] * (length - len(row))] for row in rows]
        lengths = [max(1, len(row)) for row in rows]
        with self.graphs.on_stream():
            key = ("encode", count, length)
            if key not in self._inputs:
                empty = torch.zeros(count, length, dtype=torch.int64, device=self.device)
                self._inputs[key] = (empty, torch.ones_like(empty[:, 0]))
            ids_BT, lengths_B = self._inputs[key]
            fill(ids_BT, ids)
            fill(lengths_B, lengths)
            work = partial(self._encode_work, ids_BT, lengths_B)
            if not self.graphs.has(key):
                self.graphs.run(key, work, _nothing)
            batch_LBTD = self.graphs.run(key, work, _nothing)
            batch_LBTD = batch_LBTD.clone() if self.graphs.stream is not None else batch_LBTD
        return [Encoded(batch_LBTD, row, len(ids)) for row, ids in enumerate(interactions)]

    def _encode_work(self, ids_BT: Tensor, lengths_B: Tensor) -> Tensor:
        return self._encoder(ids_BT, _mask(lengths_B, ids_BT.shape[1]))

    def _attend(
        self, memories: Sequence[MemoryVersion], encoded: Sequence[Encoded]
    ) -> list[MemoryVersion]:
        count = round_up(len(memories), self.max_batch)
        length = self._bucket_of(max(part.length for part in encoded))
        with self.graphs.on_stream():
            if self.graphs.stream is not None:
                for memory in memories:
                    if memory.ready is not None:
                        self.graphs.stream.wait_event(memory.ready)
            key = ("attend", count, length)
            if key not in self._inputs:
                self._inputs[key] = self._new_inputs(count, length)
            memory_LBSD, encoded_LBTD, lengths_B, slots_B = self._inputs[key]
            work = partial(self._attend_work, memory_LBSD, encoded_LBTD, lengths_B, slots_B)
            if not self.graphs.has(key):
                if self.pool is not None:
                    slots_B.fill_(self.pool.nobody)
                self.graphs.run(key, work, _nothing)
            for row, memory in enumerate(memories):
                memory_LBSD[:, row].copy_(memory.tensor)
                if self.graphs.stream is not None:
                    memory.tensor.record_stream(self.graphs.stream)
            self._gather(encoded, encoded_LBTD)
            lengths = [part.length for part in encoded] + [1] * (count - len(encoded))
            fill(lengths_B, lengths)
            ready = None if self.graphs.stream is None else torch.cuda.Event()
            new = [MemoryVersion(torch.empty_like(memory.tensor), ready) for memory in memories]
            slots = self._take_slots(new)
            try:
                self._point(slots_B, slots)
                out_LBSD = self.graphs.run(key, work, _nothing)
                for row, version in enumerate(new):
                    version.tensor.copy_(out_LBSD[:, row])
                if ready is not None:
                    ready.record()
            except BaseException:
                for slot in slots:
                    if self.pool is not None and slot is not None:
                        self.pool.discard(slot)
                raise
            for slot in slots:
                if self.pool is not None and slot is not None:
                    self.pool.release(slot, ready)
        return new

    def _attend_work(
        self, memory_LBSD: Tensor, encoded_LBTD: Tensor, lengths_B: Tensor, slots_B: Tensor
    ) -> Tensor:
        mask_BT = _mask(lengths_B, encoded_LBTD.shape[2])
        out_LBSD = self._fold(memory_LBSD, encoded_LBTD, mask_BT)
        if self.pool is not None:
            self.pool.write(slots_B, self._projection(out_LBSD))
        return out_LBSD

    def _new_inputs(self, count: int, length: int) -> tuple[Tensor, ...]:
        weight = self.model.embedding.weight
        memory_LBSD = self.model.initial_memory(count).contiguous().clone()
        layers, _, _, width = memory_LBSD.shape
        encoded_LBTD = weight.new_zeros(layers, count, length, width)
        index = torch.ones(count, dtype=torch.int64, device=self.device)
        return memory_LBSD, encoded_LBTD, index, index.clone()

    def _gather(self, encoded: Sequence[Encoded], into_LBTD: Tensor) -> None:
        """Side by side; at once where all were encoded together."""
        batch, length = encoded[0].batch_LBTD, into_LBTD.shape[2]
        together = all(part.batch_LBTD is batch and part.row == i for i, part in enumerate(encoded))
        if together and batch.shape[2] == length:
            into_LBTD[:, : len(encoded)].copy_(batch[:, : len(encoded)])
            return
        for row, part in enumerate(encoded):
            into_LBTD[:, row, : part.length].copy_(part.tensor)

    def _take_slots(self, new: Sequence[MemoryVersion]) -> list[int | None]:
        """Slots for new versions, as far as there are any."""
        if self.pool is None:
            return []
        return [self.pool.take(version, beside=True) for version in new]

    def _point(self, slots_B: Tensor, slots: Sequence[int | None]) -> None:
        """Have projections written to those slots."""
        if self.pool is None:
            return
        if self._decoding is not None and self._decoding.stream is not None:
            # Steps that still read what stood in those slots were launched before.
            self.graphs.stream.wait_stream(self._decoding.stream)  # type: ignore[union-attr]
        values = [self.pool.nobody if slot is None else slot for slot in slots]
        fill(slots_B, values + [self.pool.nobody] * (len(slots_B) - len(values)))

    def _bucket_of(self, length: int) -> int:
        return round_up(max(1, length), self.model.config.max_seq_len, _LEAST_TOKENS)


def _mask(lengths_B: Tensor, length: int) -> Tensor:
    """True where a token is, [B, T]."""
    return torch.arange(length, device=lengths_B.device) < lengths_B[:, None]


def _nothing() -> None:
    pass


def _same(work: Any) -> Any:
    return work
