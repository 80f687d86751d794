"""A memory that is addressed by content and corrected, not averaged: the delta rule.

Each head of a layer sees its share of the memory as a matrix ``M`` [S, H]: the slots are the
features of an address space, a row for each. A token of the interaction addresses it with a unit
vector ``k`` [S] and wants ``v`` [H] to stand there, with a strength ``b`` in (0, 1). All tokens of
an interaction write at once::

    M' = M + K^T diag(eta) (V - K M)        eta_t = b_t / max(1, sum_u b_u |k_t . k_u|)

What is addressed is replaced, what is orthogonal to it stays, and ``b`` near 0 does not write. The
normalisation makes the write a contraction: with D = diag(b / |K K^T| b) the positive vector b is
an eigenvector of D |K K^T| with eigenvalue 1, so by Perron-Frobenius every eigenvalue of
``K^T D K`` lies in [0, 1], and however many tokens agree on an address, none overshoots.

Sources: the delta rule as fast weights, https://arxiv.org/abs/2102.11174; gated residual memory,
RxT, https://arxiv.org/abs/2510.03561. The simultaneous, normalised form is ours.
"""

# Shape suffixes: L layers, B batch, T tokens, D model width, N heads, S slots (address features),
# H head width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..inputs import readers
from ..linear import Linear
from ..stacked import StackedLinear, StackedRMSNorm

if TYPE_CHECKING:
    from ..config import RxtConfig


_FLOOR = 1e-6
"""Of a squared norm; those of trained models lie above 0.5."""


def address(x: Tensor) -> Tensor:
    """A unit vector over the slots, mostly non-negative (SiLU before the norm).

    Features that are all far below zero address nothing: the norm's floor is smooth, so that the
    gradient there is bounded.
    """
    features = F.silu(x.float())
    return features * torch.rsqrt(features.square().sum(-1, keepdim=True) + _FLOOR)


class DeltaWrite(nn.Module):
    """Fold an encoded interaction into memory with the normalised delta rule.

    ``prepare`` does all that does not depend on the memory, so a training step can prepare every
    turn of a dialogue in one batch and loop only over ``fold``.

    Shapes: memory_LBSD float32, encoded_LBTD, mask_BT (True: a token) -> [L, B, S, D].
    """

    def __init__(self, config: RxtConfig) -> None:
        super().__init__()
        layers, dim, memory = config.num_layers, config.embed_dim, config.memory
        self.num_heads = memory.num_heads
        self.input_norm = StackedRMSNorm(layers, dim, config.norm_eps)
        self.k_proj = StackedLinear(layers, dim, self.num_heads * memory.num_slots)
        self.v_proj = StackedLinear(layers, dim, dim)
        self.strength = StackedLinear(layers, dim, self.num_heads, bias=True)

    def prepare(self, encoded_LBTD: Tensor, mask_BT: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The update as ``M' = M - erase @ M + write``.

        Returns erase [L, B, N, S, S] and write [L, B, N, S, H], float32.
        """
        x = self.input_norm(encoded_LBTD)
        k_LBNTS = address(self._heads(self.k_proj(x)))
        v_LBNTH = self._heads(self.v_proj(x)).float()
        b_LBNT = self.strength(x).float().sigmoid().transpose(2, 3)
        if mask_BT is not None:
            b_LBNT = b_LBNT * mask_BT[None, :, None]
        with torch.autocast(x.device.type, enabled=False):
            return self._solve(k_LBNTS, v_LBNTH, b_LBNT)

    @staticmethod
    def _solve(k_LBNTS: Tensor, v_LBNTH: Tensor, b_LBNT: Tensor) -> tuple[Tensor, Tensor]:
        overlap = (k_LBNTS @ k_LBNTS.transpose(-1, -2)).abs()
        crowd = (overlap @ b_LBNT[..., None])[..., 0]
        eta_LBNT = b_LBNT / crowd.clamp(min=1.0)
        weighted = (k_LBNTS * eta_LBNT[..., None]).transpose(-1, -2)
        return weighted @ k_LBNTS, weighted @ v_LBNTH

    def fold(self, memory_LBSD: Tensor, prepared: tuple[Tensor, Tensor]) -> Tensor:
        """The memory after a prepared update."""
        erase, write = prepared
        old = self._heads(memory_LBSD)
        with torch.autocast(old.device.type, enabled=False):
            new = old - erase @ old + write
        return new.transpose(2, 3).flatten(3)

    def forward(
        self,
        memory_LBSD: Tensor,
        encoded_LBTD: Tensor,
        *,
        rope: Tensor | None = None,
        mask_BT: Tensor | None = None,
    ) -> Tensor:
        del rope  # positions are in the encoded tokens already
        return self.fold(memory_LBSD, self.prepare(encoded_LBTD, mask_BT))

    def _heads(self, x_LBTX: Tensor) -> Tensor:
        return x_LBTX.unflatten(-1, (self.num_heads, -1)).transpose(2, 3)


class DeltaRead(nn.Module):
    """A decoder layer's read of a delta memory: cross-attention with a linear kernel.

    Every token addresses the slots with a unit vector and receives what stands there.

    Shapes: x_BTD, memory_BSD -> [B, T, D]. The memory may have fewer rows than x: row b of x reads
    row b // (B / rows).
    """

    def __init__(self, config: RxtConfig) -> None:
        super().__init__()
        memory, dim = config.memory, config.embed_dim
        self.num_heads = memory.num_heads
        self.q_proj = Linear(dim, memory.num_heads * memory.num_slots, bias=False)
        self.out_proj = Linear(dim, dim, bias=False)

    def project(self, memory_BSD: Tensor) -> tuple[Tensor, ...]:
        """The memory by heads, [B, N, S, H]."""
        memory = memory_BSD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        return (memory.to(self.out_proj.weight.dtype).contiguous(),)

    def forward(
        self, x_BTD: Tensor, state: tuple[Tensor, ...], *, rope: Tensor | None = None
    ) -> Tensor:
        del rope  # an address is content, not position
        (memory_BNSH,) = state
        rows, _, slots, _ = memory_BNSH.shape
        tokens = readers(x_BTD.shape[0], rows) * x_BTD.shape[1]
        q_RNTS = self.q_proj(x_BTD).view(rows, tokens, self.num_heads, slots)
        q_RNTS = address(q_RNTS).to(memory_BNSH.dtype).transpose(1, 2)
        out = (q_RNTS @ memory_BNSH).transpose(1, 2)
        return self.out_proj(out.reshape(x_BTD.shape).to(x_BTD.dtype))
