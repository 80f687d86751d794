"""Heads for training: predicting masked tokens, and judging an interaction."""

# Shape suffixes: B batch, T tokens, D model width, V vocabulary.

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .errors import ConfigError
from .initial import init_weights
from .inputs import as_mask, look_up, require_ids
from .layers import PlainLayer
from .norms import LAYER_NORM_EPS
from .rope import Positioned

if TYPE_CHECKING:
    from .config import RxtConfig

Squash = Literal["sigmoid", "tanh", "identity"]
_SQUASH = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "identity": lambda x: x}


class MlmHead(nn.Module):
    """Logits of masked tokens from an encoder's last layer, [..., D] -> [..., V].

    ``decoder(layer_norm(gelu(dense(x))))``, all with biases. Published as a model of its own.
    """

    def __init__(self, embed_dim: int, vocab_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(embed_dim, embed_dim)
        self.layer_norm = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        self.decoder = nn.Linear(embed_dim, vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(F.gelu(self.dense(x))))


class ValueHead(nn.Module):
    """One number for a sequence: ``scale * squash(w . norm(glu(mean of its tokens))) + shift``.

    Shapes: x_BTD, mask_BT (True or 1: a token) -> [B].
    """

    def __init__(self, embed_dim: int, squash: Squash = "sigmoid") -> None:
        super().__init__()
        if squash not in _SQUASH:
            raise ConfigError(f"squash must be one of {', '.join(_SQUASH)}, got {squash!r}")
        self.glu = nn.Linear(embed_dim, 2 * embed_dim)
        self.norm = nn.LayerNorm(embed_dim, eps=LAYER_NORM_EPS)
        self.out = nn.Linear(embed_dim, 1)
        self.squash = squash
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.shift = nn.Parameter(torch.tensor(0.0))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        if mask_BT is None:
            pooled = x_BTD.mean(1)
        else:
            kept = as_mask(mask_BT, x_BTD.shape[:2])[..., None].to(x_BTD.dtype)
            pooled = (x_BTD * kept).sum(1) / kept.sum(1).clamp(min=1)
        linear, gate = self.glu(pooled).chunk(2, dim=-1)
        value = self.out(self.norm(linear * F.silu(gate)))[:, 0]
        return _SQUASH[self.squash](value) * self.scale + self.shift


class Critic(Positioned):
    """An encoder with a value head: what memory reinforcement learning expects of a dialogue.

    Shapes: ids [B, T], mask [B, T] (True or 1: a token) -> [B].
    """

    rope: Tensor

    def __init__(self, config: RxtConfig, squash: Squash = "sigmoid") -> None:
        super().__init__()
        stack, dim = config.encoder_stack, config.embed_dim
        self.nope, self.max_seq_len = stack.nope, config.max_seq_len
        self.embedding = nn.Embedding(config.vocab_size, dim)
        self.encoder = nn.ModuleList(PlainLayer(stack, dim) for _ in range(config.num_layers))
        self.add_table(
            "rope", config.max_seq_len, stack.head_dim, stack.rope_base, stack.rope_rounding
        )
        init_weights(self, config.num_layers)
        self.value = ValueHead(dim, squash)

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        require_ids(ids_BT, self.max_seq_len)
        rope = None if self.nope else self.rope[:, : ids_BT.shape[1]]
        if mask_BT is not None:
            mask_BT = as_mask(mask_BT, ids_BT.shape)
        mask = None if mask_BT is None else mask_BT[:, None, None, :]
        x = look_up(self.embedding, ids_BT)
        for layer in self.encoder:
            x = layer(x, rope=rope, mask=mask)
        return self.value(x, mask_BT)
