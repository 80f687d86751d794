"""What lies between the products of the encoder, at many tokens."""

# Shape suffixes: R rows of a tile, D width.

from __future__ import annotations

import triton
import triton.language as tl


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
def turn(
    x_ptr, rope_ptr, count, length, row, rope_stride,
    C: tl.constexpr, H: tl.constexpr, R: tl.constexpr, CP: tl.constexpr,
):  # fmt: skip
    """Rotate the first C columns of ``x`` [rows, row] in place, pairs interleaved, by the position
    of each row in its sequence of ``length``."""
    r, c = tl.program_id(0) * R + tl.arange(0, R), tl.arange(0, CP)
    ok = (r < count)[:, None] & (c < C)[None, :]
    at = x_ptr + r.to(tl.int64)[:, None] * row + c[None, :]
    x = tl.load(at, mask=ok, other=0.0)
    pair = tl.arange(0, CP // 2) % (H // 2)
    table = rope_ptr + (r % length)[:, None] * (H // 2) + pair[None, :]
    inside = (r < count)[:, None]
    cos = tl.load(table, mask=inside, other=0.0)
    sin = tl.load(table + rope_stride, mask=inside, other=0.0)
    even, odd = tl.split(tl.reshape(x.to(tl.float32), (R, CP // 2, 2)))
    turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
    tl.store(at, tl.reshape(turned, (R, CP)).to(x.dtype), mask=ok)
