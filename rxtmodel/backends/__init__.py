"""Attention kernels: the same function of queries, keys and values, computed in different ways.

eager   plain products and a softmax, the reference
sdpa    PyTorch's scaled_dot_product_attention, the default
flash   flash attention on a CUDA device, batches of different lengths without padding: of the
        package flash-attn, or where it is not installed of PyTorch
triton  sdpa, but kernels of ours for rows with padding and narrow heads on a CUDA device, and for
        gated feed-forwards of many tokens, and for rotary positions; the engine's
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, get_args

from ..errors import ConfigError
from ..feed_forward import gate_and_up
from ..rope import rotate
from .eager import eager
from .sdpa import sdpa

if TYPE_CHECKING:
    from torch import Tensor

    from ..feed_forward import Gated
    from ..rope import Rotate

__all__ = ["Backend", "Kernel", "load_gated", "load_kernel", "load_rotate"]

Backend = Literal["eager", "sdpa", "flash", "triton"]


class Kernel(Protocol):
    """Softmax attention of q [B, N, T, H] over k, v [B, G, K, H], N a multiple of G.

    Args:
        mask: True where attended; [B, 1, 1, K] says which keys exist, [T, K] is a causal mask of
            the last T of K tokens. A row without keys gives zeros.
        causal: token t sees keys up to t; then T = K and there is no mask.
        dropout: share of attention weights that is dropped.
    """

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> Tensor: ...


def load_kernel(name: Backend) -> Kernel:
    """The kernel called ``name``.

    Raises:
        BackendUnavailable: "flash" or "triton" without a CUDA device that can run it, "triton"
            without its package.
        ConfigError: no backend of this name.
    """
    if name == "eager":
        return eager
    if name == "sdpa":
        return sdpa
    if name == "flash":
        from .flash import load_flash

        return load_flash()
    if name == "triton":
        from .triton import load_triton

        return load_triton()
    raise ConfigError(f"backend must be one of {', '.join(get_args(Backend))}, got {name!r}")


def load_gated(name: Backend) -> Gated:
    """How feed-forwards compute what lies between their products where that one is chosen."""
    if name == "triton":
        from .triton import load_gated

        return load_gated()
    return gate_and_up


def load_rotate(name: Backend) -> Rotate:
    """How queries and keys are turned where that one is chosen."""
    if name == "triton":
        from .triton import load_rotate

        return load_rotate()
    return rotate
