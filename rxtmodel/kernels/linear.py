"""Products of few rows with a matrix, with everything around them that needs no other row.

A step of a small model is bound by the number of kernels, so each of these reads the residual
stream as it is, normalises while it multiplies, and stores what the next kernel wants. Products are
of the weights' type, sums and the residual stream of float32.

With ``PDL`` a kernel starts while the one before it still runs, fetches its weights, and only then
waits for that one (programmatic dependent launch, Hopper and later).
"""

# Shape suffixes: M rows of a tile, N columns of a tile, K inner width.

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def _product(
    x_ptr, norm_ptr, w_ptr, rows, rows_ok, cols, cols_ok, eps,
    K: tl.constexpr, NORM: tl.constexpr, PDL: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``norm(x) @ w.T`` of a tile, float32 [M, N]. ``w`` is [columns, K]; NORM: RMS, scaled."""
    inner = tl.arange(0, BK)
    w_at = w_ptr + cols[None, :] * K + inner[:, None]
    x_at = x_ptr + rows[:, None] * K + inner[None, :]
    w_KN = tl.load(w_at, mask=cols_ok[None, :] & (inner < K)[:, None], other=0.0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    acc = tl.zeros((M, N), tl.float32)
    squares = tl.zeros((M,), tl.float32)
    for start in range(0, K, BK):
        ok = start + inner < K
        if start > 0:
            w_KN = tl.load(w_at + start, mask=cols_ok[None, :] & ok[:, None], other=0.0)
        x_MK = tl.load(x_at + start, mask=rows_ok[:, None] & ok[None, :], other=0.0)
        if NORM:
            x_MK = x_MK.to(tl.float32)
            squares += tl.sum(x_MK * x_MK, axis=1)
            scale = tl.load(norm_ptr + start + inner, mask=ok, other=0.0).to(tl.float32)
            x_MK = x_MK * scale[None, :]
        acc = tl.dot(x_MK.to(w_KN.dtype), w_KN, acc, input_precision="ieee")
    if NORM:
        acc = acc * tl.rsqrt(squares / K + eps)[:, None]
    return acc


@triton.jit
def _tile(count, width, M: tl.constexpr, N: tl.constexpr):
    rows = tl.program_id(1) * M + tl.arange(0, M)
    cols = tl.program_id(0) * N + tl.arange(0, N)
    return rows, rows < count, cols, cols < width


@triton.jit
def embed(order_ptr, token_ptr, table_ptr, x_ptr, D: tl.constexpr, BD: tl.constexpr,
          PDL: tl.constexpr):  # fmt: skip
    """``x[b] = table[token[order[b]]]``, one program a row."""
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    b, at = tl.program_id(0), tl.arange(0, BD)
    token = tl.load(token_ptr + tl.load(order_ptr + b))
    row = tl.load(table_ptr + token.to(tl.int64) * D + at, mask=at < D, other=0.0)
    tl.store(x_ptr + b * D + at, row.to(tl.float32), mask=at < D)


@triton.jit
def project(
    x_ptr, norm_ptr, w_ptr, order_ptr, pos_ptr, rope_ptr, q_ptr, k_ptr, v_ptr, count, eps,
    row_stride, head_stride, rope_stride,
    K: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr, H: tl.constexpr, ROPE: tl.constexpr,
    PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Queries [B, NQ] to ``q``; keys and values (NK columns each, or none) to the cache's rows.

    The first NQ + NK columns are turned by the row's position, pairs interleaved. A tile's columns
    are of one kind: N divides NQ and NK.
    """
    rows, rows_ok, cols, cols_ok = _tile(count, NQ + 2 * NK, M, N)
    acc = _product(x_ptr, norm_ptr, w_ptr, rows, rows_ok, cols, cols_ok, eps,
                   K, True, PDL, M, N, BK)  # fmt: skip
    first = tl.program_id(0) * N
    row = tl.load(order_ptr + rows, mask=rows_ok, other=0)
    pos = tl.load(pos_ptr + row, mask=rows_ok, other=0)
    if ROPE:
        if first < NQ + NK:
            pair = (first + 2 * tl.arange(0, N // 2)) % H // 2
            table = rope_ptr + pos[:, None] * (H // 2) + pair[None, :]
            cos, sin = tl.load(table), tl.load(table + rope_stride)
            even, odd = tl.split(tl.reshape(acc, (M, N // 2, 2)))
            turned = tl.join(even * cos - odd * sin, even * sin + odd * cos)
            acc = tl.reshape(turned, (M, N))
    out = acc.to(q_ptr.dtype.element_ty)
    if first < NQ:
        tl.store(q_ptr + rows[:, None] * NQ + cols[None, :], out, mask=rows_ok[:, None])
    else:
        inside = (cols - NQ) % NK
        at = (row.to(tl.int64) * row_stride + pos * H)[:, None] + (
            inside // H * head_stride + inside % H
        )[None, :]
        if first < NQ + NK:
            tl.store(k_ptr + at, out, mask=rows_ok[:, None])
        else:
            tl.store(v_ptr + at, out, mask=rows_ok[:, None])


@triton.jit
def add_linear(
    a_ptr, w_ptr, bias_ptr, x_ptr, count,
    K: tl.constexpr, D: tl.constexpr, BIAS: tl.constexpr,
    PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``x += a @ w.T + bias`` in place, [B, D]."""
    rows, rows_ok, cols, cols_ok = _tile(count, D, M, N)
    acc = _product(a_ptr, a_ptr, w_ptr, rows, rows_ok, cols, cols_ok, 0.0,
                   K, False, PDL, M, N, BK)  # fmt: skip
    if BIAS:
        acc += tl.load(bias_ptr + cols, mask=cols_ok, other=0.0).to(tl.float32)[None, :]
    at, ok = x_ptr + rows[:, None] * D + cols[None, :], rows_ok[:, None] & cols_ok[None, :]
    tl.store(at, tl.load(at, mask=ok, other=0.0) + acc, mask=ok)


@triton.jit
def gate_up(
    x_ptr, norm_ptr, w_ptr, bias_ptr, h_ptr, count, eps,
    K: tl.constexpr, F: tl.constexpr, BIAS: tl.constexpr,
    PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``h = silu(gate) * up`` of ``norm(x) @ w.T + bias``, gate the first F of 2 F columns.

    A tile takes N columns of each, side by side.
    """
    rows, rows_ok, cols, cols_ok = _tile(count, F, M, N)
    both = tl.reshape(tl.join(cols, cols + F), (2 * N,))
    both_ok = tl.reshape(tl.join(cols_ok, cols_ok), (2 * N,))
    acc = _product(x_ptr, norm_ptr, w_ptr, rows, rows_ok, both, both_ok, eps,
                   K, True, PDL, M, 2 * N, BK)  # fmt: skip
    if BIAS:
        acc += tl.load(bias_ptr + both, mask=both_ok, other=0.0).to(tl.float32)[None, :]
    gate, up = tl.split(tl.reshape(acc, (M, N, 2)))
    out = (gate * tl.sigmoid(gate) * up).to(h_ptr.dtype.element_ty)
    at = h_ptr + rows[:, None] * F + cols[None, :]
    tl.store(at, out, mask=rows_ok[:, None] & cols_ok[None, :])


@triton.jit
def head(
    x_ptr, norm_ptr, w_ptr, bias_ptr, logits_ptr, count, eps,
    K: tl.constexpr, V: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr,
    PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Logits [B, V] float32."""
    rows, rows_ok, cols, cols_ok = _tile(count, V, M, N)
    acc = _product(x_ptr, norm_ptr, w_ptr, rows, rows_ok, cols, cols_ok, eps,
                   K, NORM, PDL, M, N, BK)  # fmt: skip
    if BIAS:
        acc += tl.load(bias_ptr + cols, mask=cols_ok, other=0.0).to(tl.float32)[None, :]
    at = logits_ptr + rows.to(tl.int64)[:, None] * V + cols[None, :]
    tl.store(at, acc, mask=rows_ok[:, None] & cols_ok[None, :])
