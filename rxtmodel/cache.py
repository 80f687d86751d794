"""Key/value cache for decoding a batch of answers, one row each, of different lengths."""

# Shape suffixes: B rows, G kv heads, K keys, H head width.

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .config import LmConfig


class LayerCache(NamedTuple):
    """One layer's view of a ``KVCache`` during one forward pass."""

    new: tuple[Tensor, Tensor]
    """Where new keys and values go, [B, G, T, H]; of ragged rows all that is there."""
    every: tuple[Tensor, Tensor]
    """All keys and values up to the longest row, [B, G, K, H]."""
    ragged: tuple[Tensor, Tensor] | None
    """Of rows of different length: their numbers, and where each new token goes, [B] and [B]."""

    def append(self, k_BGTH: Tensor, v_BGTH: Tensor) -> tuple[Tensor, Tensor]:
        """Store new keys and values; returns all that exist, up to the longest active row."""
        if self.ragged is None:
            self.new[0].copy_(k_BGTH)
            self.new[1].copy_(v_BGTH)
        else:
            row, position = self.ragged
            self.new[0][row, :, position] = k_BGTH[:, :, 0]
            self.new[1][row, :, position] = v_BGTH[:, :, 0]
        return self.every


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
        config: LmConfig,
        max_rows: int,
        max_len: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        attention = config.attention
        shape = (
            config.num_causal_layers,
            max_rows,
            attention.num_kv_heads,
            max_len,
            config.head_dim,
        )
        self.k = torch.zeros(shape, device=device, dtype=dtype)
        self.v = torch.zeros(shape, device=device, dtype=dtype)
        self.lengths: list[int] = []
        self.max_rows, self.max_len = max_rows, max_len
        self._rows = slice(0, 0)
        self.layers: list[LayerCache] = []
        """Of the announced forward pass, one for each layer."""
        self.positions: slice | Tensor = slice(0, 0)
        """Of the announced tokens: the same for all rows, or [B, 1]."""
        self.mask: Tensor | None = None
        """Keys that a token may see, True, where neither all nor ``causal`` says it."""
        self.causal = False

    @property
    def num_rows(self) -> int:
        return len(self.lengths)

    def begin(self, first_row: int, num_rows: int, num_tokens: int) -> None:
        """Announce a forward pass of ``num_tokens`` for rows ``first_row .. + num_rows``.

        Rows of different length advance by one token at a time; else raises ValueError.
        """
        rows = self._rows = slice(first_row, first_row + num_rows)
        lengths = self.lengths[rows]
        start, longest = lengths[0], self.require_room(first_row, num_rows, num_tokens)
        every = self._views(slice(0, longest))
        self.mask, self.causal = None, num_tokens > 1 and not start
        if lengths.count(start) == num_rows:
            self.positions = slice(start, longest)
            new = self._views(self.positions)
            self.layers = [LayerCache(*parts, None) for parts in zip(new, every, strict=True)]
            if start and num_tokens > 1:
                # ``causal`` would align the first new token with the first key of all.
                seen = torch.ones(num_tokens, longest, dtype=torch.bool, device=self.k.device)
                self.mask = seen.tril(start)
            return
        if num_tokens > 1:
            raise ValueError(
                f"rows of {sorted(set(lengths))} tokens cannot take {num_tokens} more at once: "
                "rows of different length advance by one token at a time"
            )
        device = self.k.device
        index = torch.tensor(lengths, device=device)
        ragged = torch.arange(num_rows, device=device), index
        self.positions = index[:, None]
        self.layers = [LayerCache(part, part, ragged) for part in every]
        self.mask = (torch.arange(longest, device=device) <= index[:, None])[:, None, None, :]

    def require_room(self, first_row: int, num_rows: int, num_tokens: int) -> int:
        """Length of the longest of these rows after so many tokens; IndexError if none can be."""
        longest = max(self.lengths[first_row : first_row + num_rows]) + num_tokens
        if longest > self.max_len:
            raise IndexError(f"cache of {self.max_len} tokens cannot hold {longest}")
        return longest

    def _views(self, tokens: slice) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of ``tokens`` in the announced rows, of every layer."""
        k, v = self.k[:, self._rows, :, tokens], self.v[:, self._rows, :, tokens]
        return list(zip(k.unbind(), v.unbind(), strict=True))

    def advance(self, num_tokens: int) -> None:
        """The announced forward pass is done: its tokens are valid now."""
        for row in range(self._rows.start, self._rows.stop):
            self.lengths[row] += num_tokens

    def remove(self, row: int) -> int:
        """End ``row``; the last row takes its place. Returns the row that moved (row if none)."""
        last = self.num_rows - 1
        if row != last:
            n = self.lengths[last]
            self.k[:, row, :, :n] = self.k[:, last, :, :n]
            self.v[:, row, :, :n] = self.v[:, last, :, :n]
            self.lengths[row] = self.lengths[last]
        self.lengths.pop()
        return last
