"""Rotary position embedding, on queries, on keys, or on both.

Pairs are interleaved (2j, 2j+1); angles are computed in float32 whatever the compute dtype, since a
bf16 angle is off by whole radians at a few hundred positions.

Source: RoFormer, https://arxiv.org/abs/2104.09864.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

    Rotate = Callable[[Tensor, Tensor], Tensor]


def rope_table(
    max_len: int, head_dim: int, base: float = 10_000.0, rounding: str = "none"
) -> Tensor:
    """Cosines and sines for positions 0..max_len-1, float32 [2, max_len, head_dim / 2].

    ``rounding`` is "none" or the type ("bfloat16", "float16") to which the published reference
    rounds angles, cosines and sines when it computes in it: for checkpoints that learned with them.
    """
    if rounding != "none":
        dtype = getattr(torch, rounding)
        exponent = torch.arange(0, head_dim, 2).float() / head_dim
        angle = (torch.arange(max_len).float()[:, None] * base**-exponent).to(dtype)
        return torch.stack((angle.cos(), angle.sin())).float()
    theta = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.arange(max_len, dtype=torch.float64)[:, None] * theta
    return torch.stack((angle.cos(), angle.sin())).float()


class Positioned(nn.Module):
    """Base of modules with tables of positions, which stay exact whatever the module is cast to.

    A table is a buffer that no file holds. It moves with the module, but ``to(torch.bfloat16)``,
    ``half`` and the like leave it in float32, and ``to_empty`` gives it its values again.
    """

    def __init__(self) -> None:
        super().__init__()
        self._tables: dict[str, tuple[Any, ...]] = {}

    def add_table(self, name: str, *settings: Any) -> None:
        """Make ``self.<name>`` the table ``rope_table(*settings)``."""
        self.register_buffer(name, rope_table(*settings), persistent=False)
        self._tables[name] = settings

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What every cast and every move of a module goes through.
        before = {name: self._buffers[name] for name in self._tables}
        super()._apply(fn, recurse)
        for name, settings in self._tables.items():
            after = self._buffers[name]
            if after is not None and after is not before[name] and not after.is_meta:
                self._buffers[name] = rope_table(*settings).to(after.device)
        return self


def as_complex(table: Tensor) -> Tensor:
    """A table [2, ...] as complex numbers [...], for ``rotate``."""
    return torch.complex(table[0], table[1])


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate the pairs of ``x`` [..., T, head_dim] by ``table`` [2, T, head_dim / 2].

    ``table`` may carry a batch, [2, B, 1, T, head_dim / 2], where each row has its own positions.
    It may also be complex, without the first dimension (``as_complex``): the same in fewer
    operators, for decoding. Compilers of training code take only the real form.
    """
    if table.is_complex():
        pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)
    cos, sin = table[0], table[1]
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    out = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return out.flatten(-2).to(x.dtype)
