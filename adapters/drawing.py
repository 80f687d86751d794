"""How the tokens of an answer are drawn: from the settings of its query to a sampler."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rxtmodel.errors import ConfigError
from rxtmodel.sampler import Sampler, SamplerConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rxstream.model import Sampling
    from rxtmodel.template import TokenIds

_BEYOND_OTHERS = 1e3
"""Added to a logit: larger than logits are, small enough for float32 to tell two of them apart."""


def sampler_for(
    sampling: Sampling,
    tokens: TokenIds,
    vocab_size: int,
    prompt: Sequence[int],
    allowed: tuple[int, ...],
) -> Sampler:
    """Draws the answer to ``prompt``, in which the special tokens ``allowed`` may come.

    Raises ConfigError when the settings leave no token, or name one beyond the vocabulary.
    """
    config = SamplerConfig(
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        logit_bias=sampling.logit_bias,
        allowed=allowed,
    )
    config.check_vocabulary(vocab_size, tokens.not_drawn())
    said: list[int] = []
    if config.repetition_penalty != 1:
        said = [token for token in prompt if token not in tokens.all_special]
    return Sampler(config, sampling.seed, seen=said)


def chooser_for(sampling: Sampling, tokens: TokenIds) -> Sampler:
    """Draws the likelier of ``[A]`` and ``[T]``, after the biases that they were given.

    Raises ConfigError when they forbid both.
    """
    both = tokens.allowed("query")
    given = {token: sampling.logit_bias.get(token, 0.0) for token in both}
    most = max(given.values())
    if most == -math.inf:
        raise ConfigError(
            f"logit_bias forbids tokens {', '.join(map(str, both))}, by which an answer can begin; "
            "allow one, or do not leave it to the model whether to think"
        )
    # By their difference: the larger one is beyond all others, whatever the biases are.
    beyond = {token: _BEYOND_OTHERS + (bias - most) for token, bias in given.items()}
    return Sampler(SamplerConfig(allowed=both, logit_bias=beyond), 0)
