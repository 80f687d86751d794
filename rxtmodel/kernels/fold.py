"""What lies between the products of a memory update: norms, gates and means over layers.

Each kernel reads what it needs of a memory once, in float32, and leaves what the next product
takes in the weights' type. Memories of a batch lie where their versions lie: ``at_ptr[b]`` is the
place of memory b, in units of 16 bytes from the tensor that is given beside it.

A residual gate is ``KIND`` and a table of numbers, of which layer l, memory b and slot s have the
one at ``l * g_layer + b * g_row + s * g_slot``: the logit itself, or what the mean of a slot's
channels is multiplied with. ``STATUS`` asks for these means alone, [L, B, S]: for gates that want
to see more than one of them.
"""

# Shape suffixes: L layers (some of a group), R rows of a tile, D width.

from __future__ import annotations

import triton
import triton.language as tl

NONE, REPLACE, LOGIT, MEAN = 0, 1, 2, 3
"""Kinds of gates: the update is added, taken, or blended in by a logit, or by that times a mean."""


@triton.jit
def _scaled(x, eps, D: tl.constexpr):
    """Rows of ``x`` over their root mean square."""
    return x * tl.rsqrt(tl.sum(x * x, axis=1) / D + eps)[:, None]


@triton.jit
def _mean(old, update, D: tl.constexpr):
    return tl.sum(old + update, axis=1) / D


@triton.jit
def _gated(old, update, number, D: tl.constexpr, KIND: tl.constexpr, TANH: tl.constexpr):
    """As ``ResidualGate``; ``number`` is a column, one for each row."""
    out = update
    if KIND == 0:
        out = old + update
    if KIND >= 2:
        logit = number
        if KIND == 3:
            logit = number * _mean(old, update, D)
        gate = tl.sigmoid(2 * logit if TANH else logit)[:, None]
        if TANH:
            gate = 2 * gate - 1
            out = (1 + gate) * update + (1 - gate) * old
        else:
            out = old + gate * (update - old)
    return out


