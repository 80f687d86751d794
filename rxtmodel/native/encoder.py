"""Encoding finished interactions, and folding them into memories of the delta rule, in C."""

# Shape suffixes: L layers, T tokens, S slots, D model width.

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

from . import library, structs
from .describe import describe_layer, describe_stack, epsilon
from .library import NativeUnavailable
from .structs import LANES, Kept
from .support import why_not_encode, why_not_fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..memory import DeltaWrite
    from ..model import ReactiveTransformer


class NativeEncoder:
    """``ReactiveTransformer.encode`` of one interaction.

    Weights are copied in an order of their own, and must not change after. Not for two threads at
    once. Raises NativeUnavailable, as ``NativeDecoder``.

    What it works in stays: fresh memory costs more than the first layer. And PyTorch lets other
    threads run Python while it makes a tensor: readers of the answer, which has just come, would
    be done with it before the encoder begins.
    """

    def __init__(self, model: ReactiveTransformer) -> None:
        if reason := why_not_encode(model):
            raise NativeUnavailable(reason)
        self._library, self._keep = library.load(), Kept(int8=False)
        config, stack = model.config, model.config.encoder_stack
        self._vocab_size, self.longest = config.vocab_size, config.max_seq_len
        shape = (stack.attention.num_kv_heads, self.longest, stack.head_dim)
        kv = torch.zeros(shape), torch.zeros(shape)
        self._layers = (structs.Layer * len(model.encoder))()
        for out, layer in zip(self._layers, model.encoder, strict=True):
            describe_layer(self._keep, out, layer, kv)
        table = model.rope if model.encoder_rope is None else model.encoder_rope
        embedding = model.encoder_embedding or model.embedding
        self._stack = describe_stack(
            self._keep, stack, self._layers, embedding.weight, None if stack.nope else table,
            self.longest,
        )  # fmt: skip
        self._scratch = torch.empty(0)
        self._out = torch.empty(0)

    @property
    def stack(self) -> structs.Decoder:
        """What C knows of it."""
        return self._stack

    def shape(self, count: int) -> tuple[int, ...]:
        """Of an interaction of so many tokens, encoded."""
        return len(self._layers), 1, count, self._stack.dim

    def encode(self, ids: Sequence[int]) -> Tensor:
        """Every layer's output, [L, 1, T, D]. IndexError for ids of no token, or too many."""
        count = len(ids)
        if not 1 <= count <= self.longest:
            raise IndexError(f"an interaction has 1 to {self.longest} tokens, got {count}")
        if min(ids) < 0 or max(ids) >= self._vocab_size:
            raise IndexError(f"ids must be those of {self._vocab_size} tokens, got {list(ids)}")
        stack = ctypes.byref(self._stack)
        threads = library.threads_for(count)
        floats = self._library.rxt_encode_scratch(stack, count, threads)
        if len(self._scratch) < floats:
            self._scratch = torch.zeros(floats)
        if len(self._out) < (size := len(self._layers) * count * self._stack.dim):
            self._out = torch.zeros(size)
        self._library.rxt_encode(
            stack, (ctypes.c_int32 * count)(*ids), count, threads,
            self._scratch.data_ptr(), self._out.data_ptr(),
        )  # fmt: skip
        out_L1TD = torch.empty(self.shape(count))
        # Not by PyTorch, whose threads would share the copy out and wait for each other.
        ctypes.memmove(out_L1TD.data_ptr(), self._out.data_ptr(), 4 * out_L1TD.numel())
        return out_L1TD


class NativeDeltaWrite:
    """``DeltaWrite`` of one interaction into one memory. As ``NativeEncoder`` otherwise."""

    def __init__(self, model: ReactiveTransformer) -> None:
        if reason := why_not_fold(model):
            raise NativeUnavailable(reason)
        self._library, self._keep = library.load(), Kept(int8=False)
        write: DeltaWrite = model.memory_write
        config, keep, heads = model.config, self._keep, write.num_heads
        self._layers = (structs.WriteLayer * config.num_layers)()
        for i, out in enumerate(self._layers):
            out.norm = keep(write.input_norm.weight[i].contiguous())
            out.k = keep.product(write.k_proj.weight[i].T)
            out.v = keep.product(write.v_proj.weight[i].T)
            out.strength = keep.product(write.strength.weight[i].T)
            bias = torch.zeros(-(-heads // LANES) * LANES)
            bias[:heads] = write.strength.bias[i]
            out.strength_bias = keep(bias)
        slots = config.memory.num_slots
        self._write = structs.DeltaWrite(
            layers=ctypes.addressof(self._layers),
            num_layers=config.num_layers,
            dim=config.embed_dim,
            heads=heads,
            slots=slots,
            width=heads * slots,
            eps=epsilon(config.norm_eps),
        )
        self._scratch = torch.empty(0)

    @property
    def write(self) -> structs.DeltaWrite:
        """What C knows of it."""
        return self._write

    def fold(self, memory_LSD: Tensor, encoded_LTD: Tensor) -> Tensor:
        """The next value, [L, S, D] float32; the given one stays as it is."""
        count = encoded_LTD.shape[1]
        memory_LSD, encoded_LTD = memory_LSD.contiguous(), encoded_LTD.contiguous()
        out_LSD = torch.empty_like(memory_LSD)
        write = ctypes.byref(self._write)
        threads = library.threads_for(count)
        floats = threads * self._library.rxt_fold_scratch(write, count)
        if len(self._scratch) < floats:
            self._scratch = torch.zeros(floats)
        self._library.rxt_fold(
            write, memory_LSD.data_ptr(), encoded_LTD.data_ptr(), count, threads,
            self._scratch.data_ptr(), out_LSD.data_ptr(),
        )  # fmt: skip
        return out_LSD
