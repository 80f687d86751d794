"""How tokens are drawn: the settings of one answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING

import torch

from .config.checks import require, require_whole
from .errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection

_LEAST_TEMPERATURE = 1e-5
"""Logits over a smaller one leave the range of float32."""
_LARGEST = torch.finfo(torch.float32).max
"""Numbers are used as float32, which must hold them."""
_ALL = 1 << 31
"""Engines keep top-k in 32 bits, and no vocabulary is larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """How tokens are drawn. Every default leaves the logits alone. Raises ConfigError."""

    temperature: float = 0.0
    """0 is greedy: the most probable token, after penalty and bias. So is what is below 1e-5, which
    leaves no other a chance; it becomes 0."""
    top_k: int = 0
    """Keep the k most probable tokens, and those that tie with the last of them; 0 keeps all. A
    number beyond every vocabulary becomes 0."""
    top_p: float = 1.0
    """Keep the most probable tokens until they have this share; the one that crosses it stays, and
    so do those that tie with it."""
    min_p: float = 0.0
    """Keep the tokens that are at least this share as probable as the most probable one."""
    repetition_penalty: float = 1.0
    """Logits of tokens seen before are divided by it where positive, else multiplied."""
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)
    """Added to the logits of these tokens; -inf forbids one."""
    allowed: tuple[int, ...] = ()
    """Special tokens that may be drawn besides the one that ends an answer."""

    def __post_init__(self) -> None:
        # No message is made where nothing is wrong: a bias may be as wide as the vocabulary.
        value: object = self.temperature
        if not (_is_number(value) and 0 <= value <= _LARGEST):
            raise ConfigError(f"temperature must be a number >= 0, got {value!r}")
        require_whole(self, "top_k", least=0)
        if not (_is_number(value := self.top_p) and 0 < value <= 1):
            raise ConfigError(f"top_p must be a number in (0, 1], got {value!r}")
        if not (_is_number(value := self.min_p) and 0 <= value <= 1):
            raise ConfigError(f"min_p must be a number in [0, 1], got {value!r}")
        if not (_is_number(value := self.repetition_penalty) and 0 < value <= _LARGEST):
            raise ConfigError(f"repetition_penalty must be a number > 0, got {value!r}")
        _check_bias(self.logit_bias)
        if not (isinstance(self.allowed, tuple | list) and are_ids(self.allowed)):
            raise ConfigError(f"allowed must be a tuple of ids of tokens, got {self.allowed!r}")
        object.__setattr__(self, "allowed", tuple(self.allowed))
        if self.temperature < _LEAST_TEMPERATURE:
            object.__setattr__(self, "temperature", 0.0)
        if self.top_k >= _ALL:
            object.__setattr__(self, "top_k", 0)
        object.__setattr__(self, "logit_bias", dict(self.logit_bias))
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            if type(value := getattr(self, name)) not in (int, float):  # such as those of numpy
                object.__setattr__(self, name, float(value))

    def check_vocabulary(self, vocab_size: int, banned: Collection[int] = ()) -> None:
        """Raise ConfigError when a bias is for a token that the model does not have, or no token is
        left to draw.

        ``banned``: what may be drawn only where it is ``allowed``.
        """
        largest = max(self.logit_bias, default=0)
        require(largest < vocab_size, f"logit_bias names token {largest} of {vocab_size}")
        largest = max(self.allowed, default=0)
        require(largest < vocab_size, f"allowed names token {largest} of {vocab_size}")
        if len(self.logit_bias) + len(banned) >= vocab_size:
            forbidden = {token for token, bias in self.logit_bias.items() if bias == -math.inf}
            forbidden |= set(banned) - set(self.allowed)
            require(
                len(forbidden) < vocab_size,
                f"logit_bias forbids all {vocab_size} tokens that could be drawn; leave one",
            )


def are_ids(tokens: Collection[object]) -> bool:
    """Whether all of these can be ids of tokens."""
    return all(
        isinstance(token, int) and token >= 0 and not isinstance(token, bool) for token in tokens
    )


def _check_bias(given: object) -> None:
    if not isinstance(given, Mapping):
        raise ConfigError(f"logit_bias must hold numbers by ids of tokens, got {given!r}")
    for token, bias in given.items():
        if not are_ids((token,)):
            raise ConfigError(f"logit_bias needs ids of tokens, got {token!r}")
        if not (_is_number(bias) and (bias == -math.inf or -_LARGEST <= bias <= _LARGEST)):
            raise ConfigError(f"logit_bias of token {token} must be a number or -inf, got {bias!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
