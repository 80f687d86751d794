"""Attention by the flash-attn package; the only file that imports it."""

# Shape suffixes: B rows, T query tokens, K keys, N query heads, G kv heads, H head width,
# X keys of all rows together.

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import BackendUnavailable

if TYPE_CHECKING:
    from . import Kernel

_DTYPES = (torch.float16, torch.bfloat16)


def load_flash() -> Kernel:
    """The kernel; BackendUnavailable says why it cannot be had."""
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "backend 'flash' needs a CUDA device and there is none here; use backend 'sdpa'"
        )
    try:
        package: Any = importlib.import_module("flash_attn")
    except ImportError as error:
        raise BackendUnavailable(
            f"backend 'flash' needs the package flash-attn ({error}); "
            "install it with: pip install 'rxstream[flash]', or use backend 'sdpa'"
        ) from error

    def flash(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> Tensor:
        if reason := _refusal(q):
            raise BackendUnavailable(reason)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if mask is None or mask.dim() == 2:
            # A mask of two dimensions is causal for the last T of K tokens, and that is how the
            # package aligns T queries with K keys.
            causal = causal or mask is not None
            out = package.flash_attn_func(q, k, v, dropout_p=dropout, causal=causal)
        else:
            out = _packed(package, q, k, v, mask, dropout)
        return out.transpose(1, 2)

    return flash


def _refusal(q: Tensor) -> str | None:
    """Why the package cannot compute with such tensors."""
    if q.device.type == "cuda" and q.dtype in _DTYPES:
        return None
    return (
        f"backend 'flash' computes float16 and bfloat16 on CUDA, not {q.dtype} on "
        f"{q.device.type}; move the model there, or use backend 'sdpa'"
    )


def _packed(
    package: Any, q_BTNH: Tensor, k_BKGH: Tensor, v_BKGH: Tensor, mask: Tensor, dropout: float
) -> Tensor:
    """Rows with keys of their own: those that exist are laid end to end, none is padded."""
    batch, length = q_BTNH.shape[:2]
    exists_BK = mask.expand(batch, 1, 1, k_BKGH.shape[1])[:, 0, 0]
    k_XGH, v_XGH = k_BKGH[exists_BK], v_BKGH[exists_BK]
    counts = exists_BK.sum(-1, dtype=torch.int32)
    ends = F.pad(counts.cumsum(0, dtype=torch.int32), (1, 0))
    starts = torch.arange(batch + 1, device=q_BTNH.device, dtype=torch.int32) * length
    out = package.flash_attn_varlen_func(
        q_BTNH.reshape(batch * length, *q_BTNH.shape[2:]),
        k_XGH,
        v_XGH,
        cu_seqlens_q=starts,
        cu_seqlens_k=ends,
        max_seqlen_q=length,
        max_seqlen_k=int(counts.max()),
        dropout_p=dropout,
    )
    return out.view(batch, length, *out.shape[1:])
