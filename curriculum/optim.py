"""Optimisers: Muon for the matrices, AdamW for everything else, capturable in a CUDA graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rxtmodel.memory.stacked import StackedLinear


def orthogonalise(update: Tensor, steps: int = 5) -> Tensor:
    """Nearest semi-orthogonal matrix of each matrix [..., R, C] in a batch, Newton-Schulz in bf16.

    Source: Muon, https://kellerjordan.github.io/posts/muon/ (coefficients of the quintic).
    """
    x = update.bfloat16()
    if tall := x.shape[-2] > x.shape[-1]:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(update.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, scaled to the size of an AdamW update.

    Parameters are matrices, or stacks of them [L, in, out]. Those of one shape are updated in one
    batch. ``lr`` may be a tensor, so that a captured step follows a schedule.
    """

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: float | Tensor,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault(p.shape, []).append(p)
            for shape, params in by_shape.items():
                self._step_shape(shape, params, group)

    def _step_shape(self, shape: torch.Size, params: list[Tensor], group: dict) -> None:
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum"] for p in params]
        grads = [p.grad for p in params]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        looked_ahead = torch._foreach_lerp(grads, buffers, group["momentum"])
        # An AdamW update has entries of about 0.2; an orthogonal one of 1 / sqrt(max(R, C)).
        scale = 0.2 * max(shape[-2:]) ** 0.5
        update = orthogonalise(torch.stack(looked_ahead)) * scale
        lr = group["lr"]
        for p, u in zip(params, update.unbind(), strict=True):
            p.mul_(1 - lr * group["weight_decay"]).sub_(lr * u)


def build_optimisers(
    model: nn.Module, lr: Tensor, *, muon: bool, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Optimisers of a model; ``lr`` is shared and set by the caller.

    Muon (or weight decay) is for the weights of linear maps; embeddings, norms, biases, gates and
    the initial memory are AdamW's, without decay.
    """
    linear = (nn.Linear, StackedLinear)
    maps = {id(m.weight) for m in model.modules() if isinstance(m, linear)}
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if id(p) in maps]
    others = [p for p in trained if id(p) not in maps]
    capturable = lr.is_cuda
    adam = {"lr": lr, "betas": (0.9, 0.98), "eps": 1e-9, "capturable": capturable}
    adam["foreach"] = capturable
    if muon:
        rest = torch.optim.AdamW(others, weight_decay=0.0, **adam)
        return [Muon(matrices, lr, weight_decay=weight_decay), rest]
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return [torch.optim.AdamW(groups, **adam)]


def trapezoid(step: int, total: int, *, warmup: int, decay: float, floor: float = 0.03) -> float:
    """Learning-rate factor: linear warm-up, plateau, linear decay over the last share ``decay``."""
    up = min(1.0, (step + 1) / max(1, warmup))
    down = min(1.0, (total - step) / max(1.0, total * decay))
    return up * max(floor, down)
