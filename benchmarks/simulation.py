"""Clients in virtual time, who talk to the real runtime; only the model is a clock that is paid.

The model is ``FakeModel``; each of its calls takes as long as the real one was measured to take.
Everything else (runtime, policy, memory store) is what users run, and costs nothing here.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rxstream.errors import QueryRejected
from rxstream.model import Sampling
from rxstream.testing import FakeModel, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rxstream import Conversation, Event
    from rxstream.scheduling import Policy

    from .costs import Costs


@dataclass(frozen=True)
class Kind:
    """How a client behaves. Times in seconds; think times and lengths are drawn anew each turn."""

    name: str
    think: float
    """Mean of an exponential distribution, from the complete answer to the next query."""
    tokens: tuple[int, int]
    query: tuple[int, int]
    """Characters."""


PERSON = Kind("person", think=10.0, tokens=(4, 40), query=(20, 100))
AGENT = Kind("agent", think=0.3, tokens=(4, 16), query=(60, 120))
FLOOD = Kind("flood", think=0.0, tokens=(30, 60), query=(100, 160))
RETRY = (1.0, 3.0)
"""Seconds after which a refused client asks again."""


@dataclass(frozen=True)
class Turn:
    """What a client saw of one turn."""

    kind: Kind
    tenant: str
    first: float
    """Seconds from the query to the first token; so far, if there was none."""
    gaps: tuple[float, ...]
    """Between tokens."""
    lag: float | None
    """From the complete answer to the updated memory; None when that did not happen."""
    whole: bool


@dataclass
class Found:
    """What all clients saw after the warm-up."""

    seconds: float
    turns: list[Turn]
    rejected: int
    tokens: dict[str, int]
    """Tokens that each tenant got."""


class Simulation:
    """One runtime, its clients, and the clock."""

    def __init__(self, costs: Costs, policy: Policy, *, max_batch: int, **limits: Any) -> None:
        self.lab = Lab(choose=lambda ready: ready - 1)  # the decode lane comes last
        self.model = model = FakeModel(max_batch=max_batch, capacity=4)
        model.on("step", lambda decodings: model.sleep(costs.step(len(decodings))))
        model.on("start", lambda asked: model.sleep(_of(costs.start, [r.query for r in asked])))
        model.on(
            "encode",
            lambda done: model.sleep(_of(costs.update, [d.query + d.answer for d in done])),
        )
        model.on("dump", lambda _: model.sleep(costs.dump))
        self.runtime = self.lab.runtime(model, policy=policy, **limits)
        self.clients: list[_Client] = []
        self.turns: list[Turn] = []
        self.tokens: Counter[str] = Counter()
        self.rejected = 0
        self.watching = False
        self.ends = math.inf

    def add(self, count: int, kind: Kind, tenant: str | None = None, *, spread: float) -> None:
        """Clients with a conversation each; the first query comes within ``spread`` seconds."""
        for _ in range(count):
            number = len(self.clients)
            memory = self.runtime.memory(f"{kind.name}-{number}", tenant=tenant)
            client = _Client(self, memory.conversation(), kind, number, memory.tenant)
            client.later(client.random.uniform(0, spread), client.ask)
            self.clients.append(client)

    def run(self, warmup: float, seconds: float) -> Found:
        """Let them talk; then nobody asks any more, and what runs comes to its end."""
        lab = self.lab
        self.ends = lab.time + warmup + seconds
        lab.clock.submit_later(warmup, self._begin)
        lab.clock.submit_later(warmup + seconds, self._end)
        lab.advance(warmup + seconds)
        self.runtime.close()
        self.model.check()
        if lab.errors:
            raise lab.errors[0]
        return Found(seconds, self.turns, self.rejected, self.tokens)

    def _begin(self) -> None:
        self.tokens.clear()
        self.rejected, self.watching = 0, True

    def _end(self) -> None:
        for client in self.clients:
            client.end()
        self.watching = False


class _Client:
    def __init__(
        self, simulation: Simulation, chat: Conversation, kind: Kind, seed: int, tenant: str
    ) -> None:
        self.simulation, self.chat, self.kind, self.tenant = simulation, chat, kind, tenant
        self.random = random.Random(seed)
        self.asked: float | None = None
        """When the present query came, until it has a first token."""
        self.last = 0.0
        self.gaps: list[float] = []
        self.first = 0.0

    def later(self, seconds: float, action: Callable[[float], None]) -> None:
        """Act in so many seconds. It gets the time it was due: a call of the model may run then."""
        lab = self.simulation.lab
        due = lab.time + seconds
        lab.clock.submit_later(seconds, lambda: action(due))

    def ask(self, due: float) -> None:
        if due >= self.simulation.ends:
            return
        draw, kind = self.random.randint, self.kind
        tokens = draw(*kind.tokens)
        query = f"long {tokens} ".ljust(draw(*kind.query), "x")
        try:
            it = self.chat.ask(query, sampling=Sampling(max_tokens=tokens), detach="keep")
        except QueryRejected:
            self.simulation.rejected += self.simulation.watching
            self.later(self.random.uniform(*RETRY), self.ask)
            return
        self.asked, self.gaps = due, []
        it.subscribe(self.on_next, lambda _: None)

    def on_next(self, event: Event) -> None:
        now = self.simulation.lab.time
        if event.kind == "token":
            if self.simulation.watching:
                self.simulation.tokens[self.tenant] += 1
            if self.asked is not None:
                self.first, self.asked = now - self.asked, None
            else:
                self.gaps.append(now - self.last)
            self.last = now
        elif event.kind == "answer_completed":
            think = self.random.expovariate(1 / self.kind.think) if self.kind.think else 0.0
            self.answered = self.first, tuple(self.gaps)
            self.later(think, self.ask)
        elif event.kind == "memory_updated":
            first, gaps = self.answered
            self.note(Turn(self.kind, self.tenant, first, gaps, event.seconds, whole=True))

    def end(self) -> None:
        """Time is up. Whoever still waits for a first token counts, or the slow would not."""
        if self.asked is not None:
            waited = self.simulation.lab.time - self.asked
            self.note(Turn(self.kind, self.tenant, waited, (), None, whole=False))

    def note(self, turn: Turn) -> None:
        if self.simulation.watching:
            self.simulation.turns.append(turn)


def _of(line: Any, texts: Sequence[str]) -> float:
    return line.seconds(len(texts), sum(map(len, texts)))
