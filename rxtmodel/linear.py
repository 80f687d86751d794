"""Linear maps: PyTorch's own, but by the faster of two products on a CPU."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ROWS = 8
"""From so many rows on oneDNN's product is the faster one: at 16 rows it takes half the time."""
_HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, "_linear_pointwise"
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear``: [..., in] and [out, in] -> [..., out]."""
    if (
        x.is_cpu
        and _HAS_ONEDNN
        and not torch.is_grad_enabled()
        and x.numel() >= _ROWS * x.shape[-1]
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    ):
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out
    return F.linear(x, weight, bias)


class Int8(NamedTuple):
    """A weight in eight bits, a scale for each output: [out, in] int8 and [out] bfloat16."""

    weight: Tensor
    scale: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Int8 | None:
        """The nearest such numbers to a weight [out, in]; None when ``in`` is not a multiple of 32.

        PyTorch's product reads beyond the end of other rows.
        """
        if weight.shape[1] % 32:
            return None
        scale = (weight.float().abs().amax(1, keepdim=True) / 127).bfloat16().float()
        steps = weight.float() / scale.clamp(min=1e-30)
        return cls(
            steps.round().clamp(-127, 127).to(torch.int8).contiguous(), scale[:, 0].bfloat16()
        )


def linear_of(
    x_BTX: Tensor, weight: Tensor, int8: Int8 | None, bias: Tensor | None = None
) -> Tensor:
    """``linear`` of single tokens by the weight in eight bits, where there is one; else as it is.

    Never by the number of rows: what a row gets must not depend on the others.
    """
    if int8 is None or x_BTX.shape[-2] != 1 or not x_BTX.is_cpu or torch.is_grad_enabled():
        return linear(x_BTX, weight, bias)
    rows = x_BTX.reshape(-1, x_BTX.shape[-1]).bfloat16()
    out = torch._weight_int8pack_mm(rows, *int8).to(x_BTX.dtype)
    out = out.view(*x_BTX.shape[:-1], len(weight))
    return out if bias is None else out + bias


class Linear(nn.Linear):
    """``nn.Linear`` by ``linear_of``."""

    int8: Int8 | None = None
    """See ``layout.quantise``."""

    def forward(self, input: Tensor) -> Tensor:
        if self.int8 is None:
            return linear(input, self.weight, self.bias)
        return linear_of(input, self.weight, self.int8, self.bias)
