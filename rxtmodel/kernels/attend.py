"""Attention of one query token a row to keys that lie in rows of a slab."""

# Shape suffixes: R queries that share a key, S keys of a block, H head width.

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def attend(
    q_ptr, k_ptr, v_ptr, row_ptr, order_ptr, length_ptr, out_ptr,
    row_stride, head_stride, scale, fixed_length,
    GROUPS: tl.constexpr, R: tl.constexpr, H: tl.constexpr, GROW: tl.constexpr,
    PDL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Softmax attention, one program for a row and a kv head.

    Batch entry b reads slab row ``row[order[b]]``, up to ``length[order[b]] + 1`` keys (GROW: its
    own cache, in which the new token stands) or ``fixed_length`` (a memory). Query heads
    ``g R .. g R + R`` read kv head g. Keys of a head are contiguous, [keys, H].
    """
    b, g = tl.program_id(0), tl.program_id(1)
    entry = tl.load(order_ptr + b)
    slab = tl.load(row_ptr + entry).to(tl.int64) * row_stride + g * head_stride
    r, h, s = tl.arange(0, R), tl.arange(0, H), tl.arange(0, BLOCK)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    length = tl.load(length_ptr + entry) + 1 if GROW else fixed_length
    q_at = (b * GROUPS + g) * R * H + r[:, None] * H + h[None, :]
    q_RH = tl.load(q_ptr + q_at).to(tl.float32) * (scale * 1.4426950408889634)
    top = tl.full((R,), float("-inf"), tl.float32)
    total = tl.zeros((R,), tl.float32)
    acc = tl.zeros((R, H), tl.float32)
    for start in range(0, length, BLOCK):
        ok = start + s < length
        at = slab + (start + s)[:, None] * H + h[None, :]
        k_SH = tl.load(k_ptr + at, mask=ok[:, None], other=0.0).to(tl.float32)
        v_SH = tl.load(v_ptr + at, mask=ok[:, None], other=0.0).to(tl.float32)
        score_RS = tl.sum(q_RH[:, None, :] * k_SH[None, :, :], axis=2)
        score_RS = tl.where(ok[None, :], score_RS, float("-inf"))
        new_top = tl.maximum(top, tl.max(score_RS, axis=1))
        p_RS = tl.exp2(score_RS - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(p_RS, axis=1)
        acc = acc * shrink[:, None] + tl.sum(p_RS[:, :, None] * v_SH[None, :, :], axis=1)
        top = new_top
    tl.store(out_ptr + q_at, (acc / total[:, None]).to(out_ptr.dtype.element_ty))
