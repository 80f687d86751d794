"""Many users at once: conversations that go on and on through the runtime, beside the engine alone.

On a GPU 64 and 256 of them with "mini" (random weights), on a CPU 16 with the model that was
chosen. A conversation asks again as soon as its memory has taken in what was said.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import statistics
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import torch

from adapters.rxt_adapter import RxtAdapter
from adapters.tokenizer import Tokenizer
from rxstream import Runtime, Sampling
from rxtmodel import SamplerConfig
from rxtmodel.engine import open_engine
from rxtmodel.layout import arrange

from . import llama
from .engine_load import Load, Shape, shape_of
from .engine_model import mini
from .loop import endless
from .report import Check, Report, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rxstream import Conversation, Event, Interaction

    from .measure import Settings

TARGET = 0.8
"""Of the tokens a second that the engine alone gives."""


class Place(NamedTuple):
    """Where it is measured, and for how long."""

    port: RxtAdapter
    count: int
    seconds: float
    temperature: float
    shape: Shape
    words: Sequence[int]
    """Ids that are whole texts."""


def run(settings: Settings) -> Report:
    """Measure; see the module."""
    on_gpu = torch.cuda.is_available() and not settings.quick
    counts, seconds = (
        ((3,), 0.3) if settings.quick else ((64, 256), 4.0) if on_gpu else ((16,), 6.0)
    )
    report = Report("users", "many conversations at once, without end")
    table = Table(
        "Conversations: a fifth of the model's tokens asked, a sixteenth to a quarter answered, "
        "remembered (ms)",
        ["by", "conversations", "tokens/s", "turns/s", "first token", "95 %", "a gap", "95 %",
         "99 %", "remembered", "95 %"],
    )  # fmt: skip
    for count in counts:
        port = _mini(count) if on_gpu else _chosen(settings, count)
        shape = shape_of(port.model.config.max_seq_len)
        place = Place(port, count, seconds, 0.8 if on_gpu else 0.0, shape, _words(port.tokenizer))
        gc.collect()
        gc.freeze()  # as a program that serves does
        try:
            alone = _alone(place, table)
            for reader in ("subscribe", "async for"):
                rate = _through(reader, place, table)
                label = f"tokens a second of the engine alone, {count} conversations, {reader}"
                report.checks.append(Check(label, rate / alone, TARGET, at_least=True))
        finally:
            gc.unfreeze()
        del port, place
    report.tables = [table]
    report.notes = [
        f"{torch.cuda.get_device_name()}: mini, random weights, bfloat16, temperature 0.8"
        if on_gpu
        else "CPU: no answer ends by itself; greedy",
        "engine: queries, steps and updates by hand, without text, events, logs or users",
        "subscribe: a function for each answer; async for: a task for each, all on one event loop. "
        "Both are in the process of the model, as is all that the runtime does",
        "first token: from the query; remembered: from the last token",
    ]
    return report


def _mini(count: int) -> RxtAdapter:
    model = arrange(mini().to("cuda", torch.bfloat16).eval().requires_grad_(False))
    draw, words = random.Random(0), []
    for _ in range(20_000):
        syllables = [draw.choice("bdfklmnprst") + draw.choice("aeiou") for _ in range(4)]
        words.append("".join(syllables)[: draw.randint(3, 8)])
    tokenizer = Tokenizer.train([" ".join(words)], vocab_size=llama.VOCAB)
    return RxtAdapter(model, tokenizer, max_batch=count, fingerprint="random")


def _chosen(settings: Settings, count: int) -> RxtAdapter:
    given = endless(settings.adapter)
    return RxtAdapter(given.model, given.tokenizer, max_batch=count, fingerprint="endless")


def _words(tokenizer: Tokenizer) -> list[int]:
    texts = {token: tokenizer.decode([token]) for token in range(tokenizer.vocab_size)}
    return [token for token, text in texts.items() if text.strip("\ufffd")]


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


def _through(reader: str, place: Place, table: Table) -> float:
    place.port.warm_up()
    count, seconds = place.count, place.seconds
    with Runtime(place.port, max_queued=count, max_queued_per_tenant=count) as runtime:
        began = time.perf_counter() + seconds / 4
        ends = began + seconds
        chats = [runtime.memory(f"m{number}").conversation() for number in range(count)]
        users = [User(chat, place, ends, number) for number, chat in enumerate(chats)]
        if reader == "subscribe":
            for user in users:
                user.subscribe()
            for user in users:
                user.over.wait()
        else:
            asyncio.run(_iterate(users))
    for user in users:
        if user.failed is not None:
            raise user.failed
    turns = [turn for user in users for turn in user.turns]
    firsts, gaps, known = [], [], []
    for turn in turns:
        times = turn.tokens
        gaps += [b - a for a, b in itertools.pairwise(times) if began <= b < ends]
        firsts += [at - turn.asked for at in times[:1] if began <= at < ends]
        known += [turn.known - at for at in times[-1:] if began <= turn.known < ends]
    rate = (len(gaps) + len(firsts)) / seconds
    table.add(
        reader, count, rate, len(known) / seconds, *_ms(firsts, 50, 95), *_ms(gaps, 50, 95, 99),
        *_ms(known, 50, 95),
    )  # fmt: skip
    return rate


class Turn:
    """When its query was asked, its tokens came, its memory was updated."""

    __slots__ = ("asked", "known", "tokens")

    def __init__(self) -> None:
        self.asked, self.known = time.perf_counter(), 0.0
        self.tokens: list[float] = []

    def note(self, event: Event) -> None:
        if event.kind == "token":
            self.tokens.append(time.perf_counter())
        elif event.kind == "memory_updated":
            self.known = time.perf_counter()


class User:
    """Asks until ``ends``, and reads."""

    def __init__(self, chat: Conversation, place: Place, ends: float, number: int) -> None:
        self.chat, self.place, self.ends = chat, place, ends
        self._random, self.turns = random.Random(number), list[Turn]()
        self.over, self.failed = threading.Event(), None

    def _ask(self) -> tuple[Turn, Interaction]:
        shape, draw = self.place.shape, self._random
        words = draw.choices(self.place.words, k=shape.asked * 9 // 10)
        text = self.place.port.tokenizer.decode(words)
        sampling = Sampling(
            temperature=self.place.temperature, max_tokens=draw.randint(shape.least, shape.most),
            seed=draw.getrandbits(32),
        )  # fmt: skip
        turn = Turn()
        self.turns.append(turn)
        return turn, self.chat.ask(text, sampling=sampling)

    def subscribe(self) -> None:
        """Ask, and again when the stream of events has ended."""
        if time.perf_counter() >= self.ends:
            self.over.set()
            return
        try:
            turn, asked = self._ask()
            asked.subscribe(turn.note, self._fail, self.subscribe)
        except Exception as error:  # on a lane, which would go on without us
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failed = error
        self.over.set()

    async def iterate(self) -> None:
        """The same with ``async for``."""
        while time.perf_counter() < self.ends:
            turn, asked = self._ask()
            async for event in asked:
                turn.note(event)


async def _iterate(users: Iterable[User]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for user in users:
            tasks.create_task(user.iterate())


def _ms(seconds: list[float], *shares: int) -> list[float]:
    """Percentiles in milliseconds; of very few, as ``--quick`` may give, nothing to go by."""
    found = statistics.quantiles([1e3 * x for x in seconds or [0.0]] * 2, n=100)
    return [found[share - 1] for share in shares]
