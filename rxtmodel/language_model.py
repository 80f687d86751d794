"""What every model of this package has: an embedding, positions, a head, a choice of kernels."""

# Shape suffixes: B batch, T tokens, D model width, V vocabulary.

from __future__ import annotations

from typing import TYPE_CHECKING

from .attention import Attention
from .backends import load_gated, load_kernel, load_rotate
from .feed_forward import FeedForward
from .linear import Int8, Linear, linear_of
from .memory.stacked import StackedAttention
from .norms import build_norm
from .pretrained import Pretrained
from .rope import Positioned, as_complex

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .backends import Backend
    from .cache import KVCache
    from .config import LmConfig


class LanguageModel(Pretrained, Positioned):
    """Base of ``ReactiveTransformer`` and ``SqaLM``."""

    config: LmConfig
    backend: Backend
    embedding: nn.Embedding
    final_norm: nn.Module | None
    head: nn.Linear | None
    embedding_int8: Int8 | None = None
    """Of an embedding that is the head, too; see ``layout.quantise``."""
    rope: Tensor

    def use_backend(self, backend: Backend) -> None:
        """Compute every attention by ``backend``; BackendUnavailable says why it cannot be."""
        kernel, gated, turn = load_kernel(backend), load_gated(backend), load_rotate(backend)
        for module in self.modules():
            if isinstance(module, Attention | StackedAttention):
                module.kernel = kernel
                if isinstance(module, Attention):
                    module.rotate = turn
            elif isinstance(module, FeedForward):
                module.kernel = gated
        self.backend = backend

    def logits(self, x: Tensor) -> Tensor:
        """Logits [B, T, V] of hidden states [B, T, D]; [B, V] of [B, D], a token of each row."""
        if x.dim() == 2:
            return self.logits(x[:, None])[:, 0]
        if self.final_norm is not None:
            x = self.final_norm(x)
        if self.head is not None:
            return self.head(x)
        return linear_of(x, self.embedding.weight, self.embedding_int8)

    def _build_head(self, config: LmConfig) -> None:
        dim, kind = config.embed_dim, config.final_norm_kind or config.norm
        self.final_norm = build_norm(kind, dim, config.norm_eps) if config.final_norm else None
        self.head = (
            None if config.tie_head else Linear(dim, config.vocab_size, bias=config.head_bias)
        )

    def _positions(self, length: int) -> Tensor | None:
        """Of whole sequences of ``length`` tokens."""
        return None if self.config.nope else self.rope[:, :length]

    def _positions_of(self, cache: KVCache) -> Tensor | None:
        """Of the tokens that a cache announced."""
        if self.config.nope:
            return None
        rope = as_complex(self.rope[:, cache.positions])
        # Rows at positions of their own have a table each, [B, T, H / 2], and heads come second.
        return rope[:, None] if rope.dim() == 3 else rope
