"""Many users at once: conversations that go on and on through the runtime, beside the engine alone.

On a GPU 64 and 256 of them with "mini" (random weights), on a CPU 16 with the model that was
chosen. A conversation asks again as soon as its memory has taken in what was said.
"""

from __future__ import annotations

import gc
import statistics
from typing import TYPE_CHECKING

import torch

from rxtmodel import SamplerConfig
from rxtmodel.engine import open_engine

from . import mps
from .engine_load import Load
from .report import Check, Report, Table
from .users_load import Wanted, through
from .users_processes import divided

if TYPE_CHECKING:
    from .measure import Settings
    from .users_load import Place, Times

TARGET = 0.8
"""Of the tokens a second that the engine alone gives."""


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    on_gpu = torch.cuda.is_available() and not settings.quick
    counts, seconds, processes = (
        ((4,), 0.3, 2) if settings.quick else ((64, 256), 4.0, 4) if on_gpu else ((16,), 6.0, 2)
    )
    report = Report("users", "many conversations at once, without end")
    table = Table(
        "Conversations: a fifth of the model's tokens asked, a sixteenth to a quarter answered, "
        "remembered (ms)",
        ["by", "conversations", "tokens/s", "turns/s", "first token", "95 %", "a gap", "95 %",
         "99 %", "remembered", "95 %"],
    )  # fmt: skip
    without = "a step is never one kernel there"
    for count in counts:
        wanted = Wanted(None if on_gpu else settings.model, count, seconds)
        place = wanted.place()
        gc.collect()
        gc.freeze()  # as a program that serves does
        try:
            alone = _alone(place, table)
            found = {reader: through(reader, place) for reader in ("subscribe", "async for")}
        finally:
            gc.unfreeze()
        del place
        found[f"{processes} processes"] = divided(wanted, processes)
        if on_gpu:
            try:
                with mps.shared():
                    found[f"{processes} processes, MPS"] = divided(wanted, processes)
            except RuntimeError as error:
                without = f"not measured: {error}"
        for name, times in found.items():
            _add(table, name, count, times)
            label = f"tokens a second of the engine alone, {count} conversations, {name}"
            report.checks.append(Check(label, times.rate / alone, TARGET, at_least=True))
    report.tables = [table]
    report.notes = [
        f"{torch.cuda.get_device_name()}: mini, random weights, bfloat16, temperature 0.8"
        if on_gpu
        else "CPU: no answer ends by itself; greedy",
        "engine: queries, steps and updates by hand, without text, events, logs or users",
        "subscribe: a function for each answer; async for: a task for each, all on one event loop. "
        "Both are in the process of the model, as is all that the runtime does",
        "processes: a share of the conversations, a runtime and the model in each, on one device; "
        "with subscribe",
        *(
            [
                "MPS: their kernels run beside each other, by NVIDIA's Multi-Process Service; "
                + without
            ]
            if on_gpu
            else []
        ),
        "first token: from the query; remembered: from the last token",
    ]
    return report


def _alone(place: Place, table: Table) -> float:
    port, sampling = place.port, SamplerConfig(temperature=place.temperature)
    engine = open_engine(port.model, place.count, port.model.config.max_seq_len)
    engine.warm_up()
    memories = [port.initial_memory()] * place.count
    load = Load(engine, memories, port.tokenizer.vocab_size, place.shape, sampling)
    load.run(place.seconds / 4)
    took = load.run(place.seconds)
    table.add(
        "engine", place.count, load.tokens / took, load.turns / took, None, None,
        *_ms(load.steps, 50, 95, 99), *_ms(load.waits, 50, 95),
    )  # fmt: skip
    return load.tokens / took


def _add(table: Table, name: str, count: int, times: Times) -> None:
    table.add(
        name, count, times.rate, len(times.known) / times.seconds, *_ms(times.firsts, 50, 95),
        *_ms(times.gaps, 50, 95, 99), *_ms(times.known, 50, 95),
    )  # fmt: skip


def _ms(seconds: list[float], *shares: int) -> list[float]:
    """Percentiles in milliseconds; of very few, as ``--quick`` may give, nothing to go by."""
    found = statistics.quantiles([1e3 * x for x in seconds or [0.0]] * 2, n=100)
    return [found[share - 1] for share in shares]
