"""Turn 1 and turn 1,000 on a GPU, and answers after a history beside those that read it again."""

from __future__ import annotations

import functools
import statistics
import time
from typing import TYPE_CHECKING

import torch

from rxtmodel import Sampler
from rxtmodel.engine.device import DeviceBatch
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.engine.update import Updater

from . import llama
from .engine_model import ANSWER, LENGTH, QUERY, SAMPLING, memories, queries, query
from .report import Check, Report, Table

if TYPE_CHECKING:
    from rxtmodel import ReactiveTransformer


def turns(report: Report, model: ReactiveTransformer, last: int) -> Table:
    """Whole turns from the first memory and from the one that ``last`` updates left, in turn."""
    batch = DeviceBatch(model, 2, LENGTH)
    updater = Updater(model, batch.pool, batch.graphs)
    first = version = MemoryVersion(model.initial_memory()[:, 0].contiguous())
    for turn in range(last - 1):
        (version,) = updater.attend([version], updater.encode([query(turn) + query(turn + 7)]))
    times: dict[int, list[float]] = {1: [], last: []}
    for index in range(24):
        for turn, memory in ((1, first), (last, version)):
            times[turn].append(_turn(batch, updater, memory, index))
    table = Table("A whole turn: query, answer, memory update (ms; medians of 20)", ["turn", "ms"])
    for turn, values in times.items():
        table.add(turn, statistics.median(values[4:]) * 1e3)
    ratio = table.rows[1][1] / table.rows[0][1]
    report.checks.append(Check(f"turn {last:,} and turn 1 apart", abs(ratio - 1), 0.02))
    return table


def _turn(batch: DeviceBatch, updater: Updater, memory: MemoryVersion, seed: int) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    row = batch.add(query(seed), memory, Sampler(SAMPLING, seed))
    answer = [batch.step([row])[0] for _ in range(ANSWER)]
    batch.remove(row)
    updater.attend([memory], updater.encode([query(seed) + answer]))
    torch.cuda.synchronize()
    return time.perf_counter() - began


def histories(model: ReactiveTransformer, peer: object, lengths: tuple[int, ...]) -> Table:
    """Beside a turn of ours, which does not know how long its history is."""
    table = Table(
        f"A query of {QUERY} tokens after a history (ms)",
        ["history", "ours, first", "a token", "read again, first", "kept cache, first", "a token",
         "cache MiB"],
    )  # fmt: skip
    batch = DeviceBatch(model, 2, LENGTH)
    ours = functools.partial(_ours, batch, memories(model, 1)[0])
    config = peer.config  # type: ignore[attr-defined]
    kept_bytes = 4 * config.num_hidden_layers * config.num_key_value_heads * 64
    for history in lengths:
        long = torch.randint(11, llama.VOCAB, (1, history), device="cuda")
        whole = torch.cat((long, queries(1)), dim=1)
        again = min(llama.step_ms(llama.Session(peer), whole, 1)[0] for _ in range(3))
        kept = llama.Session(peer)
        kept.read(long)
        llama.step_ms(kept, queries(1), 1)
        kept = llama.Session(peer)
        kept.read(long)
        first, token = llama.step_ms(kept, queries(1), 16)
        table.add(history, *ours(), again, first, token, kept_bytes * history / 2**20)
        torch.cuda.empty_cache()
    return table


def _ours(batch: DeviceBatch, memory: MemoryVersion) -> tuple[float, float]:
    firsts, tokens = [], []
    for seed in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        row = batch.add(query(seed), memory, Sampler(SAMPLING, seed))
        batch.step([row])
        middle = time.perf_counter()
        for _ in range(32):
            batch.step([row])
        tokens.append((time.perf_counter() - middle) / 32)
        firsts.append(middle - began)
        batch.remove(row)
    return statistics.median(firsts) * 1e3, statistics.median(tokens) * 1e3
