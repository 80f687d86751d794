"""What the engine is measured with on a GPU: "mini", its queries, its memories."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import torch

from rxtmodel import ReactiveTransformer, RxTAlpha, Sampler, SamplerConfig
from rxtmodel.engine.memory import MemoryVersion

from . import llama

if TYPE_CHECKING:
    from rxtmodel.engine.device import DeviceBatch, DeviceRow

QUERY, ANSWER, LENGTH = 128, 128, 512
SAMPLING = SamplerConfig(temperature=0.8)


def mini() -> ReactiveTransformer:
    """The yardstick."""
    config = RxTAlpha(
        vocab_size=llama.VOCAB, embed_dim=512, num_layers=12, num_heads=16, query_heads=8,
        kv_heads=4, ff_dim=1536, encoder_ff_dim=1536, num_slots=512, max_seq_len=LENGTH,
        variant="self-interlayer", experts=None,
    )  # fmt: skip
    memory = dataclasses.replace(config.memory, gate="elementwise")
    return ReactiveTransformer(dataclasses.replace(config, memory=memory))


def memories(model: ReactiveTransformer, count: int) -> list[MemoryVersion]:
    """Random ones."""
    shape = model.config.memory_shape
    return [MemoryVersion(torch.randn(shape, device="cuda")) for _ in range(count)]


def query(seed: int = 0) -> list[int]:
    """Of ``QUERY`` tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(11, llama.VOCAB, (QUERY,), generator=generator).tolist()


def started(batch: DeviceBatch, versions: list[MemoryVersion]) -> list[DeviceRow]:
    """An answer for each memory."""
    queries = [(query(i), v, Sampler(SAMPLING, i)) for i, v in enumerate(versions)]
    return batch.add_all(queries)


def queries(count: int) -> torch.Tensor:
    """As many, [B, T]."""
    return torch.tensor([query(i) for i in range(count)], device="cuda")
