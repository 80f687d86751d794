"""What a thread of C works in when it encodes an interaction, and folds it into a memory."""

# Shape suffixes: L layers, S slots, D model width.

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

from . import library, structs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from .encoder import NativeDeltaWrite, NativeEncoder


class Room:
    """Cache, scratch and results, beside those of an encoder and its weights.

    Args:
        write: folds; None: interactions are only encoded.
        longest: tokens that an interaction may have, no more than the encoder takes.
    """

    def __init__(
        self, encoder: NativeEncoder, write: NativeDeltaWrite | None, longest: int
    ) -> None:
        loaded, stack = library.load(), encoder.stack
        self.encoder, self.write, self.longest = encoder, write, longest
        self._kv = torch.zeros(2, stack.kv_heads, longest, stack.head_dim)
        layers = (structs.Layer * stack.num_layers).from_address(stack.layers)
        self._layers = type(layers).from_buffer_copy(layers)
        for layer in self._layers:
            layer.k, layer.v = (part.data_ptr() for part in self._kv)
        self._stack = structs.Decoder.from_buffer_copy(stack)
        self._stack.layers, self._stack.max_len = ctypes.addressof(self._layers), longest
        threads = self._threads = library.threads_for(longest)
        floats = loaded.rxt_encode_scratch(ctypes.byref(stack), longest, threads)
        self._scratch = torch.zeros(floats)
        self._out = torch.zeros(stack.num_layers * longest * stack.dim)
        self._fold_scratch = self._next = torch.zeros(0)
        if write is not None:
            floats = loaded.rxt_fold_scratch(ctypes.byref(write.write), longest)
            self._fold_scratch = torch.zeros(threads * floats)
            self._next = torch.zeros(write.write.num_layers * write.write.slots * write.write.dim)
        self._ids = (ctypes.c_int32 * longest)()
        self.memory_LSD: Tensor | None = None
        """Of the last interaction."""

    def interaction(
        self, ids: Sequence[int], eos: int, memory_LSD: Tensor | None
    ) -> structs.Interaction:
        """One that begins with ``ids``, no more than ``longest``, and is folded into a memory."""
        self._ids[: len(ids)] = ids
        folds = self.write is not None and memory_LSD is not None and memory_LSD.is_contiguous()
        self.memory_LSD = memory_LSD if folds else None
        return structs.Interaction(
            encoder=ctypes.addressof(self._stack),
            write=ctypes.addressof(self.write.write) if folds else None,
            ids=ctypes.addressof(self._ids),
            scratch=self._scratch.data_ptr(),
            out=self._out.data_ptr(),
            fold_scratch=self._fold_scratch.data_ptr(),
            next=self._next.data_ptr(),
            memory=memory_LSD.data_ptr() if folds else None,
            count=len(ids),
            longest=self.longest,
            eos=eos,
            threads=self._threads,
        )
