"""Attention of whole sequences with grouped heads: causal, or to the first keys of each row.

Only blocks at an edge compare positions: all others attend without a mask. With causal attention
the last queries read as many keys as there are, the first ones none; where few heads leave few
tiles it matters that no long one begins when all others end, so the longest come first. Attention
that is not causal first tries softmax without looking for the greatest score, and begins again
with it where the sums say that scores are too great or too small for that.
"""

# Shape suffixes: M queries of a tile, S keys of a block, H head width.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _block(
    q_MH, k_at, v_at, k_token, v_token, at, m, top, total, acc, keys,
    EDGE: tl.constexpr, CAUSAL: tl.constexpr, SHIFT: tl.constexpr,
):  # fmt: skip
    """Attend to one block of keys; EDGE: of which not all exist, or may be seen. SHIFT: with
    scores told from the greatest so far."""
    if EDGE:
        k_HS = tl.load(k_at + at[None, :] * k_token, mask=(at < keys)[None, :], other=0.0)
        v_SH = tl.load(v_at + at[:, None] * v_token, mask=(at < keys)[:, None], other=0.0)
    else:
        k_HS = tl.load(k_at + at[None, :] * k_token)
        v_SH = tl.load(v_at + at[:, None] * v_token)
    score = tl.dot(q_MH, k_HS, input_precision="ieee")
    if EDGE:
        seen = (at < keys)[None, :]
        if CAUSAL:
            seen = seen & (at[None, :] <= m[:, None])
        score = tl.where(seen, score, -1e30)
    if not SHIFT:
        p = tl.exp2(score)
        acc = tl.dot(p.to(v_SH.dtype), v_SH, acc, input_precision="ieee")
        return top, total + tl.sum(p, axis=1), acc
    new_top = tl.maximum(top, tl.max(score, axis=1))
    p = tl.exp2(score - new_top[:, None])
    shrink = tl.exp2(top - new_top)
    total = total * shrink + tl.sum(p, axis=1)
    acc = tl.dot(p.to(v_SH.dtype), v_SH, acc * shrink[:, None], input_precision="ieee")
    return new_top, total, acc


@triton.jit
def _blocks(
    q_MH, k_at, v_at, k_token, v_token, m, edge, end, keys,
    H: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr, CAUSAL: tl.constexpr,
    SHIFT: tl.constexpr,
):  # fmt: skip
    """Attend to keys up to ``end``, from ``edge`` on with a mask."""
    s = tl.arange(0, BLOCK)
    top = tl.full((M,), -1e30, tl.float32)
    total = tl.zeros((M,), tl.float32)
    acc = tl.zeros((M, H), tl.float32)
    for start in range(0, edge, BLOCK):
        top, total, acc = _block(
            q_MH, k_at, v_at, k_token, v_token, start + s, m, top, total, acc, keys,
            False, CAUSAL, SHIFT,
        )  # fmt: skip
    for start in range(edge, end, BLOCK):
        top, total, acc = _block(
            q_MH, k_at, v_at, k_token, v_token, start + s, m, top, total, acc, keys,
            True, CAUSAL, SHIFT,
        )  # fmt: skip
    return total, acc


