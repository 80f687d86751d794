"""One step by kernels of our own, eight for a layer: for dense decoders on a GPU.

What stands between two exchanges of all rows is one kernel; see ``rxtmodel.kernels``.
"""

# Shape suffixes: B rows of a batch, D width, N query heads, G kv heads, H head width, V vocabulary.

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..errors import BackendUnavailable
from .matrices import LayerMatrices, head_of
from .persistent import PersistentStep
from .shapes import power_of_two, reading_of, shape_of
from .support import why_not_persistent

if TYPE_CHECKING:
    from ..attention import Attention
    from ..feed_forward import FeedForward
    from ..layers import DecoderLayer
    from ..model import ReactiveTransformer
    from .pool import MemoryPool
    from .rows import DeviceRows

_PART = 64
"""Rows of a part, or more."""


class FusedStep:
    """Steps of a dense decoder. ``support.why_not`` must have found no reason against it.

    Holds a copy of the matrices behind norms, with the norm's weight in them.

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
        from ..kernels import attend, linear, sample

        self._linear, self._attend, self._sample = linear, attend, sample
        self.model, self.rows, self.pool, self.pdl = model, rows, pool, pdl
        config, weight = model.config, model.embedding.weight
        self._eps = config.norm_eps or torch.finfo(torch.float32).eps
        heads, size = config.attention, rows.max_rows + 1
        read = model.decoder[0].memory_read.attention
        inner = max(heads.num_query_heads, read.num_query_heads) * config.head_dim

        self._logits = torch.zeros(size, config.vocab_size, device=weight.device)
        self._scratch(size, inner)
        self._own = torch.arange(size, device=weight.device, dtype=torch.int32)
        self._weights = [LayerMatrices.of(layer) for layer in model.decoder]
        self._head = head_of(model)
        self._rope = model.rope.contiguous()
        if config.nope:
            self._rope = torch.stack((torch.ones_like(self._rope[0]), 0 * self._rope[1]))
        self._whole: PersistentStep | None = None
        self.why_not_whole: str | None = f"there are no more than {_PART} rows"
        """Why steps of many rows are not one kernel; None: they are."""
        if rows.max_rows > _PART:
            self.why_not_whole = why_not_persistent(model) if persistent else "it was not asked for"
        if self.why_not_whole is None:
            try:
                self._whole = PersistentStep(
                    model, rows, pool, self._weights, self._head, self._rope, self._eps
                )
                parts = 1
            except BackendUnavailable as error:
                self.why_not_whole = str(error)
        self._together = 1
        """Rows of the step under way, in all parts."""
        self._others: list[tuple[FusedStep, torch.cuda.Stream]] = []
        for _ in range(min(parts, size // _PART) - 1):
            other = copy.copy(self)
            other._scratch(size, inner)
            self._others.append((other, torch.cuda.Stream(weight.device)))

    def _scratch(self, size: int, inner: int) -> None:
        """What one kernel leaves to the next."""
        config, weight = self.model.config, self.model.embedding.weight

        def rows(width: int, dtype: torch.dtype = weight.dtype) -> Tensor:
            return torch.zeros(size, width, device=weight.device, dtype=dtype)

        self._x, self._xb = rows(config.embed_dim, torch.float32), rows(config.embed_dim)
        self._sums = rows(self._linear.MAX_PARTS, torch.float32)
        self._q, self._a, self._h = rows(inner), rows(inner), rows(config.ff_dim)

    def logits(self, order_B: Tensor) -> Tensor:
        """As ``PlainStep.logits``."""
        return self._divided(order_B, None)

    def step(self, order_B: Tensor, out_B: Tensor) -> None:
        """As ``logits``, and ``DeviceRows.draw`` of them."""
        self._divided(order_B, out_B)

    def goes_whole(self, count: int) -> bool:
        """Whether a step of ``count`` rows is one kernel, which must be alone (``alone``)."""
        return self._whole is not None and count > _PART

    def _divided(self, order_B: Tensor, out_B: Tensor | None) -> Tensor:
        """Many rows go as one kernel, or in parts beside each other: while one reads memories,
        which takes all of the bandwidth, another multiplies, which takes little."""
        count = len(order_B)
        if self.goes_whole(count):
            assert self._whole is not None
            self._whole.run(order_B, self._logits[:count])
            if out_B is not None:
                self.draw(self._logits[:count], order_B, out_B)
            return self._logits[:count]
        logits_BV, parts = self._logits[:count], max(1, min(len(self._others) + 1, count // _PART))
        size = -(-count // parts)
        here = torch.cuda.current_stream()
        self._together = count
        for index, (other, stream) in enumerate(self._others[: parts - 1], start=1):
            other._together = count
            some = slice(index * size, (index + 1) * size)
            stream.wait_stream(here)
            with torch.cuda.stream(stream):
                other._run(order_B[some], logits_BV[some], None if out_B is None else out_B[some])
        self._run(order_B[:size], logits_BV[:size], None if out_B is None else out_B[:size])
        for _, stream in self._others[: parts - 1]:
            here.wait_stream(stream)
        return logits_BV

    def _run(self, order_B: Tensor, logits_BV: Tensor, out_B: Tensor | None) -> None:
        count, config = len(order_B), self.model.config
        width = config.embed_dim
        self._linear.embed[(count,)](
            order_B, self.rows.token, self.model.embedding.weight, self._x, self._xb, self._sums,
            D=width, **self._parts(), PDL=self.pdl, BD=power_of_two(width), num_warps=4,
            launch_pdl=self.pdl,
        )  # fmt: skip
        for index, layer in enumerate(self.model.decoder):
            self._layer(index, layer, order_B)
        head = self.model.head
        bias = None if head is None else head.bias
        self._product(
            self._linear.head, count, config.vocab_size, width,
            self._xb, self._sums, self._head, self._head if bias is None else bias, logits_BV,
            count, self._eps, K=width, V=config.vocab_size,
            NORM=self.model.final_norm is not None, BIAS=bias is not None, **self._parts(),
        )  # fmt: skip
        if out_B is not None:
            self.draw(logits_BV, order_B, out_B)

    def draw(self, logits_BV: Tensor, order_B: Tensor, out_B: Tensor) -> None:
        """As ``DeviceRows.draw``."""
        rows = self.rows
        block = power_of_two(rows.vocab_size)
        self._sample.sample[(len(order_B),)](
            logits_BV, order_B, rows.banned, rows.flags, rows.numbers, rows.top_k, rows.seed,
            rows.drawn, rows.seen, rows.bias, rows.token, rows.pos, out_B, rows.seen.stride(0),
            rows.nobody,
            V=rows.vocab_size, PDL=self.pdl, BLOCK=block,
            num_warps=min(32, max(4, block // 1024)), launch_pdl=self.pdl,
        )  # fmt: skip

    def _layer(self, index: int, layer: DecoderLayer, order_B: Tensor) -> None:
        rows, count, weights = self.rows, len(order_B), self._weights[index]
        own, read = layer.attention, layer.memory_read.attention
        k, v = rows.k[index], rows.v[index]
        self._project(weights.own, own, order_B, k, v, own=True)
        self._mix(own, k, v, self._own, order_B, grow=True)
        self._add(self._a, own.out_proj, count)
        self._project(weights.read, read, order_B, k, v, own=False)
        k, v = self.pool.layers[index]
        self._mix(read, k, v, rows.slot, order_B, grow=False)
        self._add(self._a, read.out_proj, count)
        self._gate_up(layer.ff, weights.gate_up, count)
        self._add(self._h, layer.ff.down, count)

    def _gate_up(self, ff: FeedForward, weight: Tensor, count: int) -> None:
        assert ff.gate_up is not None
        width, inner, bias = self._x.shape[1], ff.down.in_features, ff.gate_up.bias
        self._product(
            self._linear.gate_up, count, inner, width,
            self._xb, self._sums, weight, weight if bias is None else bias, self._h, count,
            self._eps, K=width, F=inner, BIAS=bias is not None, **self._parts(), halved=True,
        )  # fmt: skip

    def _project(
        self, weight: Tensor, attention: Attention, order_B: Tensor, k: Tensor, v: Tensor, *,
        own: bool,
    ) -> None:  # fmt: skip
        width, head, count = self._x.shape[1], attention.head_dim, len(order_B)
        queries = attention.num_query_heads * head
        keys = attention.num_kv_heads * head if own else 0
        self._product(
            self._linear.project, count, queries + 2 * keys, width,
            self._xb, self._sums, weight, order_B, self.rows.pos, self._rope, self._q, k, v,
            count, self._eps, k.stride(0), k.stride(1), self._rope.stride(0),
            K=width, NQ=queries, NK=keys, H=head, **self._parts(), divide=(queries, keys),
        )  # fmt: skip

    def _mix(
        self, attention: Attention, k: Tensor, v: Tensor, row: Tensor, order_B: Tensor, *,
        grow: bool,
    ) -> None:  # fmt: skip
        groups, count = attention.num_kv_heads, len(order_B)
        ratio = attention.num_query_heads // groups
        self._attend.attend[(count, groups)](
            self._q, k, v, row, order_B, self.rows.pos, self._a, k.stride(0), k.stride(1),
            attention.head_dim**-0.5, k.shape[2],
            GROUPS=groups, R=ratio, H=attention.head_dim, GROW=grow, PDL=self.pdl,
            TILE=max(16, ratio), launch_pdl=self.pdl, **reading_of(self._together, k.shape[2]),
        )  # fmt: skip

    def _add(self, a: Tensor, linear: nn.Linear, count: int) -> None:
        bias = linear.bias
        self._product(
            self._linear.add_linear, count, linear.out_features, linear.in_features,
            a, linear.weight, linear.weight if bias is None else bias, self._x, self._xb,
            self._sums, count, K=linear.in_features, D=linear.out_features, BIAS=bias is not None,
            MAX=self._linear.MAX_PARTS,
        )  # fmt: skip

    def _parts(self) -> dict[str, int]:
        """Into how many tiles whoever wrote the residual stream has divided it."""
        width = self._x.shape[1]
        parts = -(-width // shape_of(self._together, width, width).N)
        return {"PARTS": parts, "P": power_of_two(parts), "MAX": self._linear.MAX_PARTS}

    def _product(
        self, kernel: Any, count: int, columns: int, inner: int, *args: Any,
        divide: tuple[int, ...] = (), halved: bool = False, **fixed: Any,
    ) -> None:  # fmt: skip
        shape = shape_of(self._together, columns, inner)
        tile = shape.N // 2 if halved else shape.N
        while any(part % tile for part in divide):
            tile //= 2
        grid = (-(-columns // tile), -(-count // shape.M))
        kernel[grid](
            *args, **fixed, PDL=self.pdl, M=shape.M, N=tile, BK=shape.BK,
            num_warps=shape.num_warps, num_stages=shape.num_stages, launch_pdl=self.pdl,
        )  # fmt: skip
