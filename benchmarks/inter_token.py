"""The time between two tokens of an answer, while versions are being stored slowly and quickly."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rxstream import Runtime
from rxstream.events import Token
from rxstream.model import Sampling
from rxstream.stores.memory import MemoryStore
from rxstream.stores.wrapper import StoreWrapper

from .loop import endless

if TYPE_CHECKING:
    from rxstream.snapshot import Snapshot

QUERY = "tell me about my brother, his town near the sea and his dog called Biscuit"
LONG, SHORT = 200, 6
"""Tokens of the answers."""
PACE = 0.08
ANSWERS = 4
"""Long ones, in one round with one store."""


class SlowStore(StoreWrapper):
    """Takes its time for every commit, as a disk or a network does, and notes when that was."""

    def __init__(self, seconds: float) -> None:
        super().__init__(MemoryStore())
        self._seconds = seconds
        self.commits: list[tuple[int, int]] = []
        """Begin and end, in nanoseconds since the epoch, as events have it."""

    def commit(
        self, snapshot: Snapshot, *, expect: int | None, request_id: str | None = None
    ) -> None:
        began = time.time_ns()
        time.sleep(self._seconds)
        super().commit(snapshot, expect=expect, request_id=request_id)
        self.commits.append((began, time.time_ns()))


@dataclass(slots=True)
class Gaps:
    """What was seen with one store."""

    seconds: list[float] = field(default_factory=list)
    during: int = 0
    """How many of them had a commit under way: without any, nothing was measured."""
    commits: int = 0

    def quantile(self, share: float) -> float:
        """Seconds."""
        return sorted(self.seconds)[int(share * (len(self.seconds) - 1))]


def compare(model: Any, rounds: int, stores: dict[str, float]) -> dict[str, Gaps]:
    """Gaps between tokens with stores that take so many seconds a commit.

    Rounds take turns, in an order that alternates, so that what else the machine does is shared.
    """
    model, found = endless(model), {name: Gaps() for name in stores}
    for number in range(-1, rounds):
        for name in sorted(stores, reverse=number % 2 == 1):
            once = Gaps() if number < 0 else found[name]  # the first round warms up
            converse(model, stores[name], once)
    return found


def converse(model: Any, seconds: float, found: Gaps) -> None:
    """A long answer in one conversation, whose tokens are timed, while another one has a short turn
    every ``PACE`` seconds: each updates its memory, and that is stored while the long answer goes
    on. The pace leaves time for a slow commit, so that slow and quick stores get the same work.
    """
    store = SlowStore(seconds)
    tokens: list[list[int]] = []
    with Runtime(model, store) as runtime:
        long, short = (runtime.memory(name).conversation() for name in ("long", "short"))
        for _ in range(ANSWERS):
            timed = long.ask(QUERY, sampling=Sampling(max_tokens=LONG))
            answered = timed.when_answered()
            while not answered.done:
                began = time.perf_counter()
                short.ask(QUERY, sampling=Sampling(max_tokens=SHORT)).result(timeout=120)
                time.sleep(max(0.0, PACE - (time.perf_counter() - began)))
            tokens.append([e.at for e in timed.blocking() if isinstance(e, Token)])
    found.commits += len(store.commits)
    for at in tokens:
        for before, after in zip(at, at[1:], strict=False):
            found.seconds.append((after - before) / 1e9)
            found.during += any(began < after and before < end for began, end in store.commits)
