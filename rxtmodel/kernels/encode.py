"""What lies between the products of the encoder, at many tokens."""

# Shape suffixes: R rows of a tile, D width.

from __future__ import annotations

from typing import TYPE_CHECKING

import triton
import triton.language as tl

if TYPE_CHECKING:
    from torch import Tensor


@triton.jit
def add_norm(
    x_ptr, y_ptr, sum_ptr, norm_ptr, out_ptr, count, eps,
    D: tl.constexpr, ADD: tl.constexpr, NORM: tl.constexpr, R: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """``sum = x + y`` (ADD; else x is the sum), and RMSNorm of it into ``out`` (NORM); [N, D]."""
    r, d = tl.program_id(0) * R + tl.arange(0, R), tl.arange(0, DP)
    ok = (r < count)[:, None] & (d < D)[None, :]
    at = r[:, None] * D + d[None, :]
    x = tl.load(x_ptr + at, mask=ok, other=0.0)
    if ADD:
        x += tl.load(y_ptr + at, mask=ok, other=0.0)
        tl.store(sum_ptr + at, x, mask=ok)
    if NORM:
        x = x.to(tl.float32)
        scale = tl.load(norm_ptr + d, mask=d < D, other=0.0).to(tl.float32)
        out = x * tl.rsqrt(tl.sum(x * x, axis=1) / D + eps)[:, None] * scale[None, :]
        tl.store(out_ptr + at, out.to(out_ptr.dtype.element_ty), mask=ok)


@triton.jit
def _turn(
    x_ptr, out_ptr, rope_ptr, count, length, row, out_row, rope_stride, rope_row,
    C: tl.constexpr, H: tl.constexpr, R: tl.constexpr, CP: tl.constexpr,
):  # fmt: skip
    """See ``turn``."""
    r, c = tl.program_id(0) * R + tl.arange(0, R), tl.arange(0, CP)
    ok = (r < count)[:, None] & (c < C)[None, :]
    r_far = r.to(tl.int64)[:, None]
    x = tl.load(x_ptr + r_far * row + c[None, :], mask=ok, other=0.0)
    pair = tl.arange(0, CP // 2) % (H // 2)
    table = rope_ptr + (r % length)[:, None] * rope_row + pair[None, :]
    inside = (r < count)[:, None]
    cos = tl.load(table, mask=inside, other=0.0)
    sin = tl.load(table + rope_stride, mask=inside, other=0.0)
    even, odd = tl.split(tl.reshape(x.to(tl.float32), (R, CP // 2, 2)))
    turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
    at = out_ptr + r_far * out_row + c[None, :]
    tl.store(at, tl.reshape(turned, (R, CP)).to(x.dtype), mask=ok)


_VALUES = 4096
"""Values of a tile."""


def turn(x: Tensor, rope: Tensor, out: Tensor, length: int, columns: int, head: int) -> None:
    """Rotate the first ``columns`` of ``x`` [rows, ...], heads of width ``head``, into ``out``,
    which may be ``x``: pairs interleaved, by the position of a row in its sequence of ``length``.

    ``rope`` is a table [2, positions, head / 2], see ``rope.rope_table``.
    """
    padded = triton.next_power_of_2(columns)
    tile = max(1, _VALUES // padded)
    _turn[(triton.cdiv(len(x), tile),)](
        x, out, rope, len(x), length, x.stride(0), out.stride(0), *rope.stride()[:2],
        C=columns, H=head, R=tile, CP=padded, num_warps=4,
    )  # fmt: skip
