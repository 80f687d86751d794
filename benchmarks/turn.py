"""What a turn costs at turn 1, 10, 100 and 1,000 of one conversation.

The conversation is lived through: the memory before turn n is what n - 1 interactions left. All
turns have the same query and 16 answer tokens. Beside it, in the same rounds, a stateless decoder
of the same size at the history that the conversation has by then: once reading all of it again for
every turn, once with the keys and values of all of it kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from rxstream.model import CompletedInteraction, DecodeRequest, Sampling
from rxtmodel.cache import KVCache
from rxtmodel.engine import MemoryVersion
from rxtmodel.template import interaction_ids, query_ids

from .floor import products_of
from .loop import endless
from .measure import Samples, Settings, cycle, interleave, middle
from .report import Check, Report, Table
from .stateless import Stateless, decoder_weights

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.model import RxtAdapter

    from .measure import Phases

TURNS = (1, 10, 100, 1000)
ANSWER_TOKENS = 16
QUERY = "my brother lives in a small town near the sea and his dog is called Biscuit"
ANSWER = "Okay, your brother lives in a small town near the sea and his dog is called Biscuit."
REPEATS = 3
"""Times that our turn is run in a round, of which the middle one counts."""
LONGEST_REREAD = 8192
"""Tokens of history; above, reading it again takes minutes and is not measured."""
FLAT = 0.05


@dataclass(frozen=True, slots=True)
class Line:
    """The turn that is measured, always the same: a query and an answer of 16 tokens."""

    query: str
    answer_ids: tuple[int, ...]
    query_ids: list[int]
    tokens: int
    """Of the whole interaction: what a turn adds to a history."""

    @classmethod
    def of(cls, adapter: RxtAdapter) -> Line:
        query = adapter.tokenizer.encode(QUERY)
        answer = cycle(adapter.tokenizer.encode(ANSWER), ANSWER_TOKENS)
        whole = interaction_ids(query, answer)
        return cls(QUERY, answer, query_ids(query), len(whole))

    @property
    def completed(self) -> CompletedInteraction:
        """What is folded into memory. Not what was drawn: end tokens would make it shorter."""
        return CompletedInteraction(query=self.query, answer=ANSWER, token_ids=self.answer_ids)


def live(adapter: RxtAdapter, turns: tuple[int, ...]) -> dict[int, torch.Tensor]:
    """Hold a conversation; the memories before each of ``turns``.

    Answers in between are given, not decoded: what a turn leaves behind is the memory alone.
    """
    memory, kept = adapter.initial_memory(), {}
    for turn in range(1, max(turns) + 1):
        if turn in turns:
            kept[turn] = memory.tensor
        done = CompletedInteraction(
            query=f"note {turn} is that box {turn % 97} holds {turn % 13} keys", answer="Okay."
        )
        (memory,) = adapter.attend([memory], adapter.encode([done]))
    return kept


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    turns = (1, 2, 4) if settings.quick else TURNS
    adapter, line = endless(settings.adapter), Line.of(settings.adapter)
    history = {turn: (turn - 1) * line.tokens for turn in turns}
    stateless = Stateless(adapter.model.config, history[turns[-1]] + line.tokens + 1)
    now = settings.now
    variants: dict[str, Callable[[], Phases]] = {"floor": _floor(adapter, now)}
    for turn, memory in live(adapter, turns).items():
        variants[f"reactive {turn}"] = _reactive(adapter, memory, line, now)
        variants[f"kept {turn}"] = _stateless(stateless, line, now, kept=history[turn])
        if history[turn] <= LONGEST_REREAD:
            variants[f"reread {turn}"] = _stateless(stateless, line, now, again=history[turn])
    samples = interleave(variants, settings.rounds, seconds_each=15.0)
    return _report(settings, line, stateless, history, samples)


def _reactive(
    adapter: RxtAdapter, memory: torch.Tensor, line: Line, now: Callable[[], float]
) -> Callable[[], Phases]:
    sampling = Sampling(max_tokens=ANSWER_TOKENS)

    def once() -> Phases:
        fresh = MemoryVersion(
            memory
        )  # a new version: what is projected once for each is part of the turn
        began = now()
        request = DecodeRequest(query=line.query, memory=fresh, sampling=sampling)
        decodings = adapter.start([request])
        adapter.step(decodings)
        first = now()
        for _ in range(ANSWER_TOKENS - 1):
            adapter.step(decodings)
        last = now()
        adapter.finish(decodings[0])
        adapter.attend([fresh], adapter.encode([line.completed]))
        return _phases(began, first, last, now())

    # What ran before has emptied the CPU's caches to a varying degree: the first time counts least.
    return lambda: middle(once() for _ in range(REPEATS))


def _stateless(
    stateless: Stateless, line: Line, now: Callable[[], float], *, kept: int = 0, again: int = 0
) -> Callable[[], Phases]:
    read = [*cycle(line.query_ids, again), *line.query_ids]

    def measured() -> Phases:
        stateless.keep(kept)
        began = now()
        token = stateless.read(read)
        first = now()
        for _ in range(ANSWER_TOKENS - 1):
            token = stateless.read([token])
        last = now()
        return _phases(began, first, last, last)

    return measured


def _phases(began: float, first: float, last: float, end: float) -> Phases:
    return {
        "first": first - began,
        "token": (last - first) / (ANSWER_TOKENS - 1),
        "update": end - last,
        "turn": end - began,
    }


def _floor(adapter: RxtAdapter, now: Callable[[], float]) -> Callable[[], Phases]:
    """The matrix products of one decoded token."""
    model = adapter.model
    cache = KVCache(model.config, 1, 8)

    @torch.inference_mode()
    def step() -> None:
        cache.lengths = [4]
        cache.begin(0, 1, 1)
        model.decode_step(torch.tensor([[20]]), state, cache)

    with torch.inference_mode():
        state = model.project_memory(model.initial_memory())
    products = products_of(step)

    def measured() -> Phases:
        began = now()
        for _ in range(ANSWER_TOKENS):
            products()
        return {"token": (now() - began) / ANSWER_TOKENS}

    return measured


def _report(
    settings: Settings,
    line: Line,
    stateless: Stateless,
    history: dict[int, int],
    samples: dict[str, Samples],
) -> Report:
    report = Report("turn", "the cost of a turn does not depend on its number")
    one = samples["reactive 1"]
    lived = Table(
        "The conversation (ms; x: over turn 1, median over the rounds)",
        ["turn", "first token", "x", "per token", "x", "update", "x", "whole turn", "x", "spread"],
    )
    worst = {"first": 0.0, "turn": 0.0}
    for turn in history:
        found = samples[f"reactive {turn}"]
        cells: list[object] = [turn]
        for phase in ("first", "token", "update", "turn"):
            ratio = found.ratio(phase, one)
            cells += [found.median(phase) * 1e3, ratio]
            if phase in worst:
                worst[phase] = max(worst[phase], abs(ratio - 1))
        lived.add(*cells, f"{found.spread('turn'):.1%}")
    report.tables.append(lived)
    for kind, title in (
        ("kept", "Stateless, all keys and values kept (ms; x: over our turn, update included)"),
        ("reread", "Stateless, reading the history again (ms; x as above)"),
    ):
        report.tables.append(_stateless_table(title, kind, stateless, history, samples))
    names = {"first": "time to first token", "turn": "cost of a whole turn"}
    report.checks = [
        Check(f"{names[phase]} varies over the turns by at most", value, FLAT)
        for phase, value in worst.items()
    ]
    floor = samples["floor"].median("token")
    memory = settings.adapter.initial_memory().tensor
    report.notes = [
        f"a turn: {len(line.query_ids)} query tokens and {ANSWER_TOKENS} answer tokens, greedy; an "
        f"interaction is {line.tokens} tokens; the memory is {_mib(memory.nbytes):.2f} MiB",
        f"floor: the matrix products of one token by PyTorch {floor * 1e3:.3f} ms, a decoded token "
        f"is {one.median('token') / floor:.2f} x that",
        f"weights read for a token: {decoder_weights(settings.adapter.model):,} with memory reads, "
        f"{stateless.weights_read:,} stateless",
        f"histories above {LONGEST_REREAD:,} tokens are not read again: that takes minutes",
    ]
    return report


def _stateless_table(
    title: str,
    kind: str,
    stateless: Stateless,
    history: dict[int, int],
    samples: dict[str, Samples],
) -> Table:
    columns = ["turn", "history", "first token", "per token", "whole turn", "x", "cache MiB"]
    table = Table(title, columns)
    for turn, length in history.items():
        cache = _mib(length * stateless.cache_bytes_per_token)
        found = samples.get(f"{kind} {turn}")
        if found is None:
            table.add(turn, length, None, None, None, None, cache)
            continue
        cells = [found.median(phase) * 1e3 for phase in ("first", "token", "turn")]
        table.add(turn, length, *cells, found.ratio("turn", samples[f"reactive {turn}"]), cache)
    return table


def _mib(count: float) -> float:
    return count / 2**20
