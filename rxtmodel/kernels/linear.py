"""Products of few rows with a matrix, with everything around them that needs no other row.

A step of a small model is bound by the number of kernels, so a norm is none of its own. Its weight
is part of the matrix; its scale, one number for each row, is applied to the product, and is made of
the sums of squares that whoever wrote the residual stream left behind, one for each of its tiles.
The residual stream is kept in float32, and beside it in the weights' type as products read it.

With ``PDL`` a kernel starts while the one before it still runs, fetches its weights, and only then
waits for that one (programmatic dependent launch, Hopper and later).
"""

# Shape suffixes: M rows of a tile, N columns of a tile, K inner width, P tiles of the stream.

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .prefetch import ask

MAX_PARTS = 128
"""Sums of squares that a row of the residual stream may have."""


@triton.jit
def _product(
    x_ptr, w_ptr, rows, rows_ok, cols, cols_ok,
    K: tl.constexpr, PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``x @ w.T`` of a tile, float32 [M, N]. ``w`` is [columns, K]."""
    inner = tl.arange(0, BK)
    w_at = w_ptr + cols[None, :] * K + inner[:, None]
    x_at = x_ptr + rows[:, None] * K + inner[None, :]
    if M > 16:
        # Loads that stand in the loop alone are fetched ahead of it; before they may begin, the
        # rest of what is known already comes nearer.
        if PDL:
            gdc_launch_dependents()
            _ask_for(w_ptr, cols, cols_ok, K, N)
            gdc_wait()
        acc = tl.zeros((M, N), tl.float32)
        for start in range(0, K, BK):
            ok = start + inner < K
            w_KN = tl.load(w_at + start, mask=cols_ok[None, :] & ok[:, None], other=0.0)
            x_MK = tl.load(x_at + start, mask=rows_ok[:, None] & ok[None, :], other=0.0)
            acc = tl.dot(x_MK, w_KN, acc, input_precision="ieee")
        return acc
    w_KN = tl.load(w_at, mask=cols_ok[None, :] & (inner < K)[:, None], other=0.0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    acc = tl.zeros((M, N), tl.float32)
    for start in range(0, K, BK):
        ok = start + inner < K
        if start > 0:
            w_KN = tl.load(w_at + start, mask=cols_ok[None, :] & ok[:, None], other=0.0)
        if M == 1:  # tensor cores take sixteen rows or more
            x_K1 = tl.load(x_ptr + rows * K + start + inner, mask=ok, other=0.0)[:, None]
            acc += tl.sum(x_K1.to(tl.float32) * w_KN.to(tl.float32), axis=0)[None, :]
        else:
            x_MK = tl.load(x_at + start, mask=rows_ok[:, None] & ok[None, :], other=0.0)
            acc = tl.dot(x_MK, w_KN, acc, input_precision="ieee")
    return acc


@triton.jit
def _ask_for(w_ptr, cols, cols_ok, K: tl.constexpr, N: tl.constexpr):
    """Have rows of a matrix brought to the second cache."""
    LINES: tl.constexpr = triton.cdiv(K, 64)
    line = tl.arange(0, triton.next_power_of_2(LINES))
    at = w_ptr + cols[:, None] * K + line[None, :] * 64
    ask(at, cols_ok[:, None] & (line < LINES)[None, :])


@triton.jit
def _scale(sums_ptr, rows, rows_ok, eps, K: tl.constexpr, PARTS: tl.constexpr, P: tl.constexpr,
           MAX: tl.constexpr):  # fmt: skip
    """What RMSNorm multiplies each row with, [M]."""
    part = tl.arange(0, P)
    at = sums_ptr + rows[:, None] * MAX + part[None, :]
    sums = tl.load(at, mask=rows_ok[:, None] & (part < PARTS)[None, :], other=0.0)
    return tl.rsqrt(tl.sum(sums, axis=1) / K + eps)


@triton.jit
def _tile(count, width, M: tl.constexpr, N: tl.constexpr):
    rows = tl.program_id(1) * M + tl.arange(0, M)
    cols = tl.program_id(0) * N + tl.arange(0, N)
    return rows, rows < count, cols, cols < width


@triton.jit
def embed(order_ptr, token_ptr, table_ptr, x_ptr, xb_ptr, sums_ptr,
          D: tl.constexpr, PARTS: tl.constexpr, P: tl.constexpr, MAX: tl.constexpr,
          PDL: tl.constexpr, BD: tl.constexpr):  # fmt: skip
    """``x[b] = table[token[order[b]]]``, one program a row."""
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    b, at, part = tl.program_id(0), tl.arange(0, BD), tl.arange(0, P)
    token = tl.load(token_ptr + tl.load(order_ptr + b))
    row = tl.load(table_ptr + token.to(tl.int64) * D + at, mask=at < D, other=0.0)
    x = row.to(tl.float32)
    tl.store(x_ptr + b * D + at, x, mask=at < D)
    tl.store(xb_ptr + b * D + at, row, mask=at < D)
    sums = tl.where(part == 0, tl.sum(x * x, axis=0), 0.0)
    tl.store(sums_ptr + b * MAX + part, sums, mask=part < PARTS)


@triton.jit
def project(
    xb_ptr, sums_ptr, w_ptr, order_ptr, pos_ptr, rope_ptr, q_ptr, k_ptr, v_ptr, count, eps,
    row_stride, head_stride, rope_stride,
    K: tl.constexpr, NQ: tl.constexpr, NK: tl.constexpr, H: tl.constexpr, EACH: tl.constexpr,
    PARTS: tl.constexpr, P: tl.constexpr, MAX: tl.constexpr,
    PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Queries [B, NQ] to ``q``; keys and values (NK columns each, or none) to the cache's rows.

    The first NQ + NK columns are turned by the position of the cache's row, or (EACH) of the
    token, pairs interleaved. A tile's columns are of one kind: N divides NQ and NK.
    """
    rows, rows_ok, cols, cols_ok = _tile(count, NQ + 2 * NK, M, N)
    acc = _product(xb_ptr, w_ptr, rows, rows_ok, cols, cols_ok, K, PDL, M, N, BK)
    acc = acc * _scale(sums_ptr, rows, rows_ok, eps, K, PARTS, P, MAX)[:, None]
    first = tl.program_id(0) * N
    row = tl.load(order_ptr + rows, mask=rows_ok, other=0)
    pos = tl.load(pos_ptr + (rows if EACH else row), mask=rows_ok, other=0)
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
    a_ptr, w_ptr, bias_ptr, x_ptr, xb_ptr, sums_ptr, count,
    K: tl.constexpr, D: tl.constexpr, BIAS: tl.constexpr, MAX: tl.constexpr,
    PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``x += a @ w.T + bias`` in place, [B, D], and what the next norm wants to know of it."""
    rows, rows_ok, cols, cols_ok = _tile(count, D, M, N)
    acc = _product(a_ptr, w_ptr, rows, rows_ok, cols, cols_ok, K, PDL, M, N, BK)
    if BIAS:
        acc += tl.load(bias_ptr + cols, mask=cols_ok, other=0.0).to(tl.float32)[None, :]
    at, ok = rows[:, None] * D + cols[None, :], rows_ok[:, None] & cols_ok[None, :]
    x = tl.load(x_ptr + at, mask=ok, other=0.0) + acc
    x = tl.where(ok, x, 0.0)
    tl.store(x_ptr + at, x, mask=ok)
    tl.store(xb_ptr + at, x.to(xb_ptr.dtype.element_ty), mask=ok)
    tl.store(sums_ptr + rows * MAX + tl.program_id(0), tl.sum(x * x, axis=1), mask=rows_ok)


@triton.jit
def gate_up(
    xb_ptr, sums_ptr, w_ptr, bias_ptr, h_ptr, count, eps,
    K: tl.constexpr, F: tl.constexpr, BIAS: tl.constexpr,
    PARTS: tl.constexpr, P: tl.constexpr, MAX: tl.constexpr,
    PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``h = silu(gate) * up`` of ``norm(x) @ w.T + bias``, gate the first F of 2 F columns.

    A tile takes N columns of each, side by side.
    """
    rows, rows_ok, cols, cols_ok = _tile(count, F, M, N)
    both = tl.reshape(tl.join(cols, cols + F), (2 * N,))
    both_ok = tl.reshape(tl.join(cols_ok, cols_ok), (2 * N,))
    acc = _product(xb_ptr, w_ptr, rows, rows_ok, both, both_ok, K, PDL, M, 2 * N, BK)
    acc = acc * _scale(sums_ptr, rows, rows_ok, eps, K, PARTS, P, MAX)[:, None]
    if BIAS:
        acc += tl.load(bias_ptr + both, mask=both_ok, other=0.0).to(tl.float32)[None, :]
    gate, up = tl.split(tl.reshape(acc, (M, N, 2)))
    out = (gate * tl.sigmoid(gate) * up).to(h_ptr.dtype.element_ty)
    at = h_ptr + rows[:, None] * F + cols[None, :]
    tl.store(at, out, mask=rows_ok[:, None] & cols_ok[None, :])


@triton.jit
def head(
    xb_ptr, sums_ptr, w_ptr, bias_ptr, logits_ptr, count, eps,
    K: tl.constexpr, V: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr,
    PARTS: tl.constexpr, P: tl.constexpr, MAX: tl.constexpr,
    PDL: tl.constexpr, M: tl.constexpr, N: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Logits [B, V] float32."""
    rows, rows_ok, cols, cols_ok = _tile(count, V, M, N)
    acc = _product(xb_ptr, w_ptr, rows, rows_ok, cols, cols_ok, K, PDL, M, N, BK)
    if NORM:
        acc = acc * _scale(sums_ptr, rows, rows_ok, eps, K, PARTS, P, MAX)[:, None]
    if BIAS:
        acc += tl.load(bias_ptr + cols, mask=cols_ok, other=0.0).to(tl.float32)[None, :]
    at = logits_ptr + rows.to(tl.int64)[:, None] * V + cols[None, :]
    tl.store(at, acc, mask=rows_ok[:, None] & cols_ok[None, :])
