"""Answers for a whole batch of queries at once, for evaluation; serving uses ``engine``."""

# Shape suffixes: B rows, T tokens, L layers, S slots, D width.

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .cache import KVCache
from .template import PAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import ReactiveTransformer


def pad(rows: Sequence[Sequence[int]], *, device: torch.device | str = "cpu") -> Tensor:
    """Rows of ids as one tensor [B, T], padded on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows], device=device)


@torch.inference_mode()
def generate(
    model: ReactiveTransformer,
    prompts: Sequence[Sequence[int]],
    memory_LBSD: Tensor,
    *,
    max_tokens: int = 32,
) -> list[list[int]]:
    """Greedy answers to ``prompts`` (ids up to [A]), row b reading memory b; without the end.

    Raises ValueError where a prompt is empty, or too long for ``max_tokens`` more.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens must be at least 1, got {max_tokens}")
    if not prompts:
        return []
    device, count = memory_LBSD.device, len(prompts)
    if empty := [row for row, prompt in enumerate(prompts) if not prompt]:
        raise ValueError(f"prompts {empty} are empty; an answer needs a token to begin from")
    ids_BT = pad(prompts, device=device)
    longest = ids_BT.shape[1] + max_tokens
    if longest > model.config.max_seq_len:
        raise ValueError(
            f"{ids_BT.shape[1]} tokens of a prompt and max_tokens={max_tokens} are more than "
            f"max_seq_len={model.config.max_seq_len}; shorten the prompt or ask for fewer tokens"
        )
    cache = KVCache(model.config, count, longest, device=device, dtype=model.embedding.weight.dtype)
    state = model.project_memory(memory_LBSD)
    cache.lengths = [0] * count
    cache.begin(0, count, ids_BT.shape[1])
    model.prefill(ids_BT, state, cache)
    # What the padding left in the cache lies beyond each row's length and is overwritten.
    cache.lengths = [len(prompt) - 1 for prompt in prompts]
    pending = torch.tensor([[prompt[-1]] for prompt in prompts], device=device)
    tokens = model.config.tokens
    banned, end = tokens.not_drawn(), tokens.eos
    ends = torch.tensor(tokens.all_ends, device=device)
    done = torch.zeros(count, dtype=torch.bool, device=device)
    drawn = []
    for _ in range(max_tokens):
        cache.begin(0, count, 1)
        logits = model.decode_step(pending, state, cache)
        cache.advance(1)
        logits[:, banned] = -torch.inf
        token = logits.argmax(-1)
        done |= torch.isin(token, ends)
        drawn.append(token.masked_fill(done, end))
        pending = token[:, None]
        if bool(done.all()):
            break
    answers = torch.stack(drawn, dim=1).tolist()
    return [row[: row.index(end)] if end in row else row for row in answers]
