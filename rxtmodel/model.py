"""The Reactive Transformer: pure functions of ids and memory. The module remembers nothing."""

# Shape suffixes: L layers, B batch, T tokens, S slots, D model width, V vocabulary.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import DecoderLayer, EncoderLayer
from .memory import build_write
from .rope import as_complex, rope_table

if TYPE_CHECKING:
    from .cache import KVCache
    from .config import RxtConfig

MemoryState = list[tuple[Tensor, ...]]
"""A memory as its readers want it: one entry for each decoder layer (``project_memory``)."""


class ReactiveTransformer(nn.Module):
    """Decoder that reads a memory, encoder of finished interactions, memory attention between them.

    ::

        query ids, memory ──> forward ──> logits         (memory is read, never changed)
        interaction ids ────> encode ───> encoded
        memory, encoded ────> attend ───> next memory

    Shapes: ids [B, T] int64; logits [B, T, V]; encoded [L, B, T, D]; memory [L, B, S, D] float32.

    Source: RxT, https://arxiv.org/abs/2510.03561.
    """

    rope: Tensor

    def __init__(self, config: RxtConfig) -> None:
        super().__init__()
        self.config = config
        dim, layers = config.embed_dim, config.num_layers
        self.embedding = nn.Embedding(config.vocab_size, dim)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(layers))
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(layers))
        self.memory_write = build_write(config)
        self.final_norm = nn.RMSNorm(dim, eps=config.norm_eps) if config.final_norm else None
        self.head = None if config.tie_head else nn.Linear(dim, config.vocab_size)
        self.memory_init = nn.Parameter(
            _initial_memory(config), requires_grad=config.memory.learned_init
        )
        table = rope_table(config.max_seq_len, config.head_dim, config.rope_base)
        self.register_buffer("rope", table, persistent=False)
        self.apply(_init_weights)
        for layer in self.decoder:
            _scale_residual(layer.attention.out_proj, layers)
            _scale_residual(layer.ff.down, layers)
        for layer in self.encoder:
            _scale_residual(layer.attention.out_proj, layers)
            _scale_residual(layer.ff.down, layers)

    def initial_memory(self, batch: int = 1) -> Tensor:
        """The memory of ``batch`` conversations in which nothing was said, [L, B, S, D]."""
        return self.memory_init[:, None].expand(-1, batch, -1, -1).float()

    def project_memory(self, memory_LBSD: Tensor) -> MemoryState:
        """What the decoder layers read of a memory; compute it once for each memory version."""
        return [
            layer.memory_read.project(part)
            for layer, part in zip(self.decoder, memory_LBSD, strict=True)
        ]

    def forward(self, ids_BT: Tensor, memory: Tensor | MemoryState | None) -> Tensor:
        """Next-token logits [B, T, V] of whole sequences. ``memory=None`` runs without memory.

        The memory may have fewer rows than ``ids_BT``: row b reads memory row b // (B / rows).
        """
        return self.logits(self.hidden(ids_BT, memory))

    def hidden(self, ids_BT: Tensor, memory: Tensor | MemoryState | None) -> Tensor:
        """Hidden states [B, T, D] before the head."""
        state = self.project_memory(memory) if isinstance(memory, Tensor) else memory
        rope = self.rope[:, : ids_BT.shape[1]]
        x = self.embedding(ids_BT)
        for index, layer in enumerate(self.decoder):
            x = layer(x, None if state is None else state[index], rope=rope)
        return x

    def decode_step(self, ids_BT: Tensor, memory: MemoryState | None, cache: KVCache) -> Tensor:
        """Advance the rows that ``cache.begin`` announced; logits [B, V] after the last token."""
        return self.logits(self.prefill(ids_BT, memory, cache)[:, -1])

    def prefill(self, ids_BT: Tensor, memory: MemoryState | None, cache: KVCache) -> Tensor:
        """The same without the head: hidden states [B, T, D] of the new tokens."""
        rope = as_complex(self.rope[:, cache.positions])
        if rope.dim() == 3:  # rows at positions of their own: [B, T, H / 2], and heads come second
            rope = rope[:, None]
        x = self.embedding(ids_BT)
        for index, layer in enumerate(self.decoder):
            x = layer(
                x,
                None if memory is None else memory[index],
                rope=rope,
                mask=cache.mask,
                causal=cache.causal,
                cache=cache.layers[index],
            )
        return x

    def logits(self, x: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]."""
        if self.final_norm is not None:
            x = self.final_norm(x)
        if self.head is not None:
            return self.head(x)
        return F.linear(x, self.embedding.weight)

    def encode(self, ids_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Encode finished interactions; every layer's output, [L, B, T, D]. No memory is read.

        ``mask_BT`` is True where there is a token.
        """
        rope = self.rope[:, : ids_BT.shape[1]]
        mask = None if mask_BT is None else mask_BT[:, None, None, :]
        x, outputs = self.embedding(ids_BT), []
        for layer in self.encoder:
            x = layer(x, rope=rope, mask=mask)
            outputs.append(x)
        return torch.stack(outputs)

    def attend(
        self, memory_LBSD: Tensor, encoded_LBTD: Tensor, mask_BT: Tensor | None = None
    ) -> Tensor:
        """Fold encoded interactions into memories; returns new values, [L, B, S, D] float32."""
        if memory_LBSD.shape[1] != encoded_LBTD.shape[1]:
            raise ValueError(
                f"{memory_LBSD.shape[1]} memories cannot take {encoded_LBTD.shape[1]} interactions"
            )
        rope = self.rope[:, : encoded_LBTD.shape[2]]
        return self.memory_write(memory_LBSD, encoded_LBTD, rope=rope, mask_BT=mask_BT)


def _initial_memory(config: RxtConfig) -> Tensor:
    shape = config.memory_shape
    if config.memory.variant == "delta":
        return torch.zeros(shape)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)


def _scale_residual(linear: nn.Linear, num_layers: int) -> None:
    """Keep the residual stream's variance independent of depth."""
    with torch.no_grad():
        linear.weight.mul_((2 * num_layers) ** -0.5)
