"""A model's decoder in C, on the caches and memory slabs of a ``DecodeBatch``."""

# Shape suffixes: B rows, V vocabulary.

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

from . import library, structs
from .describe import describe_head, describe_layer, describe_stack
from .library import NativeUnavailable
from .structs import LANES, Kept
from .support import why_not

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..cache import KVCache
    from ..model import MemoryState, ReactiveTransformer


class NativeDecoder:
    """Runs tokens of rows through all layers. What a row gets does not depend on the others.

    Weights are copied in an order of their own, and must not change after. Many rows are shared
    out between as many threads as PyTorch uses, and so are the tokens of a prompt.

    Args:
        cache: keys and values of all rows; tokens are appended behind the ones that it holds.
        banned: [V], added to the logits of all rows that do not allow a token.
        int8: by the weights of eight bits where there are some.
        memory: False runs without memory, as ``model(ids, None)``.

    Raises:
        NativeUnavailable: the model is none that the C files know (``why_not``), or they cannot
            be compiled here.
    """

    def __init__(
        self,
        model: ReactiveTransformer,
        cache: KVCache,
        banned: Tensor,
        *,
        int8: bool = True,
        memory: bool = True,
    ) -> None:
        if reason := why_not(model):
            raise NativeUnavailable(reason)
        self._library = library.load()
        self._cache, self._keep = cache, Kept(int8)
        layers = list(model.causal_layers())
        self._layers = (structs.Layer * len(layers))()
        for index, layer in enumerate(layers):
            kv = cache.k[index], cache.v[index]
            describe_layer(self._keep, self._layers[index], layer, kv, memory=memory)
        self._vocab_size, self._slots = model.config.vocab_size, model.config.memory.num_slots
        width = -(-self._vocab_size // LANES) * LANES
        head = model.head
        no_bias = head is None or head.bias is None
        self._plain = torch.zeros_like(banned) if no_bias else head.bias.detach()
        self._banned, self._bias = banned, banned + self._plain
        rope = None if model.config.nope else model.rope
        self._decoder = describe_stack(
            self._keep, model.config, self._layers, model.embedding.weight, rope, cache.max_len
        )
        describe_head(self._keep, self._decoder, model, self._bias)
        self.delta_shape: tuple[int, int, int] | None = None
        """Of memories that ``store`` takes; None: there are no slabs, or not of the delta rule."""
        self.int8 = self._keep.shortened
        """Whether some weights are those of eight bits."""
        self._logits = torch.zeros(cache.max_rows, width)
        self.logits_BV = self._logits[:, : self._vocab_size]
        """Of the last ``step``, what is banned included; the next one writes over them."""
        self._best = (ctypes.c_int32 * cache.max_rows)()
        longest = max(cache.max_len, self._slots)
        self._floats = self._library.rxt_scratch(ctypes.byref(self._decoder), longest)
        self._scratch = torch.zeros(self._floats)

    def use_memory(self, slabs: MemoryState) -> None:
        """Read memories from these slabs from now on, one entry for each layer with a memory."""
        reading = (layer for layer in self._layers if layer.read != structs.READ_NOTHING)
        for layer, slab in zip(reading, slabs, strict=True):
            layer.slots = slab[0].shape[2]
            layer.memory_k, layer.memory_v = self._keep(slab[0]), self._keep(slab[-1])

        reads = [layer for layer in self._layers if layer.read != structs.READ_NOTHING]
        if reads and all(layer.read == structs.READ_DELTA for layer in reads):
            first = reads[0]
            self.delta_shape = len(reads), first.slots, first.read_heads * first.read_dim

    def store(self, memory_LSD: Tensor, row: int) -> None:
        """Have a row read this memory of ``delta_shape``, float32. ValueError for another shape.

        The same as its projection in the slabs, without the operators, which take as long as to
        read four tokens.
        """
        if memory_LSD.shape != self.delta_shape:
            raise ValueError(
                f"a memory has shape {self.delta_shape}, not {tuple(memory_LSD.shape)}"
            )
        memory_LSD = memory_LSD.contiguous()
        self._library.rxt_store_delta(ctypes.byref(self._decoder), memory_LSD.data_ptr(), row)

    def read(self, ids: Sequence[int], row: int) -> None:
        """Append tokens to a row. IndexError when they do not fit, or are none of the model's."""
        self._read(ids, row, results=False)

    def read_and_draw(self, ids: Sequence[int], row: int) -> int:
        """The same; returns the most probable next token, and leaves its logits as the first."""
        self._read(ids, row, results=True)
        return self._best[0]

    def _read(self, ids: Sequence[int], row: int, *, results: bool) -> None:
        start, count = self._cache.lengths[row], len(ids)
        self._cache.require_room(row, 1, count)
        self._check(ids)
        places = range(start, start + count)
        threads = library.threads_for(count)
        self._forward(ids, [row] * count, places, threads, silent=count - 1, results=results)
        self._cache.lengths[row] += count

    def step(self, ids: Sequence[int], allowed: Sequence[Sequence[int]] = ()) -> list[int]:
        """One token for each of the first rows; returns the most probable next ones.

        ``allowed``: for each row, banned tokens that it may draw.
        """
        some = list({token for tokens in allowed for token in tokens})
        if not some:
            return self._step(ids)
        # A logit that became -inf cannot be had back: what any row allows is not banned at first,
        # and then it is for the other rows.
        self._bias[some] = self._plain[some]
        try:
            self._step(ids)
        finally:
            self._bias[some] = self._plain[some] + self._banned[some]
        for row, tokens in enumerate(allowed):
            others = [token for token in some if token not in tokens]
            self.logits_BV[row, others] += self._banned[others]
        return list(self.logits_BV[: len(ids)].argmax(-1).tolist())

    def _step(self, ids: Sequence[int]) -> list[int]:
        count, lengths = len(ids), self._cache.lengths
        self._cache.require_room(0, count, 1)
        self._check(ids)
        self._forward(ids, range(count), lengths[:count], library.threads_for(count), results=True)
        for row in range(count):
            lengths[row] += 1
        return self._best[:count]

    def _forward(
        self,
        ids: Sequence[int],
        rows: Sequence[int],
        positions: Sequence[int],
        threads: int,
        *,
        results: bool = False,
        silent: int = 0,
    ) -> None:
        count = len(ids)
        self._reserve(threads)
        numbers = ctypes.c_int32 * count
        self._library.rxt_forward(
            ctypes.byref(self._decoder), numbers(*ids), numbers(*rows), numbers(*positions),
            count, silent, threads, self._floats, self._scratch.data_ptr(),
            self._logits.data_ptr() if results else None, self._best if results else None,
        )  # fmt: skip

    def begin(
        self,
        run: int,
        ids: Sequence[int],
        positions: Sequence[int],
        most: int,
        ends: Sequence[int],
        whole: structs.Interaction | None,
    ) -> bool:
        """Have ``RunAhead`` compute steps of the first rows. Nothing else may run meanwhile."""
        count = len(ids)
        threads = library.threads_for(count)
        self._reserve(threads)
        numbers = ctypes.c_int32 * count
        error = self._library.rxt_ahead_begin(
            run, ctypes.byref(self._decoder), numbers(*ids), numbers(*positions), count, threads,
            most, (ctypes.c_int32 * len(ends))(*ends), len(ends), self._floats,
            self._scratch.data_ptr(), self._logits.data_ptr(),
            None if whole is None else ctypes.byref(whole),
        )  # fmt: skip
        return not error

    def _reserve(self, threads: int) -> None:
        if len(self._scratch) < threads * self._floats:
            self._scratch = torch.zeros(threads * self._floats)

    def _check(self, ids: Sequence[int]) -> None:
        # In C a wrong number would read whatever stands there.
        if min(ids) < 0 or max(ids) >= self._vocab_size:
            raise IndexError(f"ids must be those of {self._vocab_size} tokens, got {list(ids)}")
