"""Attention of one query token a row to keys that lie in rows of a slab."""

# Shape suffixes: R queries of a tile, S keys of a block, H head width.

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .prefetch import ask


@triton.jit
def attend(
    q_ptr, k_ptr, v_ptr, row_ptr, order_ptr, length_ptr, out_ptr,
    row_stride, head_stride, scale, fixed_length,
    GROUPS: tl.constexpr, R: tl.constexpr, H: tl.constexpr, GROW: tl.constexpr,
    PDL: tl.constexpr, AHEAD: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Softmax attention, one program for a row and a kv head.

    Batch entry b reads slab row ``row[order[b]]``, up to ``length[order[b]] + 1`` keys (GROW: its
    own cache, in which the new token stands) or ``fixed_length`` (a memory). Query heads
    ``g R .. g R + R`` read kv head g. Keys of a head are contiguous, [keys, H]. TILE is R, filled
    up to what the tensor cores take.

    All that it reads but the queries and the newest key and value was there before this step, so
    up to AHEAD keys and values are asked for while kernels before it still run.
    """
    b, g = tl.program_id(0), tl.program_id(1)
    r, h, s = tl.arange(0, TILE), tl.arange(0, H), tl.arange(0, BLOCK)
    if PDL:
        gdc_launch_dependents()
    entry = tl.load(order_ptr + b)
    slab = tl.load(row_ptr + entry).to(tl.int64) * row_stride + g * head_stride
    length = tl.load(length_ptr + entry) + 1 if GROW else fixed_length
    if PDL:
        if AHEAD > 0:
            line = tl.arange(0, AHEAD * H // 64)
            there = line * 64 < length * H
            ask(k_ptr + slab + line * 64, there)
            ask(v_ptr + slab + line * 64, there)
        gdc_wait()
    q_at = (b * GROUPS + g) * R * H + r[:, None] * H + h[None, :]
    q_RH = tl.load(q_ptr + q_at, mask=(r < R)[:, None], other=0.0)
    top = tl.full((TILE,), -1e30, tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    acc = tl.zeros((TILE, H), tl.float32)
    for start in range(0, length, BLOCK):
        ok = start + s < length
        k_at = slab + (start + s)[None, :] * H + h[:, None]
        v_at = slab + (start + s)[:, None] * H + h[None, :]
        k_HS = tl.load(k_ptr + k_at, mask=ok[None, :], other=0.0)
        v_SH = tl.load(v_ptr + v_at, mask=ok[:, None], other=0.0)
        score_RS = tl.dot(q_RH, k_HS, input_precision="ieee") * (scale * 1.4426950408889634)
        score_RS = tl.where(ok[None, :], score_RS, -1e30)
        new_top = tl.maximum(top, tl.max(score_RS, axis=1))
        p_RS = tl.exp2(score_RS - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(p_RS, axis=1)
        acc = tl.dot(p_RS.to(v_SH.dtype), v_SH, acc * shrink[:, None], input_precision="ieee")
        top = new_top
    out = (acc / total[:, None]).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + q_at, out, mask=(r < R)[:, None])
