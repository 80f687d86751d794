"""Attention as it is written down."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def eager(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """See ``Kernel``. The softmax is computed in float32."""
    shared = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1)
    if mask is not None:
        # The softmax of nothing is no number.
        weights = weights.masked_fill(~mask, 0.0)
    weights = F.dropout(weights, dropout, training=dropout > 0)
    return weights.to(v.dtype) @ v
