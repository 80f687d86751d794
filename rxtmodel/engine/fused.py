"""One step by kernels of our own, eight for a layer, or one in all: for dense decoders on a GPU."""

# Shape suffixes: B rows of a batch, V vocabulary.

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import BackendUnavailable
from .fused_layers import FusedLayers, Scratch, Tokens
from .matrices import head_of
from .persistent import PersistentStep
from .shapes import power_of_two, reading_of
from .support import why_not_persistent

if TYPE_CHECKING:
    from ..attention import Attention
    from ..model import ReactiveTransformer
    from .handover import Drawn
    from .pool import MemoryPool
    from .rows import DeviceRows

_PART = 64
"""Rows of a part, or more."""


class FusedStep:
    """Steps of a dense decoder. ``support.why_not`` must have found no reason against it.

    Args:
        pdl: start kernels while the one before still runs.
        parts: into how many a step of many rows may be divided where it does not go as one kernel.
        persistent: whether a step of many rows may go as one kernel.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        rows: DeviceRows,
        pool: MemoryPool,
        *,
        pdl: bool = True,
        parts: int = 4,
        persistent: bool = True,
    ) -> None:
        from ..kernels import attend, sample

        self._attend, self._sample = attend, sample
        self.model, self.rows, self.pool, self.pdl = model, rows, pool, pdl
        self.layers = FusedLayers(model, pdl=pdl)
        size, device = rows.max_rows + 1, model.embedding.weight.device
        self._logits = torch.zeros(size, model.config.vocab_size, device=device)
        self._scratch = Scratch.of(model, size)
        self._own = torch.arange(size, device=device, dtype=torch.int32)
        self._head = head_of(model)
        self._whole: PersistentStep | None = None
        self.why_not_whole: str | None = f"there are no more than {_PART} rows"
        """Why steps of many rows are not one kernel; None: they are."""
        if rows.max_rows > _PART:
            self.why_not_whole = why_not_persistent(model) if persistent else "it was not asked for"
        if self.why_not_whole is None:
            try:
                self._whole = PersistentStep(
                    model, rows, pool, self.layers.weights, self._head, self.layers.rope,
                    self.layers.eps,
                )  # fmt: skip
                parts = 1
            except BackendUnavailable as error:
                self.why_not_whole = str(error)
        self._together = 1
        """Rows of the step under way, in all parts."""
        self._others: list[tuple[FusedStep, torch.cuda.Stream]] = []
        for _ in range(min(parts, size // _PART) - 1):
            other = copy.copy(self)
            other._scratch = Scratch.of(model, size)
            self._others.append((other, torch.cuda.Stream(device)))

    def logits(self, order_B: Tensor) -> Tensor:
        """As ``PlainStep.logits``."""
        return self._divided(order_B, None)

    def step(self, order_B: Tensor, drawn: Drawn) -> None:
        """As ``logits``, and ``DeviceRows.draw`` of them."""
        self._divided(order_B, drawn)

    def goes_whole(self, count: int) -> bool:
        """Whether a step of ``count`` rows is one kernel, which must be alone (``alone``)."""
        return self._whole is not None and count > _PART

    def _divided(self, order_B: Tensor, drawn: Drawn | None) -> Tensor:
        """Many rows go as one kernel, or in parts beside each other: while one reads memories,
        which takes all of the bandwidth, another multiplies, which takes little."""
        count = len(order_B)
        if self.goes_whole(count):
            assert self._whole is not None
            self._whole.run(order_B, self._logits[:count])
            if drawn is not None:
                self.draw(self._logits[:count], order_B, drawn)
            return self._logits[:count]
        logits_BV, parts = self._logits[:count], max(1, min(len(self._others) + 1, count // _PART))
        self._together = count
        if parts == 1:
            self._run(order_B, logits_BV, drawn)
            return logits_BV
        size = -(-count // parts)
        here = torch.cuda.current_stream()
        for index, (other, stream) in enumerate(self._others[: parts - 1], start=1):
            other._together = count
            some = slice(index * size, (index + 1) * size)
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                other._run(order_B[some], logits_BV[some], drawn and drawn.part(some))
        self._run(order_B[:size], logits_BV[:size], drawn and drawn.part(slice(size)))
        for _, stream in self._others[: parts - 1]:
            here.wait_stream(stream)
        return logits_BV

    def _run(self, order_B: Tensor, logits_BV: Tensor, drawn: Drawn | None) -> None:
        layers, rows = self.layers, self.rows
        tokens = Tokens(self._scratch, order_B, rows.pos, self._together)
        layers.embed(tokens, order_B, rows.token)
        for index, layer in enumerate(self.model.decoder):
            own, read = layer.attention, layer.memory_read.attention  # type: ignore[union-attr]
            k, v = rows.k[index], rows.v[index]
            layers.project(tokens, index, k, v, own=True)
            self._mix(tokens, own, k, v, self._own, grow=True)
            layers.add(tokens, self._scratch.a, own.out_proj)
            layers.project(tokens, index, k, v, own=False)
            k, v = self.pool.layers[index]
            self._mix(tokens, read, k, v, rows.slot, grow=False)
            layers.add(tokens, self._scratch.a, read.out_proj)
            layers.feed(tokens, index)
        layers.logits(tokens, self._head, logits_BV)
        if drawn is not None:
            self.draw(logits_BV, order_B, drawn)

    def draw(self, logits_BV: Tensor, order_B: Tensor, drawn: Drawn) -> None:
        """As ``DeviceRows.draw``; logits may be overwritten."""
        rows, size = self.rows, power_of_two(self.rows.vocab_size)
        tile = max(256, min(size, 2_048))
        self._sample.sample[(len(order_B),)](
            logits_BV, order_B, rows.banned, rows.flags, rows.numbers, rows.top_k, rows.seed,
            rows.drawn, rows.seen, rows.bias, rows.token, rows.pos, drawn.places_PB, drawn.turn_B,
            drawn.places_PB.stride(0), rows.seen.stride(0), rows.nobody,
            TURNS=len(drawn.places_PB), V=rows.vocab_size, PDL=self.pdl, TILE=tile,
            TILES=max(2, size // tile), num_warps=max(2, min(16, tile // 128)),
            maxnreg=64,  # so two rows have room on a multiprocessor
            launch_pdl=self.pdl,
        )  # fmt: skip

    def _mix(
        self, tokens: Tokens, attention: Attention, k: Tensor, v: Tensor, row: Tensor, *,
        grow: bool,
    ) -> None:  # fmt: skip
        groups, scratch = attention.num_kv_heads, self._scratch
        ratio = attention.num_query_heads // groups
        self._attend.attend[(len(tokens.order_N), groups)](
            scratch.q, k, v, row, tokens.order_N, self.rows.pos, scratch.a, k.stride(0),
            k.stride(1), attention.head_dim**-0.5, k.shape[2],
            GROUPS=groups, R=ratio, H=attention.head_dim, GROW=grow, PDL=self.pdl,
            TILE=max(16, ratio), launch_pdl=self.pdl, **reading_of(tokens.together, k.shape[2]),
        )  # fmt: skip
