"""Drawing one token a row, as ``rxtmodel.sampler.draw`` does, in one kernel without a sort.

Thresholds of top-k and top-p are found by halving the range of float32 keys, 32 times: exact, and
without an order of the whole vocabulary.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

DRAWN, PENALISED, BIASED, TOP_K, TOP_P, MIN_P = 1, 2, 4, 8, 16, 32
"""What a row wants, as bits of its flags."""


@triton.jit
def _mixed(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB
    return x ^ (x >> 31)


@triton.jit
def _uniform(seed, drawn):
    """As ``sampler.uniform``."""
    x = _mixed(seed.to(tl.uint64) + 0x9E3779B97F4A7C15)
    x = _mixed(x + drawn.to(tl.uint64) * 0x9E3779B97F4A7C15)
    return (x >> 40).to(tl.float32) * 5.9604644775390625e-08


@triton.jit
def _keys(x):
    """Int32 numbers in the order of float32 ``x``."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _middle(low, high):
    """Rounded up, without overflow."""
    return (low >> 1) + (high >> 1) + ((low | high) & 1)


@triton.jit
def sample(
    logits_ptr, order_ptr, banned_ptr, flags_ptr, numbers_ptr, top_k_ptr, seed_ptr, drawn_ptr,
    seen_ptr, bias_ptr, token_ptr, pos_ptr, out_ptr, stride, nobody,
    V: tl.constexpr, PDL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Draws, and makes the token the row's next input: one program a row.

    ``numbers`` [rows, 4]: temperature, top-p, min-p, penalty. ``stride`` is a row of ``seen`` and
    ``bias``; a row of ``bias`` holds what is banned, too. Row ``nobody`` fills up batches and
    stays at its first place.
    """
    b, v = tl.program_id(0), tl.arange(0, BLOCK)
    ok = v < V
    banned = tl.load(banned_ptr + v, mask=ok, other=0.0)
    row = tl.load(order_ptr + b)
    flags = tl.load(flags_ptr + row)
    top_k = tl.load(top_k_ptr + row)
    number = numbers_ptr + row * 4
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    x = tl.load(logits_ptr + b.to(tl.int64) * V + v, mask=ok, other=float("-inf"))
    at = row.to(tl.int64) * stride + v
    if flags & 2:
        by = tl.load(number + 3)
        seen = tl.load(seen_ptr + at, mask=ok, other=0)
        x = tl.where(seen != 0, tl.where(x > 0, x / by, x * by), x)
    if flags & 4:
        x = x + tl.load(bias_ptr + at, mask=ok, other=0.0)
    else:
        x = x + banned
    token = tl.argmax(x, axis=0).to(tl.int32)
    drawn = tl.load(drawn_ptr + row)
    if flags & 1:
        x = x / tl.load(number)
        key = _keys(x)
        if flags & 8:
            low, high = tl.min(key, axis=0), tl.max(key, axis=0)
            for _ in range(32):
                middle = _middle(low, high)
                enough = tl.sum((key >= middle).to(tl.int32), axis=0) >= top_k
                low = tl.where(enough, middle, low)
                high = tl.where(enough, high, middle - 1)
                high = tl.maximum(high, low)
            x = tl.where(key >= low, x, float("-inf"))
        best = tl.max(x, axis=0)
        p = tl.exp(x - best)
        if flags & 16:
            share = tl.load(number + 1) * tl.sum(p, axis=0)
            low, high = tl.min(key, axis=0), tl.max(key, axis=0)
            # The smallest key above which less than the share lies: it and all above are kept.
            for _ in range(32):
                middle = (low >> 1) + (high >> 1) + (low & high & 1)
                less = tl.sum(tl.where(key > middle, p, 0.0), axis=0) < share
                high = tl.where(less, middle, high)
                low = tl.minimum(tl.where(less, low, middle + 1), high)
            p = tl.where(key >= high, p, 0.0)
        if flags & 32:
            p = tl.where(x >= best + tl.log(tl.load(number + 2)), p, 0.0)
        total = tl.cumsum(p, axis=0)
        beyond = (total > _uniform(tl.load(seed_ptr + row), drawn) * tl.sum(p, axis=0)) & (p > 0)
        found = tl.max(beyond.to(tl.int32), axis=0) > 0
        first = tl.argmax(beyond.to(tl.int32), axis=0)
        token = tl.where(found, first, tl.argmax(p, axis=0)).to(tl.int32)
    tl.store(token_ptr + row, token)
    tl.store(out_ptr + b, token)
    tl.store(drawn_ptr + row, drawn + 1)
    tl.store(pos_ptr + row, tl.where(row == nobody, 0, tl.load(pos_ptr + row) + 1))
    if flags & 2:
        tl.store(seen_ptr + row.to(tl.int64) * stride + token, 1)
