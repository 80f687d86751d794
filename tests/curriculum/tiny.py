"""A word for a token, and models small enough to train in a second."""

from __future__ import annotations

import zlib
from typing import Any

import torch

from curriculum.batch import DialogueBatch
from curriculum.dialogue_data import BatchShape, DialogueBatches
from curriculum.dialogues import Mix
from rxtmodel import AttentionConfig, MemoryConfig, ReactiveTransformer, RxtConfig

VOCAB, FIRST = 64, 11
VARIANTS = ("simple", "self", "interlayer", "self-interlayer", "grouped-self-interlayer", "delta")
SHAPE = BatchShape(dialogues=3, turns=4, states=3, probes=2, width=40)


def pieces(text: str) -> list[str]:
    """The words of a text, each with the space before it."""
    first, *rest = text.split(" ")
    return [piece for piece in (first, *(" " + word for word in rest)) if piece]


def encode(text: str) -> list[int]:
    """A token for each word; many words share one."""
    return [FIRST + zlib.crc32(piece.encode()) % (VOCAB - FIRST) for piece in pieces(text)]


def tiny_model(variant: str = "delta", **memory: Any) -> ReactiveTransformer:
    torch.manual_seed(0)
    groups = 2 if variant == "grouped-self-interlayer" else 1  # of two layers each
    return ReactiveTransformer(
        RxtConfig(
            vocab_size=VOCAB,
            embed_dim=16,
            num_layers=2 * groups,
            head_dim=8,
            attention=AttentionConfig(num_query_heads=2, num_kv_heads=1),
            memory=MemoryConfig(
                variant=variant, num_slots=6, num_heads=2, num_groups=groups, **memory
            ),
            ff_dim=24,
            max_seq_len=64,
        )
    )


def data(shape: BatchShape = SHAPE, *, seed: int = 0, max_facts: int = 3) -> DialogueBatches:
    return DialogueBatches(encode, shape, Mix(max_facts=max_facts), seed)


def batch(index: int = 0, **settings: Any) -> DialogueBatch:
    return data(**settings)[index]
