"""Causal attention of whole sequences, the longest rows first.

The last queries read as many keys as there are, the first ones none. Where few heads leave few
tiles, it matters that no long one begins when all others end.
"""

# Shape suffixes: M queries of a tile, S keys of a block, H head width.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _block(q_MH, k_at, v_at, k_token, v_token, at, m, top, total, acc, length, EDGE: tl.constexpr):
    """Attend to one block of keys; EDGE: of which not all may be seen, or exist."""
    if EDGE:
        k_HS = tl.load(k_at + at[None, :] * k_token, mask=(at < length)[None, :], other=0.0)
        v_SH = tl.load(v_at + at[:, None] * v_token, mask=(at < length)[:, None], other=0.0)
    else:
        k_HS = tl.load(k_at + at[None, :] * k_token)
        v_SH = tl.load(v_at + at[:, None] * v_token)
    score = tl.dot(q_MH, k_HS, input_precision="ieee")
    if EDGE:
        score = tl.where(at[None, :] <= m[:, None], score, -1e30)
    new_top = tl.maximum(top, tl.max(score, axis=1))
    p = tl.exp2(score - new_top[:, None])
    shrink = tl.exp2(top - new_top)
    total = total * shrink + tl.sum(p, axis=1)
    acc = tl.dot(p.to(v_SH.dtype), v_SH, acc * shrink[:, None], input_precision="ieee")
    return new_top, total, acc


@triton.jit
def _causal(
    q_ptr, k_ptr, v_ptr, out_ptr, q_row, q_head, q_token, k_row, k_head, k_token,
    v_row, v_head, v_token, scale, length,
    N: tl.constexpr, RATIO: tl.constexpr, H: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    tile = tl.num_programs(1) - 1 - tl.program_id(1)
    row, n = (tl.program_id(0) // N).to(tl.int64), tl.program_id(0) % N
    m, s, h = tile * M + tl.arange(0, M), tl.arange(0, BLOCK), tl.arange(0, H)
    inside = (m < length)[:, None]
    q_at = q_ptr + row * q_row + n * q_head + m[:, None] * q_token + h[None, :]
    q_MH = tl.load(q_at, mask=inside, other=0.0)
    q_MH = (q_MH * (scale * 1.4426950408889634)).to(q_MH.dtype)
    k_at = k_ptr + row * k_row + n // RATIO * k_head + h[:, None]
    v_at = v_ptr + row * v_row + n // RATIO * v_head + h[None, :]
    top = tl.full((M,), -1e30, tl.float32)
    total = tl.zeros((M,), tl.float32)
    acc = tl.zeros((M, H), tl.float32)
    edge = tile * M
    for start in range(0, edge, BLOCK):
        top, total, acc = _block(
            q_MH, k_at, v_at, k_token, v_token, start + s, m, top, total, acc, length, False
        )
    for start in range(edge, tl.minimum(edge + M, length), BLOCK):
        top, total, acc = _block(
            q_MH, k_at, v_at, k_token, v_token, start + s, m, top, total, acc, length, True
        )
    out_at = out_ptr + ((row * length + m[:, None]) * N + n) * H + h[None, :]
    tl.store(out_at, (acc / total[:, None]).to(out_ptr.dtype.element_ty), inside)


def attend_causal(
    q_BNTH: Tensor, k_BGTH: Tensor, v_BGTH: Tensor, shape: tuple[int, int, int, int] | None = None
) -> Tensor:
    """Every query attends to the keys up to its own; [B, N, T, H], heads of a token side by side.
    H is a power of two, 16 or more; its values lie side by side.

    Args:
        shape: queries and keys of a tile, the former a multiple of the latter; warps and stages.
    """
    rows, heads, length, width = q_BNTH.shape
    out = torch.empty((rows, length, heads, width), dtype=q_BNTH.dtype, device=q_BNTH.device)
    tile, block, warps, stages = shape or (128, 64, 4, 3)
    _causal[(rows * heads, triton.cdiv(length, tile))](
        q_BNTH, k_BGTH, v_BGTH, out, *q_BNTH.stride()[:3], *k_BGTH.stride()[:3],
        *v_BGTH.stride()[:3], width**-0.5, length,
        N=heads, RATIO=heads // k_BGTH.shape[1], H=width, M=tile, BLOCK=block,
        num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out.transpose(1, 2)
