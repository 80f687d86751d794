"""The first half of a gated feed-forward at many tokens: product, activation and gate in one."""

# Shape suffixes: M rows of a tile, N columns of a tile, K inner width.

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit
def _gate_up(
    x, w, bias_ptr, out, K: tl.constexpr, F: tl.constexpr, BIAS: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """``silu(gate) * up`` of ``x @ w.T + bias``, gate the first F of 2 F columns."""
    # Programs that run at once share few rows and few columns, which then stay in the cache.
    rows, cols = tl.num_programs(1), tl.num_programs(0)
    at = tl.program_id(1) * cols + tl.program_id(0)
    first = at // (GROUP * cols) * GROUP
    tall = tl.minimum(rows - first, GROUP)
    m = (first + at % (GROUP * cols) % tall) * M
    n = at % (GROUP * cols) // tall * N
    gate = tl.zeros((M, N), tl.float32)
    up = tl.zeros((M, N), tl.float32)
    for k in range(0, K, BK):
        x_MK = x.load([m, k])
        gate = tl.dot(x_MK, w.load([n, k]).T, gate, input_precision="ieee")
        up = tl.dot(x_MK, w.load([n + F, k]).T, up, input_precision="ieee")
    if BIAS:
        col = n + tl.arange(0, N)
        gate += tl.load(bias_ptr + col, mask=col < F, other=0.0).to(tl.float32)[None, :]
        up += tl.load(bias_ptr + F + col, mask=col < F, other=0.0).to(tl.float32)[None, :]
    out.store([m, n], (gate * tl.sigmoid(gate) * up).to(out.dtype))


TILE = (128, 64, 64, 4, 3, 16)
"""Rows, columns, inner width, warps, stages, tiles of rows that are side by side. Found by
measuring on an H200."""


def gate_up(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """[N, K] and [2 F, K] -> [N, F]. K and F are multiples of 8."""
    (count, inner), width = x.shape, len(weight) // 2
    m, n, k, warps, stages, group = TILE
    out = x.new_empty(count, width)
    _gate_up[(triton.cdiv(width, n), triton.cdiv(count, m))](
        TensorDescriptor.from_tensor(x, [m, k]), TensorDescriptor.from_tensor(weight, [n, k]),
        x if bias is None else bias, TensorDescriptor.from_tensor(out, [m, n]),
        K=inner, F=width, BIAS=bias is not None, M=m, N=n, BK=k, GROUP=group,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out
