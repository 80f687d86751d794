"""The same decoder without a memory, for comparison: it has to see the whole history."""

# Shape suffixes: B batch, T new tokens, K keys, D width.

from __future__ import annotations

import dataclasses
from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from rxtmodel import ReactiveTransformer, RxtConfig
from rxtmodel.cache import KVCache
from rxtmodel.layout import arrange
from rxtmodel.native import NativeDecoder, NativeUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn


_LONG = 512
"""Tokens."""


class Stateless:
    """A decoder-only model of the same blocks, with random weights: only its speed is of interest.

    In place of the memory reads it has a wider feed-forward, so that a token reads as many weights.

    Args:
        config: of the model that it is compared with.
        max_len: longest history with query and answer, in tokens.
    """

    def __init__(self, config: RxtConfig, max_len: int) -> None:
        with torch.device("meta"):
            twin = ReactiveTransformer(config)
        read = _count(twin.decoder[0].memory_read) + config.embed_dim  # its norm
        more = read // (3 * config.embed_dim) // 16 * 16
        wider = dataclasses.replace(config, ff_dim=config.ff_dim + more, max_seq_len=max_len)
        self.model = arrange(ReactiveTransformer(wider).eval().requires_grad_(False))
        self.cache = KVCache(wider, 1, max_len)
        with torch.inference_mode():
            self.cache.k.normal_()
            self.cache.v.normal_()
        layer = self.model.decoder[0]
        read = _count(layer.memory_read) + _count(layer.memory_norm)
        self.weights_read = decoder_weights(self.model) - wider.num_layers * read
        """Weights that one token is multiplied with."""
        self._native: NativeDecoder | None = None
        with suppress(NativeUnavailable):
            banned = torch.zeros(config.vocab_size)
            self._native = NativeDecoder(self.model, self.cache, banned, memory=False)

    def keep(self, history: int) -> None:
        """Pretend that ``history`` tokens were read: random keys and values stand for them."""
        self.cache.lengths = [history]

    @property
    def cache_bytes_per_token(self) -> int:
        """Bytes of keys and values that a token of history costs."""
        layers, _, heads, _, width = self.cache.k.shape
        return 2 * layers * heads * width * self.cache.k.element_size()

    @torch.inference_mode()
    def read(self, ids: Sequence[int]) -> int:
        """Append ``ids`` to the history; returns the likeliest next token.

        By what runs ours, but for long histories by PyTorch, which reads those faster.
        """
        short = len(ids) == 1 or self.cache.lengths[0] + len(ids) <= _LONG
        if self._native is not None and short:
            if len(ids) > 1:
                self._native.read(ids[:-1], 0)
            return self._native.step(ids[-1:])[0]
        cache, model = self.cache, self.model
        cache.begin(0, 1, len(ids))
        x_BTD = model.prefill(torch.tensor([ids]), None, cache)
        cache.advance(len(ids))
        return int(model.logits(x_BTD[:, -1]).argmax())


def decoder_weights(model: ReactiveTransformer) -> int:
    """Weights of the decoder layers and the head."""
    head = model.head.weight if model.head is not None else model.embedding.weight
    return _count(model.decoder) + head.numel()


def _count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())
