"""Drawing the next token from logits, each row with its own settings and its own generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """``temperature=0`` is greedy. ``top_k=0`` and ``top_p=1`` keep every token."""

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0


class Sampler:
    """Draws tokens for one answer.

    Args:
        seed: same seed, same draws; None takes a fresh one.
    """

    def __init__(self, config: SamplerConfig, seed: int | None = None) -> None:
        self.config = config
        self._generator: torch.Generator | None = None
        if config.temperature > 0:
            self._generator = torch.Generator()
            if seed is None:
                self._generator.seed()
            else:
                self._generator.manual_seed(seed)

    @property
    def greedy(self) -> bool:
        return self._generator is None

    def draw(self, logits_V: Tensor) -> int:
        """One token id from logits [V]; the most probable one when greedy."""
        if self._generator is None:
            return int(logits_V.argmax())
        logits = keep_probable(logits_V.float().cpu() / self.config.temperature, self.config)
        return int(torch.multinomial(logits.softmax(-1), 1, generator=self._generator))


def keep_probable(logits_V: Tensor, config: SamplerConfig) -> Tensor:
    """Logits with all but the kept tokens at -inf. The token that crosses ``top_p`` is kept."""
    if 0 < config.top_k < logits_V.shape[-1]:
        threshold = logits_V.topk(config.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < threshold, -torch.inf)
    if config.top_p < 1:
        ordered, index = logits_V.sort(descending=True)
        probabilities = ordered.softmax(-1)
        dropped = probabilities.cumsum(-1) - probabilities >= config.top_p
        dropped[0] = False
        logits_V = logits_V.scatter(-1, index, ordered.masked_fill(dropped, -torch.inf))
    return logits_V
