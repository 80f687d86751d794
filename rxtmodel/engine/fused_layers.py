"""Parts of a dense decoder's layers by kernels of our own, for steps and for queries alike.

What stands between two exchanges of all tokens is one kernel; see ``rxtmodel.kernels``.
"""

# Shape suffixes: N tokens, D width.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .matrices import LayerMatrices
from .shapes import Shape, power_of_two, shape_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..model import ReactiveTransformer


@dataclass(frozen=True, slots=True)
class Scratch:
    """What one kernel leaves to the next: the residual stream in float32 and as products read it,
    sums of its squares, queries, what attention gives, and the feed-forward's inner values."""

    x: Tensor
    xb: Tensor
    sums: Tensor
    q: Tensor
    a: Tensor
    h: Tensor

    @classmethod
    def of(cls, model: ReactiveTransformer, size: int) -> Scratch:
        """For so many tokens; whatever stands there."""
        from ..kernels.linear import MAX_PARTS

        config, weight = model.config, model.embedding.weight
        read = model.decoder[0].memory_read.attention  # type: ignore[union-attr]
        heads = max(config.attention.num_query_heads, read.num_query_heads)

        def tokens(width: int, dtype: torch.dtype = weight.dtype) -> Tensor:
            return torch.empty(size, width, device=weight.device, dtype=dtype)

        inner = heads * config.head_dim
        return cls(
            tokens(config.embed_dim, torch.float32), tokens(config.embed_dim),
            tokens(MAX_PARTS, torch.float32), tokens(inner), tokens(inner), tokens(config.ff_dim),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens on their way through the layers.

    Args:
        order_N: the row of each.
        pos: their places: by row, or ``each`` by token.
        together: how many there are in all parts of a step; tiles depend on it.
        shape: which tiles.
    """

    scratch: Scratch
    order_N: Tensor
    pos: Tensor
    together: int
    each: bool = False
    shape: Callable[[int, int, int], Shape] = shape_of


class FusedLayers:
    """``support.why_not`` must have found no reason against it. Holds a copy of the matrices behind
    norms, with the norm's weight in them.

    Args:
        pdl: start kernels while the one before still runs.
    """

    def __init__(self, model: ReactiveTransformer, *, pdl: bool = True) -> None:
        from ..kernels import linear

        self._linear, self.model, self.pdl = linear, model, pdl
        self.eps = model.config.norm_eps or torch.finfo(torch.float32).eps
        self.weights = [LayerMatrices.of(layer) for layer in model.decoder]
        self.rope = model.rope.contiguous()
        if model.config.nope:
            self.rope = torch.stack((torch.ones_like(self.rope[0]), 0 * self.rope[1]))

    def embed(self, tokens: Tokens, order_N: Tensor, ids: Tensor) -> None:
        """Begin with token ``ids[order_N[n]]``."""
        scratch, width = tokens.scratch, self.model.config.embed_dim
        self._linear.embed[(len(order_N),)](
            order_N, ids, self.model.embedding.weight, scratch.x, scratch.xb, scratch.sums,
            D=width, **self._parts(tokens), PDL=self.pdl, BD=power_of_two(width), num_warps=4,
            launch_pdl=self.pdl,
        )  # fmt: skip

    def project(self, tokens: Tokens, index: int, k: Tensor, v: Tensor, *, own: bool) -> None:
        """Queries of layer ``index``'s own attention, whose new keys and values go to rows of the
        cache, or of its reading of memory."""
        layer, weights, scratch = self.model.decoder[index], self.weights[index], tokens.scratch
        attention = layer.attention if own else layer.memory_read.attention  # type: ignore[union-attr]
        width, head = self.model.config.embed_dim, attention.head_dim
        queries = attention.num_query_heads * head
        keys = attention.num_kv_heads * head if own else 0
        self._product(
            tokens, self._linear.project, queries + 2 * keys, width,
            scratch.xb, scratch.sums, weights.own if own else weights.read, tokens.order_N,
            tokens.pos, self.rope, scratch.q, k, v, len(tokens.order_N), self.eps, k.stride(0),
            k.stride(1), self.rope.stride(0),
            K=width, NQ=queries, NK=keys, H=head, EACH=tokens.each, **self._parts(tokens),
            divide=(queries, keys),
        )  # fmt: skip

    def add(self, tokens: Tokens, a: Tensor, linear: nn.Linear) -> None:
        """What ``linear`` makes of ``a``, to the residual stream."""
        scratch, bias = tokens.scratch, linear.bias
        self._product(
            tokens, self._linear.add_linear, linear.out_features, linear.in_features,
            a, linear.weight, linear.weight if bias is None else bias, scratch.x, scratch.xb,
            scratch.sums, len(tokens.order_N), K=linear.in_features, D=linear.out_features,
            BIAS=bias is not None, MAX=self._linear.MAX_PARTS,
        )  # fmt: skip

    def feed(self, tokens: Tokens, index: int) -> None:
        """The feed-forward of layer ``index``."""
        weights, scratch, width = self.weights[index], tokens.scratch, self.model.config.embed_dim
        weight, inner, bias = weights.gate_up, weights.down.in_features, weights.gate_up_bias
        self._product(
            tokens, self._linear.gate_up, inner, width,
            scratch.xb, scratch.sums, weight, weight if bias is None else bias, scratch.h,
            len(tokens.order_N), self.eps, K=width, F=inner, BIAS=bias is not None,
            **self._parts(tokens), halved=True,
        )  # fmt: skip
        self.add(tokens, scratch.h, weights.down)

    def logits(self, tokens: Tokens, head_VD: Tensor, logits_NV: Tensor) -> None:
        """Of what the last layer left; ``head_VD`` as ``matrices.head_of`` gives it."""
        config, head, scratch = self.model.config, self.model.head, tokens.scratch
        bias = None if head is None else head.bias
        self._product(
            tokens, self._linear.head, config.vocab_size, config.embed_dim,
            scratch.xb, scratch.sums, head_VD, head_VD if bias is None else bias, logits_NV,
            len(tokens.order_N), self.eps, K=config.embed_dim, V=config.vocab_size,
            NORM=self.model.final_norm is not None, BIAS=bias is not None, **self._parts(tokens),
        )  # fmt: skip

    def _parts(self, tokens: Tokens) -> dict[str, int]:
        """Into how many tiles whoever wrote the residual stream has divided it."""
        width = self.model.config.embed_dim
        parts = -(-width // tokens.shape(tokens.together, width, width).N)
        return {"PARTS": parts, "P": power_of_two(parts), "MAX": self._linear.MAX_PARTS}

    def _product(
        self, tokens: Tokens, kernel: Any, columns: int, inner: int, *args: Any,
        divide: tuple[int, ...] = (), halved: bool = False, **fixed: Any,
    ) -> None:  # fmt: skip
        shape = tokens.shape(tokens.together, columns, inner)
        tile = shape.N // 2 if halved else shape.N
        while any(part % tile for part in divide):
            tile //= 2
        grid = (-(-columns // tile), -(-len(tokens.order_N) // shape.M))
        kernel[grid](
            *args, **fixed, PDL=self.pdl, M=shape.M, N=tile, BK=shape.BK,
            num_warps=shape.num_warps, num_stages=shape.num_stages, launch_pdl=self.pdl,
        )  # fmt: skip