@triton.jit
def _attend(
    q_ptr, k_ptr, v_ptr, count_ptr, index_ptr, out_ptr, q_row, q_head, q_token,
    k_row, k_head, k_token, v_row, v_head, v_token, scale, length, keys,
    N: tl.constexpr, RATIO: tl.constexpr, H: tl.constexpr, CAUSAL: tl.constexpr,
    COUNTED: tl.constexpr, INDEXED: tl.constexpr, QUICK: tl.constexpr, M: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    if CAUSAL:
        tile, at = tl.num_programs(1) - 1 - tl.program_id(1), tl.program_id(0)
    else:
        tile, at = tl.program_id(0), tl.program_id(1)
    row, n = (at // N).to(tl.int64), at % N
    m, h = tile * M + tl.arange(0, M), tl.arange(0, H)
    inside = (m < length)[:, None]
    q_at = q_ptr + row * q_row + n * q_head + m[:, None] * q_token + h[None, :]
    q_MH = tl.load(q_at, mask=inside, other=0.0)
    q_MH = (q_MH * (scale * 1.4426950408889634)).to(q_MH.dtype)
    slab = tl.load(index_ptr + row).to(tl.int64) if INDEXED else row
    k_at = k_ptr + slab * k_row + n // RATIO * k_head + h[:, None]
    v_at = v_ptr + slab * v_row + n // RATIO * v_head + h[None, :]
    if COUNTED:
        keys = tl.load(count_ptr + row).to(tl.int32)
    end = keys
    if CAUSAL:
        end = tl.minimum(keys, tile * M + M)
    edge = end // BLOCK * BLOCK
    if CAUSAL:
        edge = tl.minimum(edge, tile * M)
    total, acc = _blocks(
        q_MH, k_at, v_at, k_token, v_token, m, edge, end, keys, H, M, BLOCK, CAUSAL, not QUICK
    )
    if QUICK:
        # Softmax without a shift is the same as long as no sum leaves what float32 can hold.
        if (tl.max(total, axis=0) > 1e18) | (tl.min(total, axis=0) < 1e-18):
            total, acc = _blocks(
                q_MH, k_at, v_at, k_token, v_token, m, edge, end, keys, H, M, BLOCK, CAUSAL, True
            )
    out_at = out_ptr + ((row * length + m[:, None]) * N + n) * H + h[None, :]
    out = acc / tl.maximum(total, 1e-30)[:, None]
    tl.store(out_at, out.to(out_ptr.dtype.element_ty), inside)


def attend_causal(
    q_BNTH: Tensor, k_BGTH: Tensor, v_BGTH: Tensor, index_B: Tensor | None = None
) -> Tensor:
    """Every query attends to the keys up to its own; [B, N, T, H], heads of a token side by side.

    H is a power of two, 16 or more; its values lie side by side. ``index_B``: where in a slab the
    keys and values of each row lie.
    """
    return _run(q_BNTH, k_BGTH, v_BGTH, None, index_B, causal=True)


def attend_first(
    q_BNTH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, counts_B: Tensor | None = None,
    index_B: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Every query attends to the first ``counts_B`` keys of its row, all without; as
    ``attend_causal``."""
    return _run(q_BNTH, k_BGKH, v_BGKH, counts_B, index_B, causal=False)


TILES = {True: (64, 64, 4, 3), False: (64, 32, 4, 3)}
"""Causal or not: queries and keys of a tile (the former a multiple of the latter), warps, stages.
Found by measuring on an H200."""


def _run(
    q_BNTH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, counts_B: Tensor | None,
    index_B: Tensor | None, *, causal: bool,
) -> Tensor:  # fmt: skip
    rows, heads, length, width = q_BNTH.shape
    out = torch.empty((rows, length, heads, width), dtype=q_BNTH.dtype, device=q_BNTH.device)
    tile, block, warps, stages = TILES[causal]
    quick = not causal and q_BNTH.dtype != torch.float16  # which does not reach far enough
    grid = (triton.cdiv(length, tile), rows * heads)
    _attend[grid[::-1] if causal else grid](
        q_BNTH, k_BGKH, v_BGKH, out if counts_B is None else counts_B,
        out if index_B is None else index_B, out,
        *q_BNTH.stride()[:3], *k_BGKH.stride()[:3], *v_BGKH.stride()[:3], width**-0.5, length,
        k_BGKH.shape[2], N=heads, RATIO=heads // k_BGKH.shape[1], H=width, CAUSAL=causal,
        COUNTED=counts_B is not None, INDEXED=index_B is not None, QUICK=quick,
        M=tile, BLOCK=block, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out.transpose(1, 2)
