"""A mixture of experts: a router sends every token to a few of many feed-forwards."""

# Shape suffixes: N tokens, D model width, E experts, K experts of a token.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .feed_forward import FeedForward, StackedFeedForward
from .inputs import as_mask

if TYPE_CHECKING:
    from .config import StackConfig

_EPS = 1e-9
"""Added to the sum that the kept probabilities are divided by."""


class Balance:
    """Collects what the routers of one forward pass would have balanced.

    Args:
        mask: True (or 1) where there is a token, [B, T]; padding takes no part.
    """

    def __init__(self, mask: Tensor | None = None) -> None:
        self.mask = None if mask is None else as_mask(mask)
        self.losses: list[Tensor] = []

    def loss(self) -> Tensor:
        """Mean over the layers with experts; 1 where nothing is left to balance."""
        if not self.losses:
            raise ValueError("no layer of this model has experts, so there is nothing to balance")
        return torch.stack(self.losses).mean()


class Experts(nn.Module):
    """Top-k routed experts, and shared ones for every token.

    Routing: softmax over the router's logits, the k largest, divided by their sum. No capacity
    limit, no token is dropped. Balance loss: E * sum_e f_e * p_e, f_e the share of selections and
    p_e the mean probability over *all* tokens; taken over the selecting tokens only, the counts
    cancel and imbalance does not show.

    Shapes: [..., D] -> [..., D]. Source of the loss: Switch, https://arxiv.org/abs/2101.03961.
    """

    def __init__(self, config: StackConfig, embed_dim: int) -> None:
        super().__init__()
        experts = self.config = config.experts
        dim, wide = embed_dim, experts.shared_dim or config.ff_dim
        self.router = nn.Linear(dim, experts.num_experts, bias=False)
        self.routed = StackedFeedForward(
            experts.num_experts, dim, config.ff_dim, config, bias=experts.bias == "local"
        )
        self.bias = nn.Parameter(torch.zeros(dim)) if experts.bias == "global" else None
        local = experts.shared_bias == "local"
        self.shared_gate: nn.Linear | None = None
        self.shared: FeedForward | StackedFeedForward | None = None
        if experts.num_shared == 1:
            self.shared = FeedForward(
                dim, wide, gated=config.gated, activation=config.activation, bias=local,
                dropout=config.ff_dropout,
            )  # fmt: skip
        elif experts.num_shared:
            self.shared = StackedFeedForward(experts.num_shared, dim, wide, config, bias=local)
            self.shared_gate = nn.Linear(dim, experts.num_shared, bias=False)
        shared_bias = experts.num_shared and experts.shared_bias == "global"
        self.shared_bias = nn.Parameter(torch.zeros(dim)) if shared_bias else None

    def forward(self, x: Tensor, balance: Balance | None = None) -> Tensor:
        flat_ND = x.reshape(-1, x.shape[-1])
        probabilities_NE = self._route(flat_ND)
        weights_NK, chosen_NK = probabilities_NE.topk(self.config.top_k)
        weights_NK = weights_NK / (weights_NK.sum(-1, keepdim=True) + _EPS)
        out = self._routed(flat_ND, weights_NK.to(x.dtype), chosen_NK)
        if self.bias is not None:
            out = out + self.bias
        mixed = self._shared_weights(flat_ND)
        if self.shared is not None:
            k, n = self.config.top_k, self.config.num_shared
            routed_share, shared_share = (
                (k / (k + n), n / (k + n)) if self.config.weighted_shared else (1.0, 1.0)
            )
            out = routed_share * out + shared_share * self._shared(flat_ND, mixed)
        if balance is not None:
            balance.losses.append(self._imbalance(probabilities_NE, chosen_NK, mixed, balance.mask))
        return out.view(x.shape)

    def _route(self, x_ND: Tensor) -> Tensor:
        name = self.config.router_dtype
        dtype = x_ND.dtype if name == "model" else getattr(torch, name)
        with torch.autocast(x_ND.device.type, enabled=False):
            logits = F.linear(x_ND.to(dtype), self.router.weight.to(dtype))
        return logits.float().softmax(-1)

    def _routed(self, x_ND: Tensor, weights_NK: Tensor, chosen_NK: Tensor) -> Tensor:
        count, top = chosen_NK.shape
        picks = chosen_NK.flatten()
        if len(picks) <= self.config.num_experts:
            # Few tokens: their experts' matrices are gathered. Nothing waits for the device.
            out = self.routed.of(picks, x_ND.repeat_interleave(top, dim=0))
            return (out.view(count, top, -1) * weights_NK[..., None]).sum(1)
        order = picks.argsort(stable=True)
        sizes = picks.bincount(minlength=self.config.num_experts).tolist()
        token = order // top
        parts = x_ND[token].split(sizes)
        done = [self.routed.only(e, part) for e, part in enumerate(parts) if len(part)]
        weighted = torch.cat(done) * weights_NK.flatten()[order, None]
        return torch.zeros_like(x_ND).index_add(0, token, weighted.to(x_ND.dtype))

    def _shared_weights(self, x_ND: Tensor) -> Tensor | None:
        return None if self.shared_gate is None else self.shared_gate(x_ND).float().softmax(-1)

    def _shared(self, x_ND: Tensor, weights: Tensor | None) -> Tensor:
        if weights is None:
            out = self.shared(x_ND)
        else:
            every = self.shared(x_ND.expand(self.config.num_shared, *x_ND.shape))
            out = (every * weights.to(every.dtype).T[..., None]).sum(0)
        return out if self.shared_bias is None else out + self.shared_bias

    def _imbalance(
        self, p_NE: Tensor, chosen_NK: Tensor, mixed: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        if mask is not None:
            kept = mask.flatten()
            if len(kept) != len(p_NE):
                raise ValueError(f"a mask of {len(kept)} tokens does not fit {len(p_NE)} tokens")
            p_NE, chosen_NK = p_NE[kept], chosen_NK[kept]
            mixed = None if mixed is None else mixed[kept]
            if not len(p_NE):
                return 1 + p_NE.sum()  # no token: as if balanced, with gradients of zero
        experts = self.config.num_experts
        selected = F.one_hot(chosen_NK, experts).float().sum(1)
        share = selected.mean(0) / self.config.top_k
        loss = experts * (share * p_NE.mean(0)).sum()
        if mixed is None:
            return loss
        return loss + (mixed - 1 / self.config.num_shared).abs().mean()
