"""Feed-forward layers, gated or plain."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from .linear import Linear
from .stacked import StackedLinear

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import StackConfig

    Gated = Callable[[Tensor, "Linear", Callable[[Tensor], Tensor]], Tensor]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "relu": F.relu,
    "sigmoid": Tensor.sigmoid,
    "linear": lambda x: x,
}


def gate_and_up(x: Tensor, linear: Linear, act: Callable[[Tensor], Tensor]) -> Tensor:
    """``act(gate) * up``, the two halves of what ``linear`` gives; [..., D] -> [..., F]."""
    gate, up = linear(x).chunk(2, dim=-1)
    return act(gate) * up


class FeedForward(nn.Module):
    """``down(act(gate(x)) * up(x))``, gate and up in one matrix; plain: ``down(act(up(x)))``.

    Args:
        embed_dim: D, the model width.
        ff_dim: inner width.
        dropout: of the inner values, in training.

    Shapes: [..., D] -> [..., D]. Source: https://arxiv.org/abs/2002.05202.
    """

    def __init__(
        self,
        embed_dim: int,
        ff_dim: int,
        *,
        gated: bool = True,
        activation: str = "silu",
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.act, self.dropout = ACTIVATIONS[activation], dropout
        self.gate_up = Linear(embed_dim, 2 * ff_dim, bias=bias) if gated else None
        self.up = None if gated else Linear(embed_dim, ff_dim, bias=bias)
        self.down = Linear(ff_dim, embed_dim, bias=bias)
        self.kernel: Gated = gate_and_up

    def forward(self, x: Tensor) -> Tensor:
        if self.gate_up is not None:
            inner = self.kernel(x, self.gate_up, self.act)
        else:
            inner = self.act(self.up(x))
        if self.dropout and self.training:
            inner = F.dropout(inner, self.dropout)
        return self.down(inner)


class StackedFeedForward(nn.Module):
    """``count`` independent feed-forwards, [count, N, D] -> [count, N, D]."""

    def __init__(
        self, count: int, embed_dim: int, ff_dim: int, config: StackConfig, *, bias: bool
    ) -> None:
        super().__init__()
        self.act, self.dropout = ACTIVATIONS[config.activation], config.ff_dropout
        width = 2 * ff_dim if config.gated else ff_dim
        self.gated = config.gated
        self.up = StackedLinear(count, embed_dim, width, bias=bias)
        self.down = StackedLinear(count, ff_dim, embed_dim, bias=bias)
        for linear in (self.up, self.down):
            nn.init.normal_(linear.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.inner(self.up(x)))

    def inner(self, x: Tensor) -> Tensor:
        """What lies between both products, [..., 2 F] or [..., F] -> [..., F]."""
        if self.gated:
            gate, up = x.chunk(2, dim=-1)
            x = self.act(gate) * up
        else:
            x = self.act(x)
        return F.dropout(x, self.dropout) if self.dropout and self.training else x

    def of(self, index_N: Tensor, x_ND: Tensor) -> Tensor:
        """Row n through feed-forward ``index_N[n]``, [N, D] -> [N, D], no matter how many."""
        return self._pick(self.down, index_N, self.inner(self._pick(self.up, index_N, x_ND)))

    def only(self, index: int, x_ND: Tensor) -> Tensor:
        """All rows through feed-forward ``index``."""
        return self._one(self.down, index, self.inner(self._one(self.up, index, x_ND)))

    @staticmethod
    def _pick(linear: StackedLinear, index_N: Tensor, x: Tensor) -> Tensor:
        out = (x[:, None] @ linear.weight[index_N].to(x.dtype))[:, 0]
        return out if linear.bias is None else out + linear.bias[index_N].to(x.dtype)

    @staticmethod
    def _one(linear: StackedLinear, index: int, x: Tensor) -> Tensor:
        out = x @ linear.weight[index].to(x.dtype)
        return out if linear.bias is None else out + linear.bias[index].to(x.dtype)


def build_dense(config: StackConfig, embed_dim: int, ff_dim: int) -> FeedForward:
    """The dense feed-forward of a stack."""
    return FeedForward(
        embed_dim,
        ff_dim,
        gated=config.gated,
        activation=config.activation,
        bias=config.ff_bias,
        dropout=config.ff_dropout,
    )
