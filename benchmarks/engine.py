"""The engine on a GPU: a token, a step of many, a first token, a memory update, turn 1 and 1,000.

The model is "mini": 91 M parameters, 48 M in the decoder, 12 layers, 512 slots of memory in each,
random weights in bfloat16. Beside it a stateless decoder of ``transformers`` of 91 M parameters.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch

from rxtmodel import Sampler
from rxtmodel.engine.device import DeviceBatch
from rxtmodel.engine.update import Updater
from rxtmodel.layout import arrange

from . import engine_beside, engine_turns, llama
from .engine_floor import floor_ms, products_ms, update_floor_ms
from .engine_model import (
    ANSWER,
    LENGTH,
    QUERY,
    SAMPLING,
    memories,
    mini,
    queries,
    query,
    started,
)
from .measure import NeedsGpu
from .report import Check, Report, Table

if TYPE_CHECKING:
    from rxtmodel import ReactiveTransformer
    from rxtmodel.engine.memory import MemoryVersion

    from .measure import Settings

BATCHES = (1, 16, 64, 256)
HISTORIES = (256, 768, 1_792, 3_840, 7_936, 16_128, 65_280)


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    if not torch.cuda.is_available():
        raise NeedsGpu("the case engine needs a CUDA device")
    torch.manual_seed(0)
    torch.backends.cuda.enable_cudnn_sdp(False)  # prepares anew for every length
    model = arrange(mini().to("cuda", torch.bfloat16).eval().requires_grad_(False))
    model.use_backend("triton")
    report = Report("engine", "steps, first tokens and memory updates on a GPU")
    batches, histories = BATCHES, HISTORIES
    if settings.quick:
        batches, histories = (1, 2), (64,)
    peer = llama.build("cuda")
    report.tables = [
        _decode(report, model, peer, batches, settings.quick),
        _first(report, model, settings.quick),
        _update(report, model, settings.quick),
        engine_turns.turns(report, model, 20 if settings.quick else 1_000),
        engine_turns.histories(model, peer, histories),
        engine_beside.table(model, 4 if settings.quick else 256),
    ]
    report.notes = [
        f"{torch.cuda.get_device_name()}; temperature 0.8; a query of {QUERY} tokens, an answer "
        f"of {ANSWER}; times of the host, which waits for every token",
        "floor: weights that a step reads, every row's memory and 192 tokens of its cache, over "
        "the measured bandwidth of a copy; products: a step's matrix products alone, as a graph",
        "floor of an update: its products over the measured rate of a large one, or each memory "
        "read, written and projected over the bandwidth, whichever is longer",
        "transformers: a Llama of 91 M parameters, 768 wide, 12 layers, greedy; compiled: "
        "reduce-overhead with a static cache of 512 tokens",
        "cuDNN attention is off",
    ]
    return report


def _decode(
    report: Report, model: ReactiveTransformer, peer: object, batches: tuple[int, ...], quick: bool
) -> Table:
    table = Table(
        "A step: one token for every row (ms; medians)",
        ["rows", "ours", "plain graph", "floor", "over floor", "products", "tokens/s",
         "transformers", "compiled"],
    )  # fmt: skip
    for count in batches:
        ours = _steps(DeviceBatch(model, count, LENGTH), model, count)
        plain = _steps(DeviceBatch(model, count, LENGTH, fused=False), model, count)
        floor, products = floor_ms(model, count, 192), products_ms(model, count)
        eager = llama.step_ms(llama.Session(peer), queries(count), 16)[1]
        static = None
        if not quick:
            compiled = llama.Session(peer, static=LENGTH)
            static = llama.step_ms(compiled, queries(count), 64, warm=8)[1]
        table.add(
            count, ours, plain, floor, ours / floor, products, count / ours * 1e3, eager, static
        )
        limit = {1: 0.40, 16: 0.45}.get(count)
        if limit is not None:
            report.checks.append(Check(f"a step of {count}", ours, limit, unit="ms"))
        if count == 256:
            check = Check("a step of 256 over its floor", ours / floor, 2.0, unit="x")
            report.checks.append(check)
        torch.cuda.empty_cache()
    return table


def _steps(batch: DeviceBatch, model: ReactiveTransformer, count: int) -> float:
    """Median milliseconds of a step between tokens 16 and 128 of answers."""
    rows = started(batch, memories(model, count))
    times = []
    for index in range(ANSWER):
        began = time.perf_counter()
        batch.step(rows)
        if index >= 16:
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _first(report: Report, model: ReactiveTransformer, quick: bool) -> Table:
    table = Table(f"First token of a query of {QUERY} tokens (ms; medians of 20)", ["memory", "ms"])
    batch = DeviceBatch(model, 4, LENGTH)
    batch.warm_up(rows=[1], queries=[QUERY])
    known = memories(model, 1)[0]
    for name, fresh in (("projected before", False), ("not projected yet", True)):
        times = []
        for index in range(23):
            version = memories(model, 1)[0] if fresh else known
            torch.cuda.synchronize()
            began = time.perf_counter()
            row = batch.add(query(index), version, Sampler(SAMPLING, index))
            batch.step([row])
            times.append(time.perf_counter() - began)
            batch.remove(row)
        table.add(name, statistics.median(times[3:]) * 1e3)
        check = Check(f"first token, memory {name}", table.rows[-1][1], 3.0, unit="ms")
        report.checks.append(check)
    del batch
    if not quick:
        table.add("16 queries at once, all projected", _first_of_many(model, 16))
    return table


def _first_of_many(model: ReactiveTransformer, count: int) -> float:
    """Median milliseconds until each of as many queries, given together, has its first token."""
    batch, known, times = DeviceBatch(model, count, LENGTH), memories(model, count), []
    batch.warm_up(rows=[count], queries=[QUERY])
    for _ in range(23):
        torch.cuda.synchronize()
        began = time.perf_counter()
        rows = started(batch, known)
        batch.step(rows)
        times.append(time.perf_counter() - began)
        for row in rows:
            batch.remove(row)
    return statistics.median(times[3:]) * 1e3


def _update(report: Report, model: ReactiveTransformer, quick: bool) -> Table:
    tokens = QUERY + ANSWER
    table = Table(
        f"A memory update, {tokens} tokens each (ms; medians of 12)",
        ["at once", "ours", "modules", "floor", "over floor"],
    )
    for count in (1, 16, 64)[: 1 if quick else 3]:
        cells = []
        for fused in (True, False):
            batch = DeviceBatch(model, 2, LENGTH)
            updater = Updater(model, batch.pool, batch.graphs, fused=fused)
            cells.append(_updates(updater, memories(model, count)))
            torch.cuda.empty_cache()
        floor = update_floor_ms(model, count, tokens)
        table.add(count, *cells, floor, cells[0] / floor)
        if limit := {1: 2.0, 64: 8.0}.get(count):
            report.checks.append(Check(f"an update of {count}", cells[0], limit, unit="ms"))
    return table


def _updates(updater: Updater, versions: list[MemoryVersion]) -> float:
    ids = [query(i) + query(i + 1) for i in range(len(versions))]
    times = []
    for _ in range(15):
        torch.cuda.synchronize()
        began = time.perf_counter()
        updater.attend(versions, updater.encode(ids))
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[3:]) * 1e3
