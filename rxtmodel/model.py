"""The Reactive Transformer: pure functions of ids and memory. The module remembers nothing."""

# Shape suffixes: L layers, B batch, T tokens, S slots, D model width, V vocabulary.

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .config import RxtConfig
from .initial import init_weights, initial_memory
from .inputs import as_mask, look_up, require_ids, require_memory, require_update
from .language_model import LanguageModel
from .layers import DecoderLayer, PlainLayer
from .memory import build_write
from .pretrained import PublishedParts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .backends import Backend
    from .cache import KVCache
    from .config import StackConfig
    from .experts import Balance

MemoryState = list[tuple[Tensor, ...]]
"""A memory as its readers want it: one entry for each decoder layer (``project_memory``)."""


class ReactiveTransformer(LanguageModel, PublishedParts):
    """Decoder that reads a memory, encoder of finished interactions, memory attention between them.

    ::

        query ids, memory ──> forward ──> logits         (memory is read, never changed)
        interaction ids ────> encode ───> encoded
        memory, encoded ────> attend ───> next memory

    Shapes: ids [B, T] int64; logits [B, T, V]; encoded [L, B, T, D]; memory [L, B, S, D] float32.

    Source: RxT, https://arxiv.org/abs/2510.03561.
    """

    config_type = RxtConfig
    config: RxtConfig
    encoder_rope: Tensor | None
    write_rope: Tensor | None

    def __init__(self, config: RxtConfig, *, backend: Backend = "sdpa") -> None:
        super().__init__()
        self.config = config
        dim, layers, stack = config.embed_dim, config.num_layers, config.encoder_stack
        self.embedding = nn.Embedding(config.vocab_size, dim)
        self.encoder_embedding = (
            None if config.share_embedding else nn.Embedding(config.vocab_size, dim)
        )
        self.stateless_before = _stateless(config, config.stateless_before)
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(layers))
        self.stateless_after = _stateless(config, config.stateless_after)
        self.encoder = nn.ModuleList(PlainLayer(stack, dim) for _ in range(layers))
        self.memory_write = build_write(config)
        self._build_head(config)
        self.memory_init = nn.Parameter(
            initial_memory(config), requires_grad=config.memory.learned_init
        )
        self._register_tables(config, stack)
        self._encoder_nope = stack.nope
        init_weights(self, layers)
        self.use_backend(backend)

    def _register_tables(self, config: RxtConfig, stack: StackConfig) -> None:
        """Positions of the decoder; of encoder and memory only where theirs are others."""

        own = config.head_dim, config.rope_base, config.rope_rounding
        encoder = stack.head_dim, stack.rope_base, stack.rope_rounding
        memory = config.memory
        write = (config.memory_head_dim, memory.rope_base or config.rope_base, own[2])
        self.add_table("rope", config.max_seq_len, *own)
        for name, other in (("encoder_rope", encoder), ("write_rope", write)):
            if other == own:
                self.register_buffer(name, None, persistent=False)
            else:
                self.add_table(name, config.max_seq_len, *other)

    def causal_layers(self) -> Iterator[PlainLayer | DecoderLayer]:
        """The decoder's layers in their order, those without memory included."""
        yield from self.stateless_before
        yield from self.decoder
        yield from self.stateless_after

    def initial_memory(self, batch: int = 1) -> Tensor:
        """The memory of ``batch`` conversations in which nothing was said, [L, B, S, D].

        It is the caller's own: whatever is done to it, the next ones begin as before.
        """
        return self.memory_init[:, None].repeat(1, batch, 1, 1).float()

    def project_memory(self, memory_LBSD: Tensor) -> MemoryState:
        """What the decoder layers read of a memory; compute it once for each memory version."""
        require_memory(self.config.memory_shape, memory_LBSD)
        return [
            layer.memory_read.project(part)
            for layer, part in zip(self.decoder, memory_LBSD, strict=True)
        ]

    def forward(self, ids_BT: Tensor, memory: Tensor | MemoryState | None) -> Tensor:
        """Next-token logits [B, T, V] of whole sequences. ``memory=None`` runs without memory.

        The memory may have fewer rows than ``ids_BT``: row b reads memory row b // (B / rows).
        """
        return self.logits(self.hidden(ids_BT, memory))

    def hidden(
        self,
        ids_BT: Tensor,
        memory: Tensor | MemoryState | None,
        *,
        balance: Balance | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] before the head. ``balance`` collects the routers' losses."""
        require_ids(ids_BT, self.config.max_seq_len)
        state = self.project_memory(memory) if isinstance(memory, Tensor) else memory
        rope = self._positions(ids_BT.shape[1])
        x = look_up(self.embedding, ids_BT)
        for layer in self.stateless_before:
            x = layer(x, rope=rope, causal=True, balance=balance)
        for index, layer in enumerate(self.decoder):
            part = None if state is None else state[index]
            x = layer(x, part, rope=rope, balance=balance)
        for layer in self.stateless_after:
            x = layer(x, rope=rope, causal=True, balance=balance)
        return x

    def decode_step(self, ids_BT: Tensor, memory: MemoryState | None, cache: KVCache) -> Tensor:
        """Advance the rows that ``cache.begin`` announced; logits [B, V] after the last token."""
        return self.logits(self.prefill(ids_BT, memory, cache)[:, -1])

    def prefill(self, ids_BT: Tensor, memory: MemoryState | None, cache: KVCache) -> Tensor:
        """The same without the head: hidden states [B, T, D] of the new tokens."""
        rope = self._positions_of(cache)
        x = look_up(self.embedding, ids_BT)
        slabs = iter(cache.layers)
        same = {"rope": rope, "mask": cache.mask, "causal": cache.causal}
        for layer in self.stateless_before:
            x = layer(x, cache=next(slabs), **same)
        for index, layer in enumerate(self.decoder):
            part = None if memory is None else memory[index]
            x = layer(x, part, cache=next(slabs), **same)
        for layer in self.stateless_after:
            x = layer(x, cache=next(slabs), **same)
        return x

    def encode(self, ids_BT: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode finished interactions; every layer's output, [L, B, T, D]. No memory is read.

        ``mask`` [B, T] is True (or 1) where there is a token.
        """
        require_ids(ids_BT, self.config.max_seq_len)
        table = self.rope if self.encoder_rope is None else self.encoder_rope
        rope = None if self._encoder_nope else table[:, : ids_BT.shape[1]]
        if mask is not None:
            mask = as_mask(mask, ids_BT.shape)[:, None, None, :]
        x, outputs = look_up(self.encoder_embedding or self.embedding, ids_BT), []
        for layer in self.encoder:
            x = layer(x, rope=rope, mask=mask)
            outputs.append(x)
        return torch.stack(outputs)

    def attend(
        self, memory_LBSD: Tensor, encoded_LBTD: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Fold encoded interactions into memories; returns new values, [L, B, S, D] float32.

        ``mask`` [B, T] is True (or 1) where there is a token.
        """
        config = self.config
        require_update(config.memory_shape, memory_LBSD, encoded_LBTD, config.max_seq_len)
        if mask is not None:
            mask = as_mask(mask, encoded_LBTD.shape[1:3])
        table = self.rope if self.write_rope is None else self.write_rope
        rope = table[:, : encoded_LBTD.shape[2]]
        return self.memory_write(memory_LBSD, encoded_LBTD, rope=rope, mask_BT=mask)

    def share_embedding(self) -> None:
        """Have the decoder look ids up where the encoder does, as the published models do."""
        if self.encoder_embedding is not None:
            self.embedding, self.encoder_embedding = self.encoder_embedding, None
            self.config = dataclasses.replace(self.config, share_embedding=True)


def _stateless(config: RxtConfig, kinds: tuple[str, ...]) -> nn.ModuleList:
    dense = config.stateless_dim or config.ff_dim
    return nn.ModuleList(
        PlainLayer(config, config.embed_dim, dense_dim=dense if kind == "dense" else None)
        for kind in kinds
    )
