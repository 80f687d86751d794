"""SwiGLU feed-forward."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class FeedForward(nn.Module):
    """``down(silu(gate(x)) * up(x))``, gate and up in one matrix.

    Args:
        embed_dim: D, the model width.
        ff_dim: inner width.

    Shapes: [..., D] -> [..., D]. Source: https://arxiv.org/abs/2002.05202.
    """

    def __init__(self, embed_dim: int, ff_dim: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(embed_dim, 2 * ff_dim, bias=False)
        self.down = nn.Linear(ff_dim, embed_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)
