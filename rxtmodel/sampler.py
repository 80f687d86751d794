"""Drawing the next token from logits, each row with its own settings and its own seed.

In this order: penalty of what was said already, bias, temperature, top-k, top-p, min-p, draw. All
of it is functions of tensors whose shapes do not depend on what the rows want, and no value is
looked at from the host: a batch of rows is drawn inside a CUDA graph as one row is on a CPU, and a
row draws the same token whatever runs beside it.
"""

# Shape suffixes: B rows, V vocabulary.

from __future__ import annotations

import operator
import secrets
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .config.checks import require
from .errors import ConfigError
from .sampler_config import SamplerConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Rows", "Sampler", "SamplerConfig", "draw", "keep_probable", "rows_of", "uniform"]

_WORD = 1 << 64
_ODD = 0x9E3779B97F4A7C15 - _WORD


class Rows(NamedTuple):
    """The settings of a batch as tensors on the device of its logits; None: no row wants it.

    A row that does not want what others want has the default of ``SamplerConfig`` there.
    """

    temperature_B: Tensor | None = None
    top_k_B: Tensor | None = None
    """Int64."""
    top_p_B: Tensor | None = None
    min_p_B: Tensor | None = None
    penalty_B: Tensor | None = None
    seen_BV: Tensor | None = None
    """True where a token was seen; ``seen_BV.scatter_(1, drawn_B[:, None], True)`` after a draw."""
    bias_BV: Tensor | None = None
    """Added to the logits; -inf for what a row must not draw."""


def draw(logits_BV: Tensor, rows: Rows, uniform_B: Tensor | None = None) -> Tensor:
    """Token ids [B] int64 drawn from logits, by numbers from [0, 1) (``uniform``).

    Without temperatures every row is greedy and needs no number.
    """
    logits_BV = _adjusted(logits_BV.float(), rows)
    best_B = logits_BV.argmax(-1)
    if rows.temperature_B is None:
        return best_B
    greedy_B = rows.temperature_B == 0
    heat_B = rows.temperature_B.masked_fill(greedy_B, 1.0)
    drawn_B = _pick(keep_probable(logits_BV / heat_B[:, None], rows), uniform_B)
    return torch.where(greedy_B, best_B, drawn_B)


def keep_probable(logits_BV: Tensor, rows: Rows) -> Tensor:
    """Logits with all but the kept tokens at -inf: top-k, top-p of what is left, min-p.

    What is as likely as the last that is kept is kept, too.
    """
    if rows.top_k_B is not None or rows.top_p_B is not None:
        ordered, index = logits_BV.sort(dim=-1, descending=True, stable=True)
        if rows.top_k_B is not None:
            size = logits_BV.shape[-1]
            last_B = torch.where(rows.top_k_B > 0, rows.top_k_B, size).clamp(max=size) - 1
            ordered = _drop(ordered, ordered < ordered.gather(-1, last_B[:, None]))
        if rows.top_p_B is not None:
            share_B1, probabilities = rows.top_p_B[:, None], ordered.softmax(-1)
            before = probabilities.cumsum(-1) - probabilities
            kept = (before < share_B1) | (share_B1 >= 1)
            last_B = kept.sum(-1).clamp(min=1) - 1
            ordered = _drop(ordered, ordered < ordered.gather(-1, last_B[:, None]))
        logits_BV = logits_BV.scatter(-1, index, ordered)
    if rows.min_p_B is not None:
        least = logits_BV.amax(-1, keepdim=True) + rows.min_p_B[:, None].log()
        logits_BV = _drop(logits_BV, logits_BV < least)
    return logits_BV


def uniform(seed_B: Tensor, count_B: Tensor) -> Tensor:
    """Numbers from [0, 1), float32 [B]: the one that a seed gives for the n-th token of its answer.

    A hash (splitmix64) of both int64 numbers, the same on every device.
    """
    mixed = _mix(_mix(seed_B + _ODD) + count_B * _ODD)
    return _shifted(mixed, 40).float() * 2.0**-24


def _ids(tokens: Iterable[int]) -> tuple[int, ...]:
    """What may be an array or a tensor, as whole numbers of Python. Raises ConfigError."""
    ids = []
    for token in tokens:
        try:
            ids.append(operator.index(token))
        except TypeError:
            ids.append(-1)
        if ids[-1] < 0 or isinstance(token, bool):
            raise ConfigError(f"seen must hold ids of tokens, got {token!r}")
    return tuple(ids)


