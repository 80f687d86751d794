"""Policies: from what is waiting to what one iteration of the lane does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ITEM = 96
"""What a prefill or an update costs beside its characters, in characters. Of the bundled model on
one CPU thread: 2.8 ms + 0.029 ms a character for a prefill, 3.5 ms + 0.04 ms for an update."""


class Tenant(Protocol):
    """Whose work it is, and what was done for them. All numbers only ever go up."""

    @property
    def name(self) -> str:
        """As given to ``runtime.memory(tenant=...)``."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens generated."""
        ...

    @property
    def prefilled(self) -> int:
        """Characters prefilled."""
        ...

    @property
    def updated(self) -> int:
        """Characters folded into memories."""
        ...


class Work(Protocol):
    """A query to prefill, or a memory update to compute."""

    @property
    def since(self) -> float:
        """On the lane's clock: when the query could have begun, or its answer was complete."""
        ...

    @property
    def size(self) -> int:
        """A measure of its cost: characters of the query, or of query and answer."""
        ...

    @property
    def inherited(self) -> bool:
        """Whether another query waits for this update."""
        ...

    @property
    def tenant(self) -> Tenant:
        """Whose it is."""
        ...

    @property
    def lag(self) -> float:
        """For how many seconds its memory has owed an update; 0 when it is up to date.

        A query meets such a memory only with ``isolation="snapshot"``.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is waiting at the start of an iteration. All running decodings step in any case."""

    now: float
    running: int
    """Decodings that are open; 0 on a memory lane of its own, where nothing runs beside updates."""
    free: int
    """Decodings that the model can still open."""
    prefills: Sequence[Work]
    """In the order in which they could have begun."""
    updates: Sequence[Work]
    """At most one of each memory."""
    lag: float = 0.0
    """Age of the oldest update on a memory lane of its own; else 0, and ``updates`` has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the iteration does after the decode step: indices into the load's sequences."""

    prefills: Sequence[int]
    updates: Sequence[int]


class Policy(Protocol):
    """Chooses. Called by one lane at a time; must be quick and must not keep the load."""

    def plan(self, load: Load) -> Plan:
        """The next iteration. Whatever it leaves out is shown again.

        When nothing runs and nothing is taken, the lane rests until something new comes.
        """
        ...


class Greedy:
    """Every pending update at once, and as many prefills as fit: batching without waiting.

    Updates never wait for idle time: that starves the next turn of whoever answers quickly. First
    come, first served: whoever asks more gets more.
    """

    def __init__(self, *, max_prefills: int = 0, max_updates: int = 0) -> None:
        """The bounds limit one iteration; 0 means none."""
        self.max_prefills, self.max_updates = max_prefills, max_updates

    def plan(self, load: Load) -> Plan:
        prefills = min(load.free, len(load.prefills), self.max_prefills or len(load.prefills))
        updates = min(len(load.updates), self.max_updates or len(load.updates))
        return Plan(prefills=range(prefills), updates=range(updates))


class Budgeted:
    """Bounded work beside running decodings, so that tokens keep an even pace.

    While something decodes, an iteration takes prefills up to ``prefill_size`` and updates up to
    ``update_size`` characters, each piece counted as its characters and 96 more (the first of each
    always fits). Updates that somebody waits for come first; an update older than ``max_lag``
    seconds is taken regardless. When nothing decodes, all are taken.

    Memory lags by at most ``max_lag`` and one iteration: no query begins on a memory that has owed
    an update for longer, nor any while a memory lane of its own is so far behind. Held-back queries
    fill the queues, whose limits then refuse more.
    """

    def __init__(
        self, *, prefill_size: int = 2048, update_size: int = 2048, max_lag: float = 0.25
    ) -> None:
        if max_lag <= 0:
            raise ValueError(f"max_lag must be positive, not {max_lag}")
        self.prefill_size, self.update_size, self.max_lag = prefill_size, update_size, max_lag

    def plan(self, load: Load) -> Plan:
        return Plan(prefills=self._prefills(load), updates=self._updates(load))

    def _prefills(self, load: Load) -> list[int]:
        if load.lag >= self.max_lag:
            return []
        order = (i for i, work in enumerate(load.prefills) if work.lag < self.max_lag)
        return self._begin(load, order)

    def _begin(self, load: Load, order: Iterable[int]) -> list[int]:
        """As many as there are slots for, and while something decodes as the budget allows."""
        budget = self.prefill_size if load.running else None
        return within(load.prefills, order, budget, limit=load.free)

    def _updates(self, load: Load) -> Sequence[int]:
        updates = load.updates
        if not load.running:
            return range(len(updates))
        order = sorted(
            range(len(updates)), key=lambda i: (not updates[i].inherited, updates[i].since, i)
        )
        chosen = within(updates, order, self.update_size)
        taken = set(chosen)
        due = load.now - self.max_lag
        return [*chosen, *(i for i in order if i not in taken and updates[i].since <= due)]


def within(
    work: Sequence[Work], order: Iterable[int], budget: int | None, *, limit: int | None = None
) -> list[int]:
    """The first of ``order`` that fit into ``budget`` (one always does), at most ``limit``."""
    chosen: list[int] = []
    if limit == 0:
        return chosen
    for i in order:
        if budget is not None:
            budget -= ITEM + work[i].size
            if chosen and budget < 0:
                break
        chosen.append(i)
        if len(chosen) == limit:
            break
    return chosen