@triton.jit
def mix(
    memory_ptr, at_ptr, norm_ptr, mean_norm_ptr, gate_ptr, own_ptr, other_ptr, status_ptr,
    count, slots, eps, g_layer, g_row, g_slot,
    LAYERS: tl.constexpr, D: tl.constexpr, OTHER: tl.constexpr, BLEND: tl.constexpr,
    KIND: tl.constexpr, TANH: tl.constexpr, STATUS: tl.constexpr,
    LP: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """A slot of the LAYERS layers of a group: normalised into ``own``; and into ``other`` their
    normalised mean, blended with ``own`` if BLEND. Both [L, B, S, D]. LP layers at a time, which
    for the mean are read before: they are still in the cache when they are read again."""
    s, b, group = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    step, d = tl.arange(0, LP), tl.arange(0, DP)
    memory_ptr += tl.load(at_ptr + b) * 4
    mean_D = tl.zeros((DP,), tl.float32)
    if OTHER:
        for first in tl.static_range(0, LAYERS, LP):
            layer = group * LAYERS + first + step
            ok = (first + step < LAYERS)[:, None] & (d < D)[None, :]
            row = (layer * slots + s).to(tl.int64) * D
            x_LD = tl.load(memory_ptr + row[:, None] + d[None, :], mask=ok, other=0.0)
            mean_D += tl.sum(x_LD, axis=0)
        mean_D = mean_D / LAYERS
        scale = tl.load(mean_norm_ptr + d, mask=d < D, other=0.0).to(tl.float32)
        mean_D = mean_D * tl.rsqrt(tl.sum(mean_D * mean_D, axis=0) / D + eps) * scale
    for first in tl.static_range(0, LAYERS, LP):
        layer, inside = group * LAYERS + first + step, first + step < LAYERS
        ok = inside[:, None] & (d < D)[None, :]
        row = (layer * slots + s).to(tl.int64) * D
        x_LD = tl.load(memory_ptr + row[:, None] + d[None, :], mask=ok, other=0.0)
        scale = tl.load(norm_ptr + layer[:, None] * D + d[None, :], mask=ok, other=0.0)
        own_LD = _scaled(x_LD, eps, D) * scale.to(tl.float32)
        to = ((layer * count + b) * slots + s).to(tl.int64)
        to_LD = to[:, None] * D + d[None, :]
        if not STATUS:
            tl.store(own_ptr + to_LD, own_LD.to(own_ptr.dtype.element_ty), mask=ok)
        if OTHER:
            other_LD = tl.broadcast_to(mean_D[None, :], (LP, DP))
            if STATUS:
                tl.store(status_ptr + to, _mean(own_LD, other_LD, D), mask=inside)
            else:
                if BLEND:
                    number = tl.load(
                        gate_ptr + layer * g_layer + b * g_row + s * g_slot, mask=inside, other=0.0
                    )
                    other_LD = _gated(own_LD, other_LD, number.to(tl.float32), D, KIND, TANH)
                tl.store(other_ptr + to_LD, other_LD.to(other_ptr.dtype.element_ty), mask=ok)


@triton.jit
def _tile(memory_ptr, at_ptr, count, slots, R: tl.constexpr, D: tl.constexpr, DP: tl.constexpr):
    """R slots of a layer of a memory: where they lie in it and in [L, B, S, D], and what exists."""
    b, layer = tl.program_id(1), tl.program_id(2)
    s, d = tl.program_id(0) * R + tl.arange(0, R), tl.arange(0, DP)
    ok = (s < slots)[:, None] & (d < D)[None, :]
    row = (layer * slots + s).to(tl.int64) * D
    to = ((layer * count + b) * slots + s).to(tl.int64)
    x_RD = tl.load(
        memory_ptr + tl.load(at_ptr + b) * 4 + row[:, None] + d[None, :], mask=ok, other=0.0
    )
    return b, layer, s, d, ok, row, to, x_RD


@triton.jit
def _biased(at, ok, bias_at, bias_ok, BIAS: tl.constexpr):
    """What a product left, and its bias, which is a row."""
    x = tl.load(at, mask=ok, other=0.0).to(tl.float32)
    if BIAS:
        x += tl.load(bias_at, mask=bias_ok, other=0.0).to(tl.float32)[None, :]
    return x


@triton.jit
def address(
    memory_ptr, at_ptr, pre_ptr, pre_bias_ptr, gate_ptr, norm_ptr, ids_ptr, queries_ptr,
    status_ptr, count, slots, eps, g_layer, g_row, g_slot,
    D: tl.constexpr, PRE: tl.constexpr, PRE_BIAS: tl.constexpr, KIND: tl.constexpr,
    TANH: tl.constexpr,
    IDS: tl.constexpr, STATUS: tl.constexpr, R: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """Queries [L, B, S, D] of the write: memories (PRE: after what they attended to among
    themselves was gated in), normalised, with the identities of slots added if IDS."""
    b, layer, s, d, ok, row, to, x_RD = _tile(memory_ptr, at_ptr, count, slots, R, D, DP)
    to_RD = to[:, None] * D + d[None, :]
    if PRE:
        pre_RD = _biased(pre_ptr + to_RD, ok, pre_bias_ptr + layer * D + d, d < D, PRE_BIAS)
        if STATUS:
            tl.store(status_ptr + to, _mean(x_RD, pre_RD, D), mask=s < slots)
        else:
            number = tl.load(
                gate_ptr + layer * g_layer + b * g_row + s * g_slot, mask=s < slots, other=0.0
            ).to(tl.float32)
            x_RD = _gated(x_RD, pre_RD, number, D, KIND, TANH)
    if not STATUS:
        scale = tl.load(norm_ptr + layer * D + d, mask=d < D, other=0.0).to(tl.float32)
        out = (_scaled(x_RD, eps, D) * scale[None, :]).to(queries_ptr.dtype.element_ty)
        if IDS:
            out += tl.load(ids_ptr + row[:, None] + d[None, :], mask=ok, other=0.0)
        tl.store(queries_ptr + to_RD, out, mask=ok)


@triton.jit
def renew(
    memory_ptr, at_ptr, pre_ptr, pre_bias_ptr, pre_gate_ptr, update_ptr, bias_ptr, gate_ptr,
    norm_ptr, ids_ptr, new_ptr, new_at_ptr, read_ptr, status_ptr,
    count, slots, eps, p_layer, p_row, p_slot, g_layer, g_row, g_slot,
    D: tl.constexpr, PRE: tl.constexpr, PRE_BIAS: tl.constexpr, PRE_KIND: tl.constexpr,
    BIAS: tl.constexpr, KIND: tl.constexpr, TANH: tl.constexpr, IDS: tl.constexpr,
    READ: tl.constexpr, STATUS: tl.constexpr,
    R: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """New memories, float32, to where ``new_at`` says, and if READ what the decoder's keys and
    values are made of, [L, B, S, D]. What ``address`` gated in is computed again: that is less to
    read than it would be to write and read."""
    b, layer, s, d, ok, row, to, x_RD = _tile(memory_ptr, at_ptr, count, slots, R, D, DP)
    to_RD = to[:, None] * D + d[None, :]
    if PRE:
        pre_RD = _biased(pre_ptr + to_RD, ok, pre_bias_ptr + layer * D + d, d < D, PRE_BIAS)
        number = tl.load(
            pre_gate_ptr + layer * p_layer + b * p_row + s * p_slot, mask=s < slots, other=0.0
        ).to(tl.float32)
        x_RD = _gated(x_RD, pre_RD, number, D, PRE_KIND, TANH)
    update_RD = _biased(update_ptr + to_RD, ok, bias_ptr + layer * D + d, d < D, BIAS)
    if STATUS:
        tl.store(status_ptr + to, _mean(x_RD, update_RD, D), mask=s < slots)
    else:
        number = tl.load(
            gate_ptr + layer * g_layer + b * g_row + s * g_slot, mask=s < slots, other=0.0
        ).to(tl.float32)
        x_RD = _gated(x_RD, update_RD, number, D, KIND, TANH)
        new_at = tl.load(new_at_ptr + b) * 4
        tl.store(new_ptr + new_at + row[:, None] + d[None, :], x_RD, mask=ok)
        if READ:
            x_RD = x_RD.to(read_ptr.dtype.element_ty).to(tl.float32)
            scale = tl.load(norm_ptr + layer * D + d, mask=d < D, other=0.0).to(tl.float32)
            out = (_scaled(x_RD, eps, D) * scale[None, :]).to(read_ptr.dtype.element_ty)
            if IDS:
                out += tl.load(ids_ptr + row[:, None] + d[None, :], mask=ok, other=0.0)
            tl.store(read_ptr + to_RD, out, mask=ok)


@triton.jit
def interaction(
    encoded_ptr, at_ptr, layer_ptr, length_ptr, norm_ptr, out_ptr, count, length, eps,
    D: tl.constexpr, R: tl.constexpr, DP: tl.constexpr,
):  # fmt: skip
    """Encoded interactions from where they lie, normalised, side by side: [L, B, T, D], zeros where
    there is no token. ``at`` in units of 16 bytes; so ``layer``, from one layer to the next."""
    b, layer = tl.program_id(1), tl.program_id(2)
    t, d = tl.program_id(0) * R + tl.arange(0, R), tl.arange(0, DP)
    ok = (t < tl.load(length_ptr + b))[:, None] & (d < D)[None, :]
    at = (tl.load(at_ptr + b) + layer * tl.load(layer_ptr + b)) * 8
    x_RD = tl.load(encoded_ptr + at + t[:, None] * D + d[None, :], mask=ok, other=0.0)
    scale = tl.load(norm_ptr + layer * D + d, mask=d < D, other=0.0).to(tl.float32)
    out = _scaled(x_RD.to(tl.float32), eps, D) * scale[None, :]
    to = ((layer * count + b) * length + t).to(tl.int64)[:, None] * D + d[None, :]
    exists = (t < length)[:, None] & (d < D)[None, :]
    tl.store(out_ptr + to, out.to(out_ptr.dtype.element_ty), mask=exists)


@triton.jit
def to_slots(
    kv_ptr, slab_ptr, at_ptr, slot_ptr, count, slots, slab_row,
    G: tl.constexpr, H: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Keys and values [L, B, S, 2 G H] to a pool's slabs, [slots of the pool, G, S, H] each.
    ``at`` [L, 2]: where the slabs lie, in units of 16 bytes from ``slab``."""
    b, layer = tl.program_id(1), tl.program_id(2) // 2
    part = tl.program_id(2) % 2
    s, c = tl.program_id(0) * R + tl.arange(0, R), tl.arange(0, G * H)
    ok = (s < slots)[:, None]
    at = ((layer * count + b) * slots + s).to(tl.int64)[:, None] * (2 * G * H)
    x = tl.load(kv_ptr + at + part * G * H + c[None, :], mask=ok)
    slab = tl.load(at_ptr + layer * 2 + part) * 8 + tl.load(slot_ptr + b) * slab_row
    to = (c // H)[None, :] * slots * H + s[:, None] * H + (c % H)[None, :]
    tl.store(slab_ptr + slab + to, x, mask=ok)
