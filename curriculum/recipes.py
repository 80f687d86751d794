"""A run is a function: it returns the model's configuration and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from rxtmodel import AttentionConfig, MemoryConfig, RxtConfig

from .dialogue_data import BatchShape
from .dialogues import Mix
from .trainer import Phase, TrainConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A model and its training."""

    model: RxtConfig
    train: TrainConfig


def recall(vocab_size: int) -> Recipe:
    """The bundled model: 7 M parameters that remember, about eleven minutes of two GPUs."""
    model = RxtConfig(
        vocab_size=vocab_size,
        embed_dim=256,
        num_layers=4,
        head_dim=32,
        attention=AttentionConfig(num_query_heads=4, num_kv_heads=4),
        memory=MemoryConfig(variant="delta", num_slots=64, num_heads=8),
        ff_dim=640,
    )
    short = Mix(tell=0.5, update=0.1, ask=0.2, unknown=0.05, chat=0.15, max_facts=4)
    medium = Mix(max_facts=12)
    long = Mix(max_facts=20)
    phases = (
        Phase(steps=200, mix=short, shape=BatchShape(dialogues=1024, turns=4, states=1, probes=4)),
        Phase(
            steps=2_600, mix=medium, shape=BatchShape(dialogues=256, turns=16, states=4, probes=4)
        ),
        Phase(steps=1_800, mix=long, shape=BatchShape(dialogues=128, turns=32, states=8, probes=4)),
    )
    return Recipe(model=model, train=TrainConfig(phases=phases, lr=3e-3, micro_batches=2))


def recall_small(vocab_size: int) -> Recipe:
    """The same on a CPU: a narrower model, shorter dialogues, about half an hour of two cores."""
    model = RxtConfig(
        vocab_size=vocab_size,
        embed_dim=128,
        num_layers=2,
        head_dim=32,
        attention=AttentionConfig(num_query_heads=4, num_kv_heads=4),
        memory=MemoryConfig(variant="delta", num_slots=32, num_heads=4),
        ff_dim=256,
    )
    phases = (
        Phase(
            steps=500,
            mix=Mix(max_facts=3),
            shape=BatchShape(dialogues=48, turns=4, states=1, probes=4),
        ),
        Phase(
            steps=2_500,
            mix=Mix(max_facts=6),
            shape=BatchShape(dialogues=24, turns=8, states=2, probes=4),
        ),
    )
    return Recipe(model=model, train=TrainConfig(phases=phases, lr=3e-3))


RECIPES = {"recall": recall, "recall-small": recall_small}
