"""Norms over the model width."""

from __future__ import annotations

from torch import nn

LAYER_NORM_EPS = 1e-5


def build_norm(kind: str, dim: int, eps: float | None) -> nn.Module:
    """RMSNorm ("rms") or LayerNorm with bias ("layer").

    ``eps=None`` is machine epsilon of the compute type for RMSNorm, 1e-5 for LayerNorm: so are the
    published models.
    """
    if kind == "layer":
        return nn.LayerNorm(dim, eps=LAYER_NORM_EPS if eps is None else eps)
    return nn.RMSNorm(dim, eps=eps)
