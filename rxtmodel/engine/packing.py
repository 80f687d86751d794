"""How the persistent step divides its matrices, and in which order it wants their numbers."""

# Shape suffixes: N outputs, K inner width.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ..model import ReactiveTransformer

WARPS = 8
SLOT_BYTES = 16_384
"""Of weights that come at once."""
TILE_BYTES = 512
"""Of 16 outputs and 16 channels."""
_MOST_SCRATCH = 12_288
_BLOCKS = 32
"""Of a group, when matrices are divided; a few more or less run them as well."""
STREAM = ("OwnOut", "ReadOut", "Down")
"""Products whose sums join the residual stream, which stays in one place all along."""
GATED = "Wide"


@dataclass(frozen=True)
class Product:
    """One matrix: of its tiles of 16 outputs, ``groups * wide`` are a unit of work; ``chunk`` tiles
    of its inner width come at once."""

    name: str
    inner: int
    outputs: int
    groups: int
    wide: int
    chunk: int

    @classmethod
    def of(cls, name: str, inner_width: int, width: int, columns: tuple[int, ...]) -> Product:
        """``columns``: tiles that a unit may have; what takes least time is chosen."""
        tiles, inner = -(-width // 16), inner_width // 16
        # Only the head looks where its outputs end.
        columns = tuple(c for c in columns if tiles % c == 0) or columns
        units = {c: -(-tiles // c) for c in columns}
        best = min(columns, key=lambda c: (-(-units[c] // _BLOCKS) * c, -c))
        groups = 2 if name == GATED else 1
        most = SLOT_BYTES // (best * TILE_BYTES)
        chunk = max(n for n in range(1, most + 1) if inner % n == 0)
        return cls(name, inner, units[best] * best, groups, best // groups, chunk)

    @property
    def bytes(self) -> int:
        """Of the matrix."""
        return self.inner * self.outputs * TILE_BYTES

    def row_tiles(self, all_tiles: int, blocks: int) -> int | None:
        """Tiles of rows of a unit: fewer where there would be fewer units than blocks. None: warps
        cannot share the work."""
        units, m = self.outputs // (self.groups * self.wide), all_tiles
        while m > 1 and units * (all_tiles // m) * 2 <= blocks and self._is_shared(m // 2):
            m //= 2
        return m if self._is_shared(m) else None

    def shape(self, row_tiles: int) -> str:
        """As ``Shape`` of product.h."""
        numbers = (self.inner, self.outputs, row_tiles, self.groups, self.wide, self.chunk)
        return f"Shape<{', '.join(map(str, numbers))}>"

    def scratch(self, row_tiles: int) -> int:
        """Bytes in which warps leave their parts of a sum."""
        split = WARPS // (row_tiles * self.groups)
        return (split - 1) * row_tiles * self.groups * self.wide * 2 * TILE_BYTES

    def packed(self, weight_NK: Tensor) -> Tensor:
        """The matrix in the order in which blocks take it, outputs filled up with zeros."""
        if self.name == GATED:
            weight_NK = _by_pairs(weight_NK)
        columns = self.groups * self.wide
        missing = 16 * self.outputs - len(weight_NK)
        weight_NK = torch.nn.functional.pad(weight_NK, (0, 0, 0, missing))
        # As tensor cores read it: lane 4 g + c holds outputs g and 8 + g, of each the channels
        # 2 c, 2 c + 1 and the two eight after them.
        tiles = weight_NK.reshape(self.outputs, 2, 8, self.inner, 2, 4, 2)
        tiles = tiles.permute(0, 3, 2, 5, 1, 4, 6).reshape(
            self.outputs // columns, columns, self.inner // self.chunk, self.chunk, TILE_BYTES // 2
        )
        return tiles.transpose(1, 2).reshape(-1)

    def _is_shared(self, row_tiles: int) -> bool:
        split = WARPS // (row_tiles * self.groups)
        return split >= 1 and self.chunk % split == 0 and self.scratch(row_tiles) <= _MOST_SCRATCH


def products_of(model: ReactiveTransformer) -> list[Product]:
    """Of a layer in their order, and the head's."""
    config, own = model.config, model.config.attention
    read = model.decoder[0].memory_read.attention  # type: ignore[union-attr]
    width, head = config.embed_dim, config.head_dim
    queries, read_queries = own.num_query_heads * head, read.num_query_heads * head
    two = (2,)
    return [
        Product.of("Own", width, queries + 2 * own.num_kv_heads * head, two),
        Product.of("OwnOut", queries, width, two),
        Product.of("Read", width, read_queries, (1,)),
        Product.of("ReadOut", read_queries, width, two),
        Product.of(GATED, width, 2 * config.ff_dim, (2, 4, 6)),
        Product.of("Down", config.ff_dim, width, two),
        Product.of("Head", width, config.vocab_size, two),
    ]


def _by_pairs(weight_NK: Tensor) -> Tensor:
    """Eight outputs of the gate, then the eight that they are multiplied with, and so on."""
    inner, width = len(weight_NK) // 2, weight_NK.shape[1]
    return weight_NK.view(2, inner // 8, 8, width).transpose(0, 1).reshape(2 * inner, width)
