"""Decoding on a CPU: beside an equally large model of ``transformers``, and many answers at once.

Both models read as many weights for a token, keep keys and values of the same tokens, take the
likeliest token and hand it to Python. Ours reads its memory as well.
"""

from __future__ import annotations

import copy
import importlib.metadata
from typing import TYPE_CHECKING, Any

import torch

from rxtmodel import Sampler, SamplerConfig
from rxtmodel.engine import DecodeBatch
from rxtmodel.layout import arrange, quantise
from rxtmodel.template import query_ids

from .measure import interleave
from .report import Check, Report, Table
from .stateless import decoder_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.model import RxtAdapter
    from rxtmodel import ReactiveTransformer

    from .measure import Phases, Settings, Variant

SIZES = (1, 2, 4, 8, 16)
QUERY = "my dog is called Biscuit. what is my dog called? what do you know about my dog?"
FASTER, MORE = 1.5, 5.0
"""Targets: over the other model at batch 1, and of batch 16 over batch 1."""


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    adapter, tokens = settings.adapter, 4 if settings.quick else 64
    sizes = (1, 16) if settings.quick else SIZES
    peer = _peer(adapter.model)
    short = quantise(arrange(copy.deepcopy(adapter.model)))
    variants: dict[str, Variant] = {}
    for size in sizes:
        variants[f"ours {size}"] = _ours(adapter.model, adapter, size, tokens, settings.now)
        variants[f"torch {size}"] = _ours(adapter.model, adapter, size, tokens, settings.now,
                                          native=False)  # fmt: skip
        variants[f"int8 {size}"] = _ours(short, adapter, size, tokens, settings.now)
        variants[f"peer {size}"] = _theirs(peer, adapter, size, tokens, settings.now)
    samples = interleave(variants, settings.rounds)
    table = Table(
        f"A step, {tokens} tokens after a query of {len(_ids(adapter))} (medians over the rounds)",
        ["answers at once", "ms", "spread", "tokens/s", "x batch 1", "int8 ms", "x",
         "by PyTorch ms", "x", "transformers ms", "x"],
    )  # fmt: skip
    one, peer_one = samples["ours 1"], samples["peer 1"]
    for size in sizes:
        own, other = samples[f"ours {size}"], samples[f"peer {size}"]
        seconds = own.median("step")
        gain = size / own.ratio("step", one)
        cells = [seconds * 1e3, own.spread("step"), size / seconds, gain]
        for beside in (samples[f"int8 {size}"], samples[f"torch {size}"], other):
            cells += [beside.median("step") * 1e3, beside.ratio("step", own)]
        table.add(size, *cells)
    report = Report("cpu", "decoding on a CPU", tables=[table])
    report.checks = [
        Check("batch 1 over transformers", peer_one.ratio("step", one), FASTER, at_least=True,
              unit="x"),
        Check("tokens/s of batch 16 over batch 1", 16 / samples["ours 16"].ratio("step", one),
              MORE, at_least=True, unit="x"),
    ]  # fmt: skip
    reason = DecodeBatch(adapter.model, 1, 1).why_not_native
    count = sum(weight.numel() for weight in peer.parameters())
    report.notes = [
        f"weights read for a token: {decoder_weights(adapter.model):,}, of transformers {count:,}",
        f"transformers {importlib.metadata.version('transformers')}: a Llama of the same width, "
        "layers and heads, dynamic cache, PyTorch's attention, without generate()",
        "ours: the batch that the runtime decodes with, greedy; int8: load_model(int8=True); by "
        "PyTorch: as without a C compiler",
        "ours ran by compiled code" if reason is None else f"ours ran by PyTorch: {reason}",
    ]  # fmt: skip
    return report


def _ids(adapter: RxtAdapter) -> list[int]:
    return query_ids(adapter.tokenizer.encode(QUERY))


def _ours(
    model: ReactiveTransformer,
    adapter: RxtAdapter,
    size: int,
    tokens: int,
    now: Callable[[], float],
    *,
    native: bool = True,
) -> Variant:
    state = adapter.initial_memory().state(adapter.model)
    batch = DecodeBatch(model, size, model.config.max_seq_len, native=native)

    def measured() -> Phases:
        rows = [batch.add(_ids(adapter), state, Sampler(SamplerConfig())) for _ in range(size)]
        batch.step(rows)
        began = now()
        for _ in range(tokens):
            batch.step(rows)
        took = now() - began
        for row in rows:
            batch.remove(row)
        return {"step": took / tokens}

    return measured


def _theirs(
    peer: Any, adapter: RxtAdapter, size: int, tokens: int, now: Callable[[], float]
) -> Variant:
    from transformers import DynamicCache

    @torch.inference_mode()
    def measured() -> Phases:
        cache = DynamicCache(config=peer.config)
        ids = torch.tensor([_ids(adapter)] * size)
        for _ in range(2):
            ids = peer(ids, cache=cache, logits_to_keep=1).logits.argmax(-1)
        began = now()
        for _ in range(tokens):
            ids = peer(ids, cache=cache).logits.argmax(-1)
            ids.tolist()
        return {"step": (now() - began) / tokens}

    return measured


def _peer(model: ReactiveTransformer) -> Any:
    """A Llama that reads as many weights for a token, random ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = model.config

    def build(width: int) -> Any:
        heads = config.attention
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.embed_dim,
                intermediate_size=width,
                num_hidden_layers=config.num_layers,
                num_attention_heads=heads.num_query_heads,
                num_key_value_heads=heads.num_kv_heads,
                head_dim=config.head_dim,
                max_position_embeddings=config.max_seq_len,
                tie_word_embeddings=True,
            )
        )

    # In place of memory reads it has a wider feed-forward.
    less = decoder_weights(model) - sum(w.numel() for w in build(config.ff_dim).parameters())
    wider = round(less / (3 * config.embed_dim * config.num_layers))
    return build(config.ff_dim + wider).eval().requires_grad_(False)
