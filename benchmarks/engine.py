"""The engine on a GPU: a token, a step of many, a first token, a memory update, turn 1 and 1,000.

The model is "mini": 91 M parameters, 48 M in the decoder, 12 layers, 512 slots of memory in each,
random weights in bfloat16. Beside it a stateless decoder of ``transformers`` of 91 M parameters.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from typing import TYPE_CHECKING

import torch

from rxtmodel import ReactiveTransformer, RxTAlpha, Sampler, SamplerConfig
from rxtmodel.engine.device import DeviceBatch
from rxtmodel.engine.memory import MemoryVersion
from rxtmodel.engine.update import Updater
from rxtmodel.layout import arrange

from . import llama
from .engine_floor import floor_ms, products_ms, update_floor_ms
from .measure import NeedsGpu
from .report import Check, Report, Table

if TYPE_CHECKING:
    from rxtmodel.engine.device import DeviceRow

    from .measure import Settings

QUERY, ANSWER, LENGTH = 128, 128, 512
BATCHES = (1, 16, 64, 256)
HISTORIES = (256, 768, 1_792, 3_840, 7_936, 16_128, 65_280)
SAMPLING = SamplerConfig(temperature=0.8)


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
        _first(report, model),
        _update(report, model, settings.quick),
        _turns(report, model, 20 if settings.quick else 1_000),
        _histories(model, peer, histories),
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


def _query(seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(11, llama.VOCAB, (QUERY,), generator=generator).tolist()


def _started(batch: DeviceBatch, versions: list[MemoryVersion]) -> list[DeviceRow]:
    queries = [(_query(i), v, Sampler(SAMPLING, i)) for i, v in enumerate(versions)]
    return batch.add_all(queries)


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
        eager = llama.step_ms(llama.Session(peer), _ids(count), 16)[1]
        static = None
        if count in (1, 16) and not quick:
            static = llama.step_ms(llama.Session(peer, static=LENGTH), _ids(count), 64, warm=8)[1]
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


def _ids(count: int) -> torch.Tensor:
    return torch.tensor([_query(i) for i in range(count)], device="cuda")


def _steps(batch: DeviceBatch, model: ReactiveTransformer, count: int) -> float:
    """Median milliseconds of a step between tokens 16 and 128 of answers."""
    rows = _started(batch, memories(model, count))
    times = []
    for index in range(ANSWER):
        began = time.perf_counter()
        batch.step(rows)
        if index >= 16:
            times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e3


def _first(report: Report, model: ReactiveTransformer) -> Table:
    table = Table(f"First token of a query of {QUERY} tokens (ms; medians of 20)", ["memory", "ms"])
    batch = DeviceBatch(model, 4, LENGTH)
    batch.warm_up(rows=[1], queries=[QUERY - 1])
    known = memories(model, 1)[0]
    for name, fresh in (("projected before", False), ("not projected yet", True)):
        times = []
        for index in range(23):
            version = memories(model, 1)[0] if fresh else known
            torch.cuda.synchronize()
            began = time.perf_counter()
            row = batch.add(_query(index), version, Sampler(SAMPLING, index))
            batch.step([row])
            times.append(time.perf_counter() - began)
            batch.remove(row)
        table.add(name, statistics.median(times[3:]) * 1e3)
        check = Check(f"first token, memory {name}", table.rows[-1][1], 3.0, unit="ms")
        report.checks.append(check)
    return table


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
    ids = [_query(i) + _query(i + 1) for i in range(len(versions))]
    times = []
    for _ in range(15):
        torch.cuda.synchronize()
        began = time.perf_counter()
        updater.attend(versions, updater.encode(ids))
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[3:]) * 1e3


def _turns(report: Report, model: ReactiveTransformer, last: int) -> Table:
    """Whole turns from the first memory and from the one that ``last`` updates left, in turn."""
    batch = DeviceBatch(model, 2, LENGTH)
    updater = Updater(model, batch.pool, batch.graphs)
    first = version = MemoryVersion(model.initial_memory()[:, 0].contiguous())
    for turn in range(last - 1):
        (version,) = updater.attend([version], updater.encode([_query(turn) + _query(turn + 7)]))
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
    row = batch.add(_query(seed), memory, Sampler(SAMPLING, seed))
    answer = [batch.step([row])[0] for _ in range(ANSWER)]
    batch.remove(row)
    updater.attend([memory], updater.encode([_query(seed) + answer]))
    torch.cuda.synchronize()
    return time.perf_counter() - began


def _histories(model: ReactiveTransformer, peer: object, histories: tuple[int, ...]) -> Table:
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
    for history in histories:
        long = torch.randint(11, llama.VOCAB, (1, history), device="cuda")
        whole = torch.cat((long, _ids(1)), dim=1)
        again = min(llama.step_ms(llama.Session(peer), whole, 1)[0] for _ in range(3))
        kept = llama.Session(peer)
        kept.read(long)
        llama.step_ms(kept, _ids(1), 1)
        kept = llama.Session(peer)
        kept.read(long)
        first, token = llama.step_ms(kept, _ids(1), 16)
        table.add(history, *ours(), again, first, token, kept_bytes * history / 2**20)
        torch.cuda.empty_cache()
    return table


def _ours(batch: DeviceBatch, memory: MemoryVersion) -> tuple[float, float]:
    firsts, tokens = [], []
    for seed in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        row = batch.add(_query(seed), memory, Sampler(SAMPLING, seed))
        batch.step([row])
        middle = time.perf_counter()
        for _ in range(32):
            batch.step([row])
        tokens.append((time.perf_counter() - middle) / 32)
        firsts.append(middle - began)
        batch.remove(row)
    return statistics.median(firsts) * 1e3, statistics.median(tokens) * 1e3
