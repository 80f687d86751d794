"""What a step reads and writes of each answer under way, as tensors on the device."""

# Shape suffixes: R rows, B rows of a batch, T tokens, G kv heads, H head width, V vocabulary.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..sampler import Rows as Settings
from ..sampler import draw, uniform

if TYPE_CHECKING:
    from ..model import ReactiveTransformer
    from ..sampler import SamplerConfig
    from .handover import Drawn

DRAWN, PENALISED, BIASED, TOP_K, TOP_P, MIN_P = 1, 2, 4, 8, 16, 32
"""What a row wants of its sampler, as bits."""
INTEGERS = ("row", "token", "pos", "slot", "flags", "top_k", "seed", "drawn")
NUMBERS = ("temperature", "top_p", "min_p", "penalty")


class DeviceRows:
    """``max_rows`` rows, and one that is nobody's: a batch is filled up with it to a full bucket.

    A row stays where it is until it ends; a step is told which rows it is about.
    """

    def __init__(self, model: ReactiveTransformer, max_rows: int, max_len: int) -> None:
        config, weight = model.config, model.embedding.weight
        self.max_rows, self.max_len = max_rows, max_len
        self.nobody = max_rows
        device, rows, vocab = weight.device, max_rows + 1, config.vocab_size
        self.device, self.vocab_size = device, vocab
        heads = config.attention.num_kv_heads
        shape = (config.num_causal_layers, rows, heads, max_len, config.head_dim)
        self.k = torch.zeros(shape, device=device, dtype=weight.dtype)
        self.v = torch.zeros(shape, device=device, dtype=weight.dtype)

        def whole(dtype: torch.dtype) -> Tensor:
            return torch.zeros(rows, device=device, dtype=dtype)

        self.token, self.pos = whole(torch.int32), whole(torch.int32)
        """Of the last token, which is not in the cache yet: its id and its place."""
        self.slot = whole(torch.int32)
        self.flags, self.top_k = whole(torch.int32), whole(torch.int32)
        self.seed, self.drawn = whole(torch.int64), whole(torch.int64)
        self.numbers = torch.ones(rows, 4, device=device)
        self.seen = torch.zeros(rows, vocab, device=device, dtype=torch.int8)
        self.bias = torch.zeros(rows, vocab, device=device)
        """Of rows that have the flag; it holds what is banned, too."""
        self.banned = torch.zeros(vocab, device=device)
        self.banned[model.config.tokens.not_drawn()] = -torch.inf

    def write(self, integers_B8: Tensor, numbers_B4: Tensor) -> None:
        """Begin rows: columns as ``INTEGERS`` and ``NUMBERS`` name them. Without the host."""
        index = integers_B8[:, 0]
        for place, name in enumerate(INTEGERS[1:], start=1):
            part: Tensor = getattr(self, name)
            part.index_copy_(0, index, integers_B8[:, place].to(part.dtype))
        self.numbers.index_copy_(0, index, numbers_B4)

    def write_wide(self, row: int, config: SamplerConfig, seen: tuple[int, ...]) -> None:
        """What few rows want and is as wide as the vocabulary."""
        if config.repetition_penalty != 1:
            self.seen[row].zero_()
            if seen:
                self.seen[row, torch.tensor(seen, device=self.device)] = 1
        if config.logit_bias or config.allowed:
            self.bias[row].copy_(self.banned)
        if config.allowed:
            self.bias[row, torch.tensor(config.allowed, device=self.device)] = 0.0
        if config.logit_bias:
            tokens = torch.tensor(list(config.logit_bias), device=self.device)
            values = torch.tensor(list(config.logit_bias.values()), device=self.device)
            self.bias[row, tokens] += values.float()

    def draw(self, logits_BV: Tensor, order_B: Tensor, drawn: Drawn) -> None:
        """The next token of each row: into its place, and into the row. Without the host."""
        index = order_B.long()
        temperature, top_p, min_p, penalty = self.numbers[index].unbind(-1)
        flags, seed = self.flags[index], self.seed[index]
        biased_B1 = (flags & BIASED).bool()[:, None]
        settings = Settings(
            temperature_B=temperature,
            top_k_B=self.top_k[index].long(),
            top_p_B=top_p,
            min_p_B=min_p,
            penalty_B=penalty,
            seen_BV=self.seen[index].bool() & (flags & PENALISED).bool()[:, None],
            # Not a sum: what an earlier answer forbade is -inf, and that times zero no number.
            bias_BV=torch.where(biased_B1, self.bias[index], self.banned),
        )
        number_B = uniform(seed, self.drawn[index])
        token_B = draw(logits_BV, settings, number_B).to(torch.int32)
        drawn.places_PB[drawn.turn_B.long(), torch.arange(len(index), device=self.device)] = token_B
        drawn.turn_B.add_(1).remainder_(len(drawn.places_PB))
        self.token.index_copy_(0, index, token_B)
        one = (index != self.nobody).long()  # what fills up a batch stays at its first place
        self.pos.index_add_(0, index, one.int())
        self.drawn.index_add_(0, index, one)
        penalised = (flags & PENALISED).to(torch.int8)
        self.seen.index_put_((index, token_B.long()), penalised.clamp(max=1))


def flags_of(config: SamplerConfig) -> int:
    """The bits of a row's sampler."""
    flags = PENALISED * (config.repetition_penalty != 1)
    flags |= BIASED * bool(config.logit_bias or config.allowed)
    if config.temperature > 0:
        flags |= DRAWN | TOP_K * (config.top_k > 0)
        flags |= TOP_P * (config.top_p < 1) | MIN_P * (config.min_p > 0)
    return flags
