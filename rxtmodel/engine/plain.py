"""One step, and the prefill before it, by the model's own modules: for every configuration."""

# Shape suffixes: B rows of a batch, T tokens, G kv heads, H head width, K keys, V vocabulary.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ..model import ReactiveTransformer
    from .pool import MemoryPool
    from .rows import DeviceRows


class _Ahead:
    """A layer's cache while queries are read: all keys that there are, are new."""

    def __init__(self, k: Tensor, v: Tensor, index_B: Tensor, length: int) -> None:
        self._k, self._v, self._index, self._length = k, v, index_B, length

    def append(self, k_BGTH: Tensor, v_BGTH: Tensor) -> tuple[Tensor, Tensor]:
        """Store them from the start of each row."""
        self._k[self._index, :, : self._length] = k_BGTH
        self._v[self._index, :, : self._length] = v_BGTH
        return k_BGTH, v_BGTH


class _OneMore:
    """A layer's cache while each row takes one more token, at a place of its own."""

    def __init__(self, k: Tensor, v: Tensor, index_B: Tensor, pos_B: Tensor) -> None:
        self._k, self._v, self._index, self._pos = k, v, index_B, pos_B

    def append(self, k_BGTH: Tensor, v_BGTH: Tensor) -> tuple[Tensor, Tensor]:
        """Store them; returns whole rows, of which a mask shows what exists."""
        self._k[self._index, :, self._pos] = k_BGTH[:, :, 0]
        self._v[self._index, :, self._pos] = v_BGTH[:, :, 0]
        return self._k[self._index], self._v[self._index]


class _Pass:
    """What ``model.prefill`` wants to know of a cache."""

    def __init__(self, positions: slice | Tensor, mask: Tensor | None, causal: bool) -> None:
        self.positions, self.mask, self.causal = positions, mask, causal
        self.layers: list[_Ahead | _OneMore] = []


class PlainStep:
    """Steps of any model that this package has."""

    def __init__(self, model: ReactiveTransformer, rows: DeviceRows, pool: MemoryPool) -> None:
        self.model, self.rows, self.pool = model, rows, pool

    def read(self, ids_BT: Tensor, index_B: Tensor, slots_B: Tensor) -> None:
        """Prefill: keys and values of queries into their rows. What pads them on the right lies
        beyond a row's length, and is overwritten as the row grows."""
        length = ids_BT.shape[1]
        cache = _Pass(slice(0, length), None, causal=True)
        cache.layers = [
            _Ahead(k, v, index_B, length) for k, v in zip(self.rows.k, self.rows.v, strict=True)
        ]
        self.model.prefill(ids_BT, self.pool.read(slots_B), cache)  # type: ignore[arg-type]

    def logits(self, order_B: Tensor) -> Tensor:
        """Logits [B, V] after each row's last token, which joins the cache."""
        rows, index_B = self.rows, order_B.long()
        pos_B = rows.pos[index_B].long()
        places = torch.arange(rows.max_len, device=rows.device)
        seen = (places <= pos_B[:, None])[:, None, None, :]
        cache = _Pass(pos_B[:, None], seen, causal=False)
        cache.layers = [_OneMore(k, v, index_B, pos_B) for k, v in zip(rows.k, rows.v, strict=True)]
        memory = self.pool.read(rows.slot[index_B].long())
        ids_B1 = rows.token[index_B].long()[:, None]
        return self.model.decode_step(ids_B1, memory, cache)  # type: ignore[arg-type]
