"""Into which tiles the products of a step are divided."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Tiles of a product: rows, columns, inner width; warps; stages of the pipeline."""

    M: int
    N: int
    BK: int
    num_warps: int
    num_stages: int


def shape_of(count: int, columns: int, inner: int) -> Shape:
    """Tiles for a step of ``count`` rows: many small ones while weights are all there is to read.

    The columns of a tile depend on ``count`` and ``columns`` alone (``FusedLayers._parts``). Found
    by measuring on an H200.
    """
    whole = min(512, power_of_two(inner))
    if count == 1:
        return Shape(1, 8 if columns <= 512 else 16, whole, 4, 1)
    if count <= 16:
        if 256 < inner <= 512:
            return Shape(16, 16, whole, 2 if columns > 1024 else 4, 1)
        return Shape(16, 16, min(256, whole), 4, 3)
    narrow, depth = min(128, whole), 6 if inner > 1024 else 4
    if columns > 1024:
        return Shape(64, 64, narrow, 4, 4)
    return Shape(64, 16 if count <= 64 else 32, narrow, 4, depth)


def shape_of_queries(count: int, columns: int, inner: int) -> Shape:
    """Tiles for queries of ``count`` tokens in all. Found by measuring on an H200."""
    if count <= 256:
        return shape_of(count, columns, inner)
    return Shape(64, 64, min(128, power_of_two(inner)), 4, 3)


def reading_of(count: int, keys: int) -> dict[str, int]:
    """How a step of ``count`` rows attends to as many keys: keys of a block, and keys that are
    asked for while the kernels before are still at work. Found by measuring on an H200."""
    all_keys = max(64, min(512, power_of_two(keys)))
    if 16 < count <= 64:
        return {"BLOCK": all_keys, "num_warps": 8, "num_stages": 1, "AHEAD": 0}
    ahead = all_keys if count <= 16 else 0
    return {"BLOCK": 256, "num_warps": 4, "num_stages": 2, "AHEAD": ahead}


def power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()
