"""The order in which the persistent step takes its matrices, and who does which part of them."""

from __future__ import annotations

import itertools

import pytest
import torch

from rxtmodel.engine.packing import GATED, SLOT_BYTES, WARPS, Product, products_of
from rxtmodel.engine.persistent import Plan

from .tiny import tiny_model


def as_a_warp_reads(packed: torch.Tensor, product: Product) -> torch.Tensor:
    """The matrix again, [N, K], by going through units, chunks, tiles and lanes one by one."""
    out = torch.full((16 * product.outputs, 16 * product.inner), torch.nan)
    columns, numbers = product.groups * product.wide, iter(packed.tolist())
    for unit, chunk in itertools.product(
        range(product.outputs // columns), range(product.inner // product.chunk)
    ):
        for column, tile, lane in itertools.product(
            range(columns), range(product.chunk), range(32)
        ):
            first, channel = 16 * (unit * columns + column), 16 * (chunk * product.chunk + tile)
            for half, eight, pair in itertools.product(range(2), range(2), range(2)):
                row = first + 8 * half + lane // 4
                out[row, channel + 8 * eight + 2 * (lane % 4) + pair] = next(numbers)
    assert next(numbers, None) is None
    return out


@pytest.mark.parametrize(
    ("name", "inner", "width", "columns"),
    [("Own", 64, 96, (2,)), ("Read", 192, 48, (1,)), ("Head", 64, 100, (2,))],
)
def test_a_packed_matrix_is_read_back_whole_and_filled_up_with_zeros(name, inner, width, columns):
    product = Product.of(name, inner, width, columns)
    weight = torch.randn(width, inner)
    read = as_a_warp_reads(product.packed(weight), product)
    assert torch.equal(read[:width], weight)
    assert torch.equal(read[width:], torch.zeros_like(read[width:]))


def test_eight_outputs_of_the_gate_stand_before_the_eight_they_are_multiplied_with():
    product = Product.of(GATED, 64, 2 * 48, (2, 4, 6))
    weight = torch.randn(96, 64)
    read = as_a_warp_reads(product.packed(weight), product).view(6, 2, 8, 64)
    assert torch.equal(read[:, 0].reshape(48, 64), weight[:48])
    assert torch.equal(read[:, 1].reshape(48, 64), weight[48:])


@pytest.mark.parametrize("blocks", [8, 33, 44, 66, 132])
@pytest.mark.parametrize(("inner", "width"), [(64, 512), (512, 512), (1536, 512), (192, 128)])
def test_all_warps_of_a_block_have_the_same_to_do(inner, width, blocks):
    product = Product.of("Down", inner, width, (2,))
    tiles = product.row_tiles(4, blocks)
    assert tiles is not None
    split = WARPS // (tiles * product.groups)
    assert tiles * product.groups * split == WARPS
    assert product.chunk % split == product.inner % product.chunk == 0
    assert product.groups * product.wide * product.chunk * 512 <= SLOT_BYTES
    assert product.scratch(tiles) <= 12_288


def test_gate_and_up_have_no_outputs_but_their_own():
    """Others would be written where rows of somebody else lie."""
    widths = range(16, 4096, 16)
    products = [Product.of(GATED, 512, 2 * width, (2, 4, 6)) for width in widths]
    assert [16 * product.outputs for product in products] == [2 * width for width in widths]


def test_too_few_blocks_are_refused():
    with pytest.raises(ValueError, match="too few multiprocessors"):
        Plan.of(tiny_model("self-interlayer"), 0)


def test_sums_that_join_the_residual_stream_are_divided_alike():
    model = tiny_model("self-interlayer")
    plan = Plan.of(model, 33)
    assert len({plan.row_tiles[name] for name in ("OwnOut", "ReadOut", "Down")}) == 1
    assert [product.name for product in products_of(model)] == [*plan.row_tiles]


def test_an_inner_width_that_warps_cannot_share_is_refused_with_its_number():
    product = Product.of("Down", 48, 512, (2,))
    assert product.row_tiles(4, 33) is None
