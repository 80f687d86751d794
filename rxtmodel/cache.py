"""Key/value cache for decoding a batch of answers, one row each, of different lengths."""

# Shape suffixes: B rows, G kv heads, K keys, H head width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .config import RxtConfig


class LayerCache:
    """One layer's view of a ``KVCache`` during one forward pass."""

    def __init__(self, owner: KVCache, layer: int) -> None:
        self._owner, self._layer = owner, layer

    def append(self, k_BGTH: Tensor, v_BGTH: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values; returns all that exist, up to the longest active row."""
        return self._owner.write(self._layer, k_BGTH, v_BGTH)


class KVCache:
    """Keys and values of ``rows`` answers in one slab, attended to only as far as they exist.

    Rows are kept dense: the first ``num_rows`` of the slab are active, and a row that ends is
    replaced by the last one. ``lengths[b]`` tokens of row b are valid.

    Args:
        max_rows: rows that the slab can hold.
        max_len: tokens that a row can hold.
    """

    def __init__(
        self,
        config: RxtConfig,
        max_rows: int,
        max_len: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        attention = config.attention
        shape = (config.num_layers, max_rows, attention.num_kv_heads, max_len, config.head_dim)
        self.k = torch.zeros(shape, device=device, dtype=dtype)
        self.v = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths: list[int] = []
        self.max_rows, self.max_len = max_rows, max_len
        self._rows = slice(0, 0)
        self._positions: list[int] | int = 0
        self._longest = 0
        self._index: Tensor | None = None

    @property
    def num_rows(self) -> int:
        return len(self.lengths)

    def begin(self, first_row: int, num_rows: int, num_tokens: int) -> None:
        """Announce a forward pass of ``num_tokens`` for rows ``first_row .. + num_rows``."""
        self._rows = slice(first_row, first_row + num_rows)
        lengths = self.lengths[self._rows]
        self._longest = max(lengths) + num_tokens
        if self._longest > self.max_len:
            raise IndexError(f"cache of {self.max_len} tokens cannot hold {self._longest}")
        same = lengths.count(lengths[0]) == num_rows
        self._positions = lengths[0] if same else lengths
        # Ragged rows are only ever advanced by one token.
        self._index = None if same else torch.tensor(lengths, device=self.k.device)

    def write(self, layer: int, k_BGTH: Tensor, v_BGTH: Tensor) -> tuple[Tensor, Tensor]:
        k, v = self.k[layer, self._rows], self.v[layer, self._rows]
        if self._index is None:
            start = self._positions
            k[:, :, start : start + k_BGTH.shape[2]] = k_BGTH
            v[:, :, start : start + k_BGTH.shape[2]] = v_BGTH
        else:
            row = torch.arange(k.shape[0], device=k.device)
            k[row, :, self._index] = k_BGTH[:, :, 0]
            v[row, :, self._index] = v_BGTH[:, :, 0]
        return k[:, :, : self._longest], v[:, :, : self._longest]

    def positions(self, num_tokens: int) -> Tensor:
        """Positions of the announced tokens, [T] when all rows agree, else [B, 1]."""
        if self._index is not None:
            return self._index[:, None]
        start = self._positions
        return torch.arange(start, start + num_tokens, device=self.k.device)

    def advance(self, num_tokens: int) -> None:
        """The announced forward pass is done: its tokens are valid now."""
        for row in range(self._rows.start, self._rows.stop):
            self.lengths[row] += num_tokens

    def mask(self) -> Tensor | None:
        """Keys that exist, bool [B, 1, 1, K], for rows of different length; None when equal."""
        if self._index is None:
            return None
        keys = torch.arange(self._longest, device=self.k.device)
        return (keys <= self._index[:, None])[:, None, None, :]

    def remove(self, row: int) -> int:
        """End ``row``; the last row takes its place. Returns the row that moved (== row if none)."""
        last = self.num_rows - 1
        if row != last:
            n = self.lengths[last]
            self.k[:, row, :, :n] = self.k[:, last, :, :n]
            self.v[:, row, :, :n] = self.v[:, last, :, :n]
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        return last
