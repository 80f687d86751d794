"""Attention of whole sequences in which some keys do not exist, with grouped heads.

PyTorch's fused kernels take either a mask or grouped heads; this one takes both, and reads the mask
as it is, [B, K], instead of one value for each query and key.
"""

# Shape suffixes: M queries of a tile, S keys of a block, H head width.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _masked(
    q_ptr, k_ptr, v_ptr, mask_ptr, out_ptr, q_row, q_head, q_token, k_row, k_head, k_token,
    v_row, v_head, v_token, mask_row, scale, length, keys,
    N: tl.constexpr, RATIO: tl.constexpr, H: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    tile, row = tl.program_id(0), (tl.program_id(1) // N).to(tl.int64)
    n = tl.program_id(1) % N
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
    for start in range(0, keys, BLOCK):
        at = start + s
        exists = tl.load(mask_ptr + row * mask_row + at, mask=at < keys, other=0) != 0
        k_HS = tl.load(k_at + at[None, :] * k_token, mask=(at < keys)[None, :], other=0.0)
        v_SH = tl.load(v_at + at[:, None] * v_token, mask=(at < keys)[:, None], other=0.0)
        score = tl.where(exists[None, :], tl.dot(q_MH, k_HS, input_precision="ieee"), -1e30)
        new_top = tl.maximum(top, tl.max(score, axis=1))
        p = tl.where(exists[None, :], tl.exp2(score - new_top[:, None]), 0.0)
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(p, axis=1)
        acc = tl.dot(p.to(v_SH.dtype), v_SH, acc * shrink[:, None], input_precision="ieee")
        top = new_top
    out_at = out_ptr + ((row * length + m[:, None]) * N + n) * H + h[None, :]
    tl.store(out_at, (acc / tl.maximum(total, 1e-30)[:, None]).to(out_ptr.dtype.element_ty), inside)


def attend_existing(q_BNTH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, mask_BK: Tensor) -> Tensor:
    """Every query attends to the keys of its row whose mask is True; [B, N, T, H], heads of a token
    side by side. A row without keys gives zeros. H is a power of two, 16 or more; its values lie
    side by side."""
    rows, heads, length, width = q_BNTH.shape
    keys = k_BGKH.shape[2]
    out = torch.empty((rows, length, heads, width), dtype=q_BNTH.dtype, device=q_BNTH.device)
    mask = mask_BK.to(torch.uint8).expand(rows, keys)
    tile = 64 if length > 32 else 16
    _masked[(triton.cdiv(length, tile), rows * heads)](
        q_BNTH, k_BGKH, v_BGKH, mask, out, *q_BNTH.stride()[:3], *k_BGKH.stride()[:3],
        *v_BGKH.stride()[:3], mask.stride(0), width**-0.5, length, keys,
        N=heads, RATIO=heads // k_BGKH.shape[1], H=width, M=tile, BLOCK=64,
        num_warps=4, num_stages=3,
    )  # fmt: skip
    return out.transpose(1, 2)
