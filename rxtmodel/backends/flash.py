"""Flash attention, rows of different lengths laid end to end: by the flash-attn package (no other
file imports it), or where it is not installed by what PyTorch has of it."""

# Shape suffixes: B rows, T query tokens, K keys, N query heads, G kv heads, H head width,
# X keys of all rows together, Y queries.

from __future__ import annotations

import functools
import importlib
import inspect
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import BackendUnavailable
from .sdpa import sdpa

if TYPE_CHECKING:
    from collections.abc import Callable

    from . import Kernel

_DTYPES = (torch.float16, torch.bfloat16)
_WIDEST = 256


def load_flash() -> Kernel:
    """The kernel; BackendUnavailable says why it cannot be had."""
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "backend 'flash' needs a CUDA device and there is none here; use backend 'sdpa'"
        )
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        raise BackendUnavailable(
            "backend 'flash' needs a device of compute capability 8.0 or more, this one has "
            f"{major}.{minor}; use backend 'sdpa'"
        )
    try:
        package = importlib.import_module("flash_attn")
    except ImportError as error:
        if error.name == "flash_attn":
            return _of_pytorch
        raise BackendUnavailable(
            f"the package flash-attn is installed but cannot be loaded ({error}); mend or remove "
            "it, or use backend 'sdpa'"
        ) from error

    def of_package(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> Tensor:
        _check(q)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
        if mask is None or mask.dim() == 2:
            # A mask of two dimensions is causal for the last T of K tokens, and that is how the
            # package aligns T queries with K keys.
            causal = causal or mask is not None
            out = package.flash_attn_func(q, k, v, dropout_p=dropout, causal=causal)
        else:
            attend = functools.partial(package.flash_attn_varlen_func, dropout_p=dropout)
            out = _packed(attend, q, k, v, mask)
        return out.transpose(1, 2)

    return of_package


def _of_pytorch(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Rows of one length are left to ``sdpa``, which has flash attention for what has no mask; so
    is what cannot be laid end to end: heads that are not multiples of 8 up to 256 wide, dropout."""
    _check(q)
    fits = q.shape[-1] <= _WIDEST and not q.shape[-1] % 8
    if mask is None or mask.dim() == 2 or dropout or not fits:
        return sdpa(q, k, v, mask=mask, causal=causal, dropout=dropout)
    return _packed(_varlen, *(x.transpose(1, 2) for x in (q, k, v)), mask).transpose(1, 2)


def _varlen(
    q_YNH: Tensor,
    k_XGH: Tensor,
    v_XGH: Tensor,
    *,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
) -> Tensor:
    """PyTorch's, by the names of the package."""
    from torch.nn.attention.varlen import varlen_attn

    shared = q_YNH.shape[1] != k_XGH.shape[1]
    settings = {"enable_gqa": shared} if _asks(varlen_attn) else {}
    out = varlen_attn(
        q_YNH, k_XGH, v_XGH, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, **settings
    )
    assert isinstance(out, Tensor)  # nothing else was asked for
    return out


@functools.cache
def _asks(function: Callable[..., object]) -> bool:
    """Whether it wants to be told that heads share keys: from PyTorch 2.12 on."""
    return "enable_gqa" in inspect.signature(function).parameters


def _check(q: Tensor) -> None:
    if q.device.type == "cuda" and q.dtype in _DTYPES:
        return
    raise BackendUnavailable(
        f"backend 'flash' computes float16 and bfloat16 on CUDA, not {q.dtype} on "
        f"{q.device.type}; move the model there, or use backend 'sdpa'"
    )


def _packed(
    attend: Callable[..., Tensor], q_BTNH: Tensor, k_BKGH: Tensor, v_BKGH: Tensor, mask: Tensor
) -> Tensor:
    """Rows with keys of their own: those that exist are laid end to end, none is padded."""
    (batch, length), keys = q_BTNH.shape[:2], k_BKGH.shape[1]
    exists_BK = mask.expand(batch, 1, 1, keys)[:, 0, 0]
    at_X = exists_BK.flatten().nonzero().squeeze(1)  # the host waits for how many there are
    out = attend(
        q_BTNH.reshape(batch * length, *q_BTNH.shape[2:]),
        k_BKGH.flatten(0, 1).index_select(0, at_X),
        v_BKGH.flatten(0, 1).index_select(0, at_X),
        cu_seqlens_q=torch.arange(batch + 1, device=mask.device, dtype=torch.int32) * length,
        cu_seqlens_k=F.pad(exists_BK.sum(1).cumsum(0, dtype=torch.int32), (1, 0)),
        max_seqlen_q=length,
        max_seqlen_k=keys,
    )
    return out.view(batch, length, *out.shape[1:])
