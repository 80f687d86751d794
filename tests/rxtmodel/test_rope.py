"""Rotary positions: interleaved pairs, relative, exact far out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rxtmodel.rope import as_complex, rope_table, rotate

from . import reference


@pytest.mark.parametrize("base", [10_000.0, 50.0])
def test_each_pair_of_neighbours_turns_by_its_own_angle(double, base):
    x = torch.randn(7, 6, dtype=torch.float64)
    found = rotate(x, rope_table(7, 6, base))
    np.testing.assert_allclose(found, reference.rotate(x.numpy(), base), atol=1e-14)


def test_position_zero_turns_nothing_and_lengths_are_kept():
    x = torch.randn(2, 3, 9, 8)
    turned = rotate(x, rope_table(9, 8))
    torch.testing.assert_close(turned[:, :, 0], x[:, :, 0])
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(turned[:, :, 1:], x[:, :, 1:])


def test_a_product_depends_on_the_distance_only(double):
    table = rope_table(300, 8)
    q, k = torch.randn(2, 1, 8, dtype=torch.float64)

    def product(at_q: int, at_k: int) -> float:
        turned = rotate(q, table[:, at_q : at_q + 1]), rotate(k, table[:, at_k : at_k + 1])
        return float((turned[0] * turned[1]).sum())

    assert product(5, 2) == pytest.approx(product(293, 290), abs=1e-12)
    assert product(5, 2) != pytest.approx(product(5, 3), abs=1e-3)


def test_rows_may_sit_at_positions_of_their_own():
    table, x = rope_table(20, 4), torch.randn(3, 2, 1, 4)
    positions = torch.tensor([4, 0, 17])
    together = rotate(x, table[:, positions[:, None]][:, :, None])
    for row, position in enumerate(positions):
        alone = rotate(x[row], table[:, position : position + 1])
        torch.testing.assert_close(together[row], alone)


def test_angles_are_exact_in_a_short_dtype():
    """bfloat16 counts in steps of 2 at 500: an angle in it would be off by radians."""
    x = torch.zeros(512, 2, dtype=torch.bfloat16)
    x[:, 0] = 1
    turned = rotate(x, rope_table(512, 2))
    assert turned.dtype == torch.bfloat16
    angle = torch.arange(512, dtype=torch.float64)
    torch.testing.assert_close(turned[:, 0].double(), angle.cos(), atol=4e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_complex_table_turns_the_same(dtype):
    """Rows at one place and rows at places of their own, a view of a larger tensor as well."""
    table, x = rope_table(20, 4), torch.randn(3, 1, 5, 4).to(dtype).transpose(1, 2)[:, 1:4]
    positions = torch.tensor([4, 0, 17])[:, None]
    for real, turns in (
        (table[:, 7:8], as_complex(table[:, 7:8])),
        (table[:, positions][:, :, None], as_complex(table[:, positions])[:, None]),
    ):
        found = rotate(x, turns)
        assert found.dtype == dtype
        torch.testing.assert_close(found, rotate(x, real))
