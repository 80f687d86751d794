"""A decoder-only language model of the same blocks, without a memory."""

# Shape suffixes: B batch, T tokens, D model width, V vocabulary.

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from .config import LmConfig
from .initial import init_weights
from .inputs import look_up, require_ids
from .language_model import LanguageModel
from .layers import PlainLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .backends import Backend
    from .cache import KVCache
    from .experts import Balance


class SqaLM(LanguageModel):
    """Causal self-attention and feed-forward layers between an embedding and a head.

    Head counts make it any of the models that sparse query attention was published with.

    Shapes: ids [B, T] int64; logits [B, T, V]. Source: SQA, https://arxiv.org/abs/2510.01817.
    """

    config_type = LmConfig

    def __init__(self, config: LmConfig, *, backend: Backend = "sdpa") -> None:
        super().__init__()
        self.config = config
        dim, layers = config.embed_dim, config.num_layers
        self.embedding = nn.Embedding(config.vocab_size, dim)
        self.layers = nn.ModuleList(PlainLayer(config, dim) for _ in range(layers))
        self._build_head(config)
        self.add_table(
            "rope", config.max_seq_len, config.head_dim, config.rope_base, config.rope_rounding
        )
        init_weights(self, layers)
        self.use_backend(backend)

    def causal_layers(self) -> Iterator[PlainLayer]:
        """The layers in their order."""
        yield from self.layers

    def forward(self, ids_BT: Tensor) -> Tensor:
        """Next-token logits [B, T, V] of whole sequences."""
        return self.logits(self.hidden(ids_BT))

    def hidden(self, ids_BT: Tensor, *, balance: Balance | None = None) -> Tensor:
        """Hidden states [B, T, D] before the head. ``balance`` collects the routers' losses."""
        require_ids(ids_BT, self.config.max_seq_len)
        x, rope = look_up(self.embedding, ids_BT), self._positions(ids_BT.shape[1])
        for layer in self.layers:
            x = layer(x, rope=rope, causal=True, balance=balance)
        return x

    def decode_step(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """Advance the rows that ``cache.begin`` announced; logits [B, V] after the last token."""
        return self.logits(self.prefill(ids_BT, cache)[:, -1])

    def prefill(self, ids_BT: Tensor, cache: KVCache) -> Tensor:
        """The same without the head: hidden states [B, T, D] of the new tokens."""
        x, rope = look_up(self.embedding, ids_BT), self._positions_of(cache)
        for layer, slab in zip(self.layers, cache.layers, strict=True):
            x = layer(x, rope=rope, mask=cache.mask, causal=cache.causal, cache=slab)
        return x
