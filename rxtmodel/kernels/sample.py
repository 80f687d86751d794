"""Drawing one token a row, as ``rxtmodel.sampler.draw`` does, in one kernel without a sort.

Thresholds of top-k and top-p are found by halving the range they may lie in, until nothing but the
one token lies there: exact, and without an order of the whole vocabulary. Logits are read again and
again, a tile at a time, instead of being kept in registers: so several rows have room on a
multiprocessor.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

DRAWN, PENALISED, BIASED, TOP_K, TOP_P, MIN_P = 1, 2, 4, 8, 16, 32
"""What a row wants, as bits of its flags."""
_HALVINGS: tl.constexpr = tl.constexpr(20)
"""Of the range of logits; then of the range of their bits, which ends after 32 at the latest."""


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
def _middle(low, high, times):
    """A key from ``low`` to before ``high``; the first time the one before all of them."""
    key = (low >> 1) + (high >> 1) + (low & high & 1)
    if times <= _HALVINGS:
        key = _keys(0.5 * _logit(low) + 0.5 * _logit(high))
    return tl.where(times == 0, low - 1, tl.minimum(tl.maximum(key, low), high - 1))


@triton.jit
def _logit(key):
    """Inverse of ``_keys``."""
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def _tile(logits, banned, seen, bias, flags, cold, penalty, v, V: tl.constexpr):
    """Logits of places ``v`` as the row wants them, over its temperature (``cold``: one over it);
    -inf beyond the end."""
    ok = v < V
    x = tl.load(logits + v, mask=ok, other=float("-inf"))
    if flags & 2:
        said = tl.load(seen + v, mask=ok, other=0)
        x = tl.where(said != 0, tl.where(x > 0, x / penalty, x * penalty), x)
    if flags & 4:
        x = x + tl.load(bias + v, mask=ok, other=0.0)
    else:
        x = x + tl.load(banned + v, mask=ok, other=0.0)
    return x * cold + 0.0  # one zero: the key of -0.0 is another one


@triton.jit
def _stored(logits, v, V: tl.constexpr):
    return tl.load(logits + v, mask=v < V, other=float("-inf"))


@triton.jit
def _kept(x, best, floor, least):
    """Probabilities times a constant, of what is neither below a key nor below a number."""
    return tl.where((_keys(x) >= floor) & (x >= least), tl.exp(x - best), 0.0)


@triton.jit
def _added(mass, count, other_mass, other_count):
    return mass + other_mass, count + other_count


@triton.jit
def sample(
    logits_ptr, order_ptr, banned_ptr, flags_ptr, numbers_ptr, top_k_ptr, seed_ptr, drawn_ptr,
    seen_ptr, bias_ptr, token_ptr, pos_ptr, places_ptr, turn_ptr, turn_stride, stride, nobody,
    TURNS: tl.constexpr, V: tl.constexpr, PDL: tl.constexpr, TILE: tl.constexpr,
    TILES: tl.constexpr,
):  # fmt: skip
    """Draws, and makes the token the row's next input: one program a row. Of rows that draw by
    chance, logits are overwritten.

    ``numbers`` [rows, 4]: temperature, top-p, min-p, penalty. ``stride`` is a row of ``seen`` and
    ``bias``; a row of ``bias`` holds what is banned, too. Row ``nobody`` fills up batches and
    stays at its first place. ``TILES``, a power of two, of ``TILE`` hold it all.
    """
    b, v = tl.program_id(0), tl.arange(0, TILE)
    row = tl.load(order_ptr + b)
    flags = tl.load(flags_ptr + row)
    top_k = tl.load(top_k_ptr + row)
    number = numbers_ptr + row * 4
    penalty = tl.load(number + 3)
    cold = 1.0
    if flags & 1:
        cold = 1.0 / tl.load(number)
    logits = logits_ptr + b.to(tl.int64) * V
    seen, bias = seen_ptr + row.to(tl.int64) * stride, bias_ptr + row.to(tl.int64) * stride
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    drawn = tl.load(drawn_ptr + row)
    # The first of the greatest.
    most, place = tl.full((TILE,), float("-inf"), tl.float32), v
    fewest = tl.full((TILE,), float("inf"), tl.float32)
    for start in tl.range(0, V, TILE, loop_unroll_factor=4):
        x = _tile(logits, banned_ptr, seen, bias, flags, cold, penalty, v + start, V)
        place = tl.where(x > most, v + start, place)
        most = tl.maximum(most, x)
        fewest = tl.minimum(fewest, tl.where(x > float("-inf"), x, float("inf")))
        if flags & 1:
            tl.store(logits + v + start, x, mask=v + start < V)
    best = tl.max(most, axis=0)
    token = tl.min(tl.where(most == best, place, V), axis=0)
    if flags & 1:
        tl.debug_barrier()  # a thread may read what another one has stored
        lowest, highest = _keys(tl.min(fewest, axis=0)), _keys(best)
        floor, least = lowest, float("-inf")
        if flags & 8:
            # At least so many have the floor's key or a greater one, fewer one beyond the ceiling.
            ceiling, inside, times = highest, V, 0
            while (floor < ceiling) & (inside > top_k):
                middle = _middle(floor, ceiling, times)
                above = tl.zeros((TILE,), tl.int32)
                for start in tl.range(0, V, TILE, loop_unroll_factor=4):
                    x = _stored(logits, v + start, V)
                    above += (_keys(x) > middle).to(tl.int32)
                count = tl.sum(above, axis=0)
                enough = count >= top_k
                floor = tl.where(enough, middle + 1, floor)
                ceiling = tl.where(enough, ceiling, middle)
                inside = tl.where(enough, count, inside)
                times += 1
        if flags & 16:
            # The share reaches below keys less than the one sought, and not below any beyond.
            low, high, share, times = floor, highest, float("inf"), 0
            inside, beyond = V, 0
            while (low < high) & (inside > beyond + 1):
                middle = _middle(low, high, times)
                mass, above = tl.zeros((TILE,), tl.float32), tl.zeros((TILE,), tl.int32)
                for start in tl.range(0, V, TILE, loop_unroll_factor=4):
                    x = _stored(logits, v + start, V)
                    mass += tl.where(_keys(x) > middle, tl.exp(x - best), 0.0)
                    above += (_keys(x) > middle).to(tl.int32)
                total, count = tl.reduce((mass, above), 0, _added)
                if times == 0:
                    share = tl.load(number + 1) * total
                less = total < share
                high, beyond = tl.where(less, middle, high), tl.where(less, count, beyond)
                low = tl.where(less, low, middle + 1)
                inside = tl.where(less, inside, count)
                times += 1
            floor = low
        if flags & 32:
            least = best + tl.log(tl.load(number + 2))
        # In which tile the number falls, and where in it.
        tile = tl.arange(0, TILES)
        masses = tl.zeros((TILES,), tl.float32)
        for start in tl.range(0, V, TILE, loop_unroll_factor=4):
            x = _stored(logits, v + start, V)
            mass = tl.sum(_kept(x, best, floor, least), axis=0)
            masses = tl.where(tile == start // TILE, mass, masses)
        running = tl.cumsum(masses, axis=0)
        limit = _uniform(tl.load(seed_ptr + row), drawn) * tl.max(running, axis=0)
        places = v + TILE * tl.sum((running <= limit).to(tl.int32), axis=0)
        before = tl.max(tl.where(running <= limit, running, 0.0), axis=0)
        x = _stored(logits, places, V)
        p = _kept(x, best, floor, least)
        beyond = (before + tl.cumsum(p, axis=0) > limit) & (p > 0)
        found = tl.min(tl.where(beyond, places, V), axis=0)
        # Sums in another order may differ in the last bit, and nothing lie beyond.
        token = tl.where(found < V, found, token)
    tl.store(token_ptr + row, token)
    turn = tl.load(turn_ptr + b)
    tl.store(places_ptr + turn * turn_stride + b, token)
    tl.store(turn_ptr + b, (turn + 1) % TURNS)
    tl.store(drawn_ptr + row, drawn + 1)
    tl.store(pos_ptr + row, tl.where(row == nobody, 0, tl.load(pos_ptr + row) + 1))
    if flags & 2:
        tl.store(seen + token, 1)