class Sampler:
    """Draws the tokens of one answer.

    Args:
        seed: same seed, same draws; None takes a fresh one.
        seen: ids that count as said already, for the repetition penalty; drawn ones are added.

    Raises ConfigError for a seed or an id that cannot be.
    """

    def __init__(
        self, config: SamplerConfig, seed: int | None = None, *, seen: Iterable[int] = ()
    ) -> None:
        if isinstance(seed, bool) or not (seed is None or isinstance(seed, int)):
            raise ConfigError(f"a seed must be a whole number or None, got {seed!r}")
        self.config = config
        self.seed = _signed(secrets.randbits(63) if seed is None else seed)
        self.count = 0
        """Tokens drawn so far."""
        self.seen = _ids(seen) if config.repetition_penalty != 1 else ()
        self._rows: Rows | None = None

    @property
    def greedy(self) -> bool:
        """Whether the largest logit decides, whatever was drawn before."""
        config = self.config
        plain = config.repetition_penalty == 1 and not config.logit_bias
        return config.temperature == 0 and plain

    def draw(self, logits_V: Tensor) -> int:
        """One token id from logits [V]; they stay as they are. ValueError for another shape."""
        if logits_V.dim() != 1:
            raise ValueError(f"logits are of one row, [V], got {list(logits_V.shape)}")
        if self.greedy:
            return int(logits_V.argmax())
        device = logits_V.device
        if self._rows is None:
            self._rows = rows_of(self.config, len(logits_V), self.seen, device=device)
        number = None
        if self.config.temperature > 0:
            place = torch.tensor([[self.seed], [self.count]], device=device)
            number = uniform(place[0], place[1])
        token = int(draw(logits_V[None], self._rows, number))
        self.count += 1
        if self._rows.seen_BV is not None:
            self._rows.seen_BV[0, token] = True
        return token


def rows_of(
    config: SamplerConfig,
    vocab_size: int,
    seen: Iterable[int] = (),
    *,
    device: torch.device | str = "cpu",
) -> Rows:
    """The settings of one row, without what it does not want. Raises ConfigError."""
    c = config
    penalised, drawn = c.repetition_penalty != 1, c.temperature > 0

    def row(value: float, wanted: bool) -> Tensor | None:
        return torch.tensor([value], device=device) if wanted else None

    seen_BV = bias_BV = None
    if penalised:
        seen = list(seen)
        largest = max(seen, default=0)
        require(largest < vocab_size, f"seen names token {largest} of {vocab_size}")
        seen_BV = torch.zeros(1, vocab_size, dtype=torch.bool, device=device)
        seen_BV[0, seen] = True
    c.check_vocabulary(vocab_size)
    if c.logit_bias:
        bias_BV = torch.zeros(1, vocab_size, device=device)
        bias_BV[0, list(c.logit_bias)] = torch.tensor(list(c.logit_bias.values()), device=device)
    return Rows(
        temperature_B=row(c.temperature, drawn),
        top_k_B=row(c.top_k, drawn and c.top_k > 0),
        top_p_B=row(c.top_p, drawn and c.top_p < 1),
        min_p_B=row(c.min_p, drawn and c.min_p > 0),
        penalty_B=row(c.repetition_penalty, penalised),
        seen_BV=seen_BV,
        bias_BV=bias_BV,
    )


def _adjusted(logits_BV: Tensor, rows: Rows) -> Tensor:
    if rows.penalty_B is not None:
        by_B1 = rows.penalty_B[:, None]
        less = torch.where(logits_BV > 0, logits_BV / by_B1, logits_BV * by_B1)
        logits_BV = torch.where(rows.seen_BV, less, logits_BV)
    return logits_BV if rows.bias_BV is None else logits_BV + rows.bias_BV


def _drop(logits: Tensor, dropped: Tensor) -> Tensor:
    return logits.masked_fill(dropped, -torch.inf)


def _pick(logits_BV: Tensor, uniform_B: Tensor | None) -> Tensor:
    """The token at which the probabilities added up, in the order of ids, exceed the number."""
    probabilities = logits_BV.softmax(-1)
    total = probabilities.cumsum(-1)
    # A sum on a GPU may rise by a rounding error where a probability is zero.
    beyond = (total > uniform_B[:, None] * total[:, -1:]) & (probabilities > 0)
    first_B = beyond.int().argmax(-1)
    return torch.where(beyond.any(-1), first_B, probabilities.argmax(-1))


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """An int64 shifted to the right as if it had no sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """The low 64 bits of a number, as int64 holds them."""
    return (number + _WORD // 2) % _WORD - _WORD // 2
