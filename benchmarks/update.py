"""What a memory update costs: encode an interaction and attend to it, one and sixteen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from rxstream.model import CompletedInteraction
from rxtmodel.generate import pad
from rxtmodel.template import interaction_ids

from .floor import products_of
from .measure import Settings, cycle, interleave, timed
from .report import Check, Report, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.model import RxtAdapter
    from rxtmodel.engine import MemoryVersion

BATCH = 16
QUERY = "my brother lives in a small town near the sea and his dog is called Biscuit"
ANSWER = "Okay, your brother lives in a small town near the sea."


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    adapter, now = settings.adapter, settings.now
    lengths = (8,) if settings.quick else (16, 64, 256)
    report = Report("update", "one memory update, and sixteen at once")
    table = Table(
        f"Encode and attend (ms for each interaction; x: over one alone; {BATCH} at a time)",
        ["answer tokens", "encode", "attend", "one", "over floor", "16", "x", "one batch", "x"],
    )
    worst = 0.0
    for length in lengths:
        done = _interaction(adapter, length)
        memory = adapter.initial_memory()
        (encoded,) = adapter.encode([done])
        one = _update(adapter, memory, done, 1)
        sixteen = _update(adapter, memory, done, BATCH)
        together = _together(adapter, memory, done, BATCH)
        products = products_of(_together(adapter, memory, done, 1))
        actions: dict[str, Callable[[], object]] = {
            "encode": lambda done=done: adapter.encode([done]),  # type: ignore[misc]
            "attend": lambda m=memory, e=encoded: adapter.attend([m], [e]),  # type: ignore[misc]
            "one": one,
            "16": sixteen,
            "together": together,
            "floor": products,
        }
        variants = {
            name: lambda action=action: timed(now, action)  # type: ignore[misc]
            for name, action in actions.items()
        }
        found = interleave(variants, settings.rounds, warmup=3)
        many = found["16"].ratio("seconds", found["one"]) / BATCH
        batched = found["together"].ratio("seconds", found["one"]) / BATCH
        worst = max(worst, many)
        table.add(
            length,
            *(found[name].median("seconds") * 1e3 for name in ("encode", "attend", "one")),
            found["one"].ratio("seconds", found["floor"]),
            found["16"].median("seconds") * 1e3 / BATCH,
            many,
            found["together"].median("seconds") * 1e3 / BATCH,
            batched,
        )
    report.tables = [table]
    report.checks = [Check("an update among sixteen, over one alone", worst, 1.05)]
    report.notes = [
        "one, 16: through the model's port; an update is computed on its own even among others, so "
        "that a replay gives bitwise the same memory",
        "one batch: the same sixteen as one batch of the model, which a port could use where a "
        "bitwise equal replay is not needed",
        "over floor: over the matrix products of the same update alone, by PyTorch",
    ]
    return report


def _interaction(adapter: RxtAdapter, length: int) -> CompletedInteraction:
    ids = cycle(adapter.tokenizer.encode(ANSWER), length)
    # Text and ids must agree: what is encoded is as much of the ids as the text says.
    return CompletedInteraction(query=QUERY, answer=adapter.tokenizer.decode(ids), token_ids=ids)


def _update(
    adapter: RxtAdapter, memory: MemoryVersion, done: CompletedInteraction, count: int
) -> Callable[[], object]:
    return lambda: adapter.attend([memory] * count, adapter.encode([done] * count))


def _together(
    adapter: RxtAdapter, memory: MemoryVersion, done: CompletedInteraction, count: int
) -> Callable[[], object]:
    model = adapter.model
    memories = memory.tensor[:, None].expand(-1, count, -1, -1)
    encode = adapter.tokenizer.encode

    @torch.inference_mode()
    def update() -> None:
        ids = [interaction_ids(encode(done.query), done.token_ids) for _ in range(count)]
        model.attend(memories, model.encode(pad(ids)))

    return update
