"""The engine of a CPU: answers in one batch, each memory update on its own."""

# Shape suffixes: L layers, T tokens, D width.

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from ..native import NativeDeltaWrite, NativeEncoder, NativeUnavailable
from .decode import DecodeBatch
from .memory import MemoryVersion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..model import ReactiveTransformer
    from ..sampler import Sampler
    from .row import Row


class HostEngine:
    """``DecodeBatch`` and memory updates one by one: a replay is bitwise the same, whatever was
    updated beside it.

    Args:
        native: by compiled code what can be (``rxtmodel.native``); else by PyTorch.
    """

    thread_safe = False

    def __init__(
        self, model: ReactiveTransformer, max_rows: int, max_len: int, *, native: bool = True
    ) -> None:
        self.model = model
        self._encoder: NativeEncoder | None = None
        self._write: NativeDeltaWrite | None = None
        if native:
            with suppress(NativeUnavailable):
                self._encoder = NativeEncoder(model)
            with suppress(NativeUnavailable):
                self._write = NativeDeltaWrite(model)
        self.batch = DecodeBatch(
            model, max_rows, max_len, native=native, encoder=self._encoder, write=self._write
        )
        self.step, self.remove = self.batch.step, self.batch.remove
        self.room, self.limit = self.batch.room, self.batch.limit

    def add_all(self, queries: Sequence[tuple[Sequence[int], MemoryVersion, Sampler]]) -> list[Row]:
        """Read queries against memories. When one fails, none is added."""
        rows: list[Row] = []
        try:
            for ids, memory, sampler in queries:
                rows.append(self.batch.add(ids, memory, sampler))
        except BaseException:
            for row in rows:
                self.remove(row)
            raise
        return rows

    def warm_up(self) -> None:
        """See ``Engine``: there is nothing that depends on sizes."""

    @torch.inference_mode()
    def encode(self, interactions: Sequence[Sequence[int]]) -> list[Tensor]:
        """Each interaction's ids, encoded, [L, 1, T, D]."""
        if self._encoder is not None:
            return [self._encoded(self._encoder, ids) for ids in interactions]
        device = self.model.embedding.weight.device
        return [self.model.encode(torch.tensor([ids], device=device)) for ids in interactions]

    def _encoded(self, encoder: NativeEncoder, ids: Sequence[int]) -> Tensor:
        ahead = self.batch.encoded(ids)
        return encoder.encode(ids) if ahead is None else ahead

    @torch.inference_mode()
    def attend(
        self, memories: Sequence[MemoryVersion], encoded: Sequence[Tensor]
    ) -> list[MemoryVersion]:
        """The next version of each memory. The given ones stay as they are."""
        return [
            MemoryVersion(self._next(memory.tensor, part))
            for memory, part in zip(memories, encoded, strict=True)
        ]

    def _next(self, memory_LSD: Tensor, encoded_L1TD: Tensor) -> Tensor:
        if self._write is not None:
            ahead = self.batch.folded(memory_LSD, encoded_L1TD)
            return self._write.fold(memory_LSD, encoded_L1TD[:, 0]) if ahead is None else ahead
        return self.model.attend(memory_LSD[:, None], encoded_L1TD)[:, 0].contiguous()
