"""Users who ask as soon as what was said is remembered, and note when everything came."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import torch

from adapters.model import load_model
from adapters.rxt_adapter import RxtAdapter
from adapters.tokenizer import Tokenizer
from rxstream import Runtime, Sampling
from rxtmodel.layout import arrange

from . import llama
from .engine_load import shape_of
from .engine_model import mini
from .loop import endless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rxstream import Conversation, Event, Interaction

    from .engine_load import Shape

_TEXTS = 4_096


class Place(NamedTuple):
    """Where it is measured, and for how long."""

    port: RxtAdapter
    count: int
    seconds: float
    temperature: float
    shape: Shape


class Wanted(NamedTuple):
    """What to measure, as a process can be told it."""

    model: str | None
    """As ``load_model`` takes it; None: "mini" with random weights on a GPU."""
    count: int
    seconds: float

    def place(self) -> Place:
        """With the model in it."""
        if self.model is None:
            port = _mini(self.count)
        else:
            given = endless(load_model(self.model))
            port = RxtAdapter(
                given.model, given.tokenizer, max_batch=self.count, fingerprint="endless"
            )
        shape = shape_of(port.model.config.max_seq_len)
        temperature = 0.8 if self.model is None else 0.0
        return Place(port, self.count, self.seconds, temperature, shape)


class Times(NamedTuple):
    """Of what happened in so many seconds; in seconds."""

    seconds: float
    firsts: list[float]
    """From a query to its first token."""
    gaps: list[float]
    """From a token to the next one."""
    known: list[float]
    """From the last token to the memory's update."""

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return (len(self.firsts) + len(self.gaps)) / self.seconds

    def joined(self, other: Times) -> Times:
        """With what happened in the same seconds elsewhere."""
        return Times(self.seconds, *(a + b for a, b in zip(self[1:], other[1:], strict=True)))


def through(reader: str, place: Place, begin: Callable[[], object] | None = None) -> Times:
    """Through a runtime, read by ``"subscribe"`` or ``"async for"``; ``begin`` is called when all
    is ready."""
    place.port.warm_up()
    count, seconds = place.count, place.seconds
    texts = _texts(place)
    with Runtime(place.port, max_queued=count, max_queued_per_tenant=count) as runtime:
        chats = [runtime.memory(f"m{number}").conversation() for number in range(count)]
        if begin is not None:
            begin()
        began = time.perf_counter() + seconds / 4
        ends = began + seconds
        users = [
            User(chat, place, texts[number::count], ends, number)
            for number, chat in enumerate(chats)
        ]
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
    found = Times(seconds, [], [], [])
    for turn in (turn for user in users for turn in user.turns):
        times = turn.tokens
        found.gaps.extend(b - a for a, b in itertools.pairwise(times) if began <= b < ends)
        found.firsts.extend(at - turn.asked for at in times[:1] if began <= at < ends)
        found.known.extend(turn.known - at for at in times[-1:] if began <= turn.known < ends)
    return found


class Turn:
    """When its query was asked, its tokens came, its memory was updated."""

    __slots__ = ("asked", "known", "tokens")

    def __init__(self) -> None:
        self.asked, self.known = time.perf_counter(), 0.0
        self.tokens: list[float] = []

    def note(self, event: Event) -> None:
        """Of its stream."""
        if event.kind == "token":
            self.tokens.append(time.perf_counter())
        elif event.kind == "memory_updated":
            self.known = time.perf_counter()


class User:
    """Asks until ``ends``, and reads."""

    def __init__(
        self, chat: Conversation, place: Place, texts: list[str], ends: float, number: int
    ) -> None:
        self.chat, self.place, self.ends = chat, place, ends
        self._random, self._texts = random.Random(number), itertools.cycle(texts)
        self.turns: list[Turn] = []
        self.over, self.failed = threading.Event(), None

    def _ask(self) -> tuple[Turn, Interaction]:
        shape, draw = self.place.shape, self._random
        sampling = Sampling(
            temperature=self.place.temperature, max_tokens=draw.randint(shape.least, shape.most),
            seed=draw.getrandbits(32),
        )  # fmt: skip
        turn = Turn()
        self.turns.append(turn)
        return turn, self.chat.ask(next(self._texts), sampling=sampling)

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


def _texts(place: Place) -> list[str]:
    """What users type: so many that hardly any is asked twice while it may be remembered."""
    draw, tokenizer = random.Random(place.count), place.port.tokenizer
    words, size = _words(tokenizer), place.shape.asked * 9 // 10
    count = -(-_TEXTS // place.count) * place.count
    return [tokenizer.decode(draw.choices(words, k=size)) for _ in range(count)]


def _words(tokenizer: Tokenizer) -> list[int]:
    """Ids that are whole texts."""
    texts = {token: tokenizer.decode([token]) for token in range(tokenizer.vocab_size)}
    return [token for token, text in texts.items() if text.strip("\ufffd")]


def _mini(count: int) -> RxtAdapter:
    model = arrange(mini().to("cuda", torch.bfloat16).eval().requires_grad_(False))
    draw, words = random.Random(0), []
    for _ in range(20_000):
        syllables = [draw.choice("bdfklmnprst") + draw.choice("aeiou") for _ in range(4)]
        words.append("".join(syllables)[: draw.randint(3, 8)])
    tokenizer = Tokenizer.train([" ".join(words)], vocab_size=llama.VOCAB)
    return RxtAdapter(model, tokenizer, max_batch=count, fingerprint="random")
