"""Memory updates by the model's own modules: for every configuration."""

# Shape suffixes: L layers, B memories, T tokens, S slots, D width.

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .graphs import put
from .handover import Inbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..model import ReactiveTransformer
    from .driver import Queue
    from .memory import MemoryVersion
    from .pool import MemoryPool
    from .update import Encoded


@dataclass(frozen=True, slots=True)
class _Inputs:
    memory_LBSD: Tensor
    encoded_LBTD: Tensor
    lengths: Inbox


class ModuleEncoder:
    """``model.encode`` of the first tokens of each row, [B, T] and [B], into [L, B, T, D].

    Args:
        compiled: see ``Updater``.
    """

    def __init__(self, model: ReactiveTransformer, *, compiled: bool = False) -> None:
        self._encode = _maker(compiled)(model.encode)

    def __call__(self, ids_BT: Tensor, lengths_B: Tensor, out_LBTD: Tensor) -> None:
        out_LBTD.copy_(self._encode(ids_BT, _mask_of(lengths_B, ids_BT.shape[1])))


class ModuleFold:
    """``model.attend`` of memories that are copied together before, and apart after.

    Args:
        pool: where what comes out is projected to.
        queue: on which it works.
        compiled: see ``Updater``.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        pool: MemoryPool | None,
        queue: Queue | None,
        *,
        compiled: bool = False,
    ) -> None:
        self.model, self.pool, self._queue = model, pool, queue
        made = _maker(compiled)
        self._attend, self._projection = made(model.attend), made(model.project_memory)

    def inputs(self, count: int, length: int) -> _Inputs:
        """Of a batch of this size, nobody's."""
        weight = self.model.embedding.weight
        memory_LBSD = self.model.initial_memory(count).contiguous().clone()
        layers, _, _, width = memory_LBSD.shape
        lengths_B = torch.ones(count, dtype=torch.int64, device=weight.device)
        encoded_LBTD = weight.new_zeros(layers, count, length, width)
        return _Inputs(memory_LBSD, encoded_LBTD, Inbox(lengths_B, self._queue))

    def begin(self, inputs: _Inputs, memories: Sequence[MemoryVersion]) -> None:
        """Copy memories together."""
        for row, memory in enumerate(memories):
            inputs.memory_LBSD[:, row].copy_(memory.tensor)

    def give(self, inputs: _Inputs, encoded: Sequence[Encoded], new: Sequence[Tensor]) -> None:
        """Copy interactions together."""
        self._gather(encoded, inputs.encoded_LBTD)
        missing = len(inputs.lengths.tensor) - len(encoded)
        put(inputs.lengths.open(), 0, "q", [part.length for part in encoded] + [1] * missing)
        inputs.lengths.send()

    def work(self, inputs: _Inputs, slots_B: Tensor) -> Tensor:
        """Fold; new memories [L, B, S, D]."""
        mask_BT = _mask_of(inputs.lengths.tensor, inputs.encoded_LBTD.shape[2])
        out_LBSD: Tensor = self._attend(inputs.memory_LBSD, inputs.encoded_LBTD, mask_BT)
        if self.pool is not None:
            self.pool.write(slots_B, self._projection(out_LBSD))
        return out_LBSD

    def take(self, out_LBSD: Tensor, new: Sequence[Tensor]) -> None:
        """Copy it apart."""
        for row, memory_LSD in enumerate(new):
            memory_LSD.copy_(out_LBSD[:, row])

    @staticmethod
    def _gather(encoded: Sequence[Encoded], into_LBTD: Tensor) -> None:
        """Side by side; at once where all were encoded together."""
        batch, length = encoded[0].batch, into_LBTD.shape[2]
        together = all(part.batch is batch and part.row == i for i, part in enumerate(encoded))
        if together and batch.tensor.shape[2] == length:
            into_LBTD[:, : len(encoded)].copy_(batch.tensor[:, : len(encoded)])
            return
        for row, part in enumerate(encoded):
            into_LBTD[:, row, : part.length].copy_(part.tensor)


def _mask_of(lengths_B: Tensor, length: int) -> Tensor:
    """True where a token is, [B, T]."""
    return torch.arange(length, device=lengths_B.device) < lengths_B[:, None]


def _maker(compiled: bool) -> Callable[[Any], Any]:
    """What makes of a module's function the one that is called."""
    return partial(torch.compile, dynamic=False) if compiled else _same


def _same(work: Any) -> Any:
    return work
