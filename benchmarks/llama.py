"""A stateless decoder of ``transformers`` on a GPU, with as many parameters as ours."""

# Shape suffixes: B rows, T tokens.

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

VOCAB = 10_000


def build(device: str, *, layers: int = 12, width: int = 768, length: int = 66_000) -> Any:
    """A Llama with random weights in bfloat16; 90.9 M parameters by default."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=width, num_hidden_layers=layers,
        intermediate_size=width * 8 // 3, num_attention_heads=width // 64,
        num_key_value_heads=width // 192,
        max_position_embeddings=length, attn_implementation="sdpa", tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config).to(device, torch.bfloat16).eval()


class Session:
    """One batch of conversations with a cache that is kept. ``static``: compiled, with a cache of
    fixed length."""

    def __init__(self, model: Any, *, static: int | None = None) -> None:
        from transformers import DynamicCache, StaticCache

        self._model, self._forward, self.length = model, model.forward, 0
        self._cache: Any = DynamicCache(config=model.config)
        if static is not None:
            self._cache = StaticCache(config=model.config, max_cache_len=static)
            # not dynamic: the second number of rows would be compiled for any number, at a price
            self._forward = torch.compile(
                model.forward, mode="reduce-overhead", fullgraph=True, dynamic=False
            )

    @torch.inference_mode()
    def read(self, ids_BT: Tensor) -> Tensor:
        """Prefill, never compiled; the next token [B, 1]."""
        return self._call(self._model.forward, ids_BT)

    @torch.inference_mode()
    def step(self, ids_B1: Tensor) -> Tensor:
        """One more token."""
        return self._call(self._forward, ids_B1)

    def _call(self, forward: Callable[..., Any], ids_BT: Tensor) -> Tensor:
        place = torch.arange(self.length, self.length + ids_BT.shape[1], device=ids_BT.device)
        self.length += ids_BT.shape[1]
        out = forward(
            input_ids=ids_BT, past_key_values=self._cache, position_ids=place[None],
            use_cache=True, logits_to_keep=1,
        )  # fmt: skip
        return out.logits[:, -1].argmax(-1, keepdim=True).clone()


def step_ms(session: Session, ids_BT: Tensor, count: int, *, warm: int = 3) -> tuple[float, float]:
    """Milliseconds to the first token of a query, and for each token after it."""
    torch.cuda.synchronize()
    began = time.perf_counter()
    token = session.read(ids_BT)
    token.tolist()
    first = time.perf_counter() - began
    times = []
    for index in range(warm + count):
        began = time.perf_counter()
        token = session.step(token)
        token.tolist()
        if index >= warm:
            times.append(time.perf_counter() - began)
    return first * 1e3, statistics.median(times) * 1e3
