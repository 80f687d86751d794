"""PyTorch's attention, but rows with padding, and narrow heads, by kernels of ours; positions, and
the first half of gated feed-forwards, in one each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from ..errors import BackendUnavailable
from ..feed_forward import gate_and_up
from ..rope import rotate
from .sdpa import sdpa

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ..feed_forward import Gated
    from ..linear import Linear
    from ..rope import Rotate
    from . import Kernel

_WIDTHS = (16, 32, 64, 128)
_NARROW = 32
"""Heads so narrow attend causally faster by our kernel than by PyTorch's."""
_MANY = 4096
"""From so many tokens on it costs time to write what lies between two products and read it back."""


def load_triton() -> Kernel:
    """The kernel; BackendUnavailable says why it cannot be had."""
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "backend 'triton' needs a CUDA device and there is none here; use backend 'sdpa'"
        )
    try:
        from ..kernels.masked import attend_existing
        from ..kernels.sequences import attend_causal
    except ImportError as error:
        raise BackendUnavailable(
            f"backend 'triton' needs the package triton ({error}), which comes with PyTorch for "
            "CUDA; use backend 'sdpa'"
        ) from error

    def kernel(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> Tensor:
        padded = mask is not None and mask.dim() == 4
        narrow = causal and q.shape[-1] <= _NARROW and q.element_size() == 2
        trains = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        if not (padded or narrow) or trains or dropout or q.device.type != "cuda":
            return sdpa(q, k, v, mask=mask, causal=causal, dropout=dropout)
        if q.shape[-1] not in _WIDTHS:
            return sdpa(q, k, v, mask=mask, causal=causal, dropout=dropout)
        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        with torch.cuda.device(q.device):
            return attend_existing(q, k, v, mask[:, 0, 0]) if padded else attend_causal(q, k, v)

    return kernel


def load_gated() -> Gated:
    """As ``load_kernel``, which says whether it can be had."""
    from ..kernels.wide import gate_up

    def kernel(x: Tensor, linear: Linear, act: Callable[[Tensor], Tensor]) -> Tensor:
        count, widths = x.shape[:-1].numel(), (x.shape[-1], linear.out_features // 2)
        fits = not any(width % 8 for width in widths) and linear.weight.is_contiguous()
        sixteen = x.dtype == linear.weight.dtype and x.element_size() == 2
        trained = (part for part in (x, linear.weight, linear.bias) if part is not None)
        trains = torch.is_grad_enabled() and any(part.requires_grad for part in trained)
        if x.device.type != "cuda" or count < _MANY or act is not F.silu or trains:
            return gate_and_up(x, linear, act)
        if not (fits and sixteen) or torch.is_autocast_enabled("cuda"):
            return gate_and_up(x, linear, act)
        rows = x.reshape(count, -1).contiguous()
        with torch.cuda.device(x.device):
            return gate_up(rows, linear.weight, linear.bias).view(*x.shape[:-1], -1)

    return kernel


def load_rotate() -> Rotate:
    """As ``load_kernel``, which says whether it can be had."""
    from ..kernels.encode import turn

    def kernel(x: Tensor, table: Tensor) -> Tensor:
        shared = table.dim() == 3 and table.shape[1] == x.shape[-2] and not table.is_complex()
        trains = torch.is_grad_enabled() and x.requires_grad
        if x.device.type != "cuda" or not shared or table.stride(-1) != 1 or trains:
            return rotate(x, table)
        batch, heads, length, width = x.shape
        # Heads of a token side by side, as a projection leaves them.
        rows = x.transpose(1, 2).reshape(batch * length, heads * width)
        if rows.stride(1) != 1:  # a view, if there is one
            rows = rows.contiguous()
        out = rows.new_empty(rows.shape)
        with torch.cuda.device(x.device):
            turn(rows, table, out, length, heads * width, width)
        return out.view(batch, length, heads, width).transpose(1, 2)

    return kernel
