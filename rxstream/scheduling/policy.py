"""Policies: from what is waiting to what one iteration of the lane does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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
        """Sizes of the queries prefilled."""
        ...

    @property
    def updated(self) -> int:
        """Sizes of the memory updates computed."""
        ...


class Work(Protocol):
    """A query to prefill, or a memory update to compute."""

    @property
    def since(self) -> float:
        """On the lane's clock: when the query could have begun, or its answer was complete."""
        ...

    @property
    def size(self) -> int:
        """Its cost, in characters: of the query, or of query and answer, and 96 for itself."""
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
    prefill_cost: float = 0.0
    """Seconds that prefills took lately for each unit of their size; 0 before the first."""
    update_cost: float = 0.0
    """The same of updates."""
    lag: float = 0.0
    """Age of the oldest update on a memory lane of its own; else 0, and ``updates`` has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the iteration does after the decode step: indices into the load's sequences."""

    prefills: Sequence[int]
    updates: Sequence[int]


class Policy(Protocol):
    """Chooses. Called on the decode lane; must be quick and must not keep the load.

    A memory lane of its own asks about updates alone (``running``, ``free`` and ``prefills`` are 0
    and empty), perhaps while the decode lane asks about prefills.
    """

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

    While something decodes, an iteration takes as many updates and prefills as are expected to fit
    into ``budget`` seconds, going by what they cost lately; at least one of each. Updates that
    somebody waits for come first, and have half of the budget or more; an update older than
    ``max_lag`` seconds is taken regardless. When nothing decodes, all are taken.

    So no update waits longer than ``max_lag`` and one iteration. Where updates follow one another,
    on one memory (``isolation="snapshot"``) or on a memory lane of its own, no query begins while
    the oldest has waited for ``max_lag``: then only answers that run already can add to it. Queries
    that are held back fill the queues, whose limits refuse more.
    """

    def __init__(self, *, budget: float = 0.03, max_lag: float = 0.25) -> None:
        """Raises ValueError for a budget or lag that is not positive."""
        for name, value in (("budget", budget), ("max_lag", max_lag)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, not {value}")
        self.budget, self.max_lag = budget, max_lag

    def plan(self, load: Load) -> Plan:
        may_begin = bool(load.prefills) and load.free > 0 and load.lag < self.max_lag
        updates = self._updates(load, self.budget / 2 if may_begin else self.budget)
        if not may_begin:
            return Plan(prefills=(), updates=updates)
        spent = load.update_cost * sum(load.updates[i].size for i in updates)
        return Plan(prefills=self._prefills(load, self.budget - spent), updates=updates)

    def _prefills(self, load: Load, budget: float) -> list[int]:
        order = (i for i, work in enumerate(load.prefills) if work.lag < self.max_lag)
        return self._begin(load, order, budget)

    def _begin(self, load: Load, order: Iterable[int], budget: float) -> list[int]:
        """As many as there are slots for, and while something decodes as the budget allows."""
        if not load.running:
            budget = math.inf
        return within(load.prefills, order, budget, load.prefill_cost, limit=load.free)

    def _updates(self, load: Load, budget: float) -> Sequence[int]:
        updates = load.updates
        if not load.running:
            return range(len(updates))
        order = sorted(
            range(len(updates)), key=lambda i: (not updates[i].inherited, updates[i].since, i)
        )
        chosen = within(updates, order, budget, load.update_cost, limit=len(updates))
        taken = set(chosen)
        due = load.now - self.max_lag
        return [*chosen, *(i for i in order if i not in taken and updates[i].since <= due)]


def within(
    work: Sequence[Work], order: Iterable[int], budget: float, cost: float, *, limit: int
) -> list[int]:
    """The first of ``order``, at most ``limit``, that fit into ``budget``; one always does."""
    chosen: list[int] = []
    for i in order:
        budget -= cost * work[i].size
        if len(chosen) == limit or (chosen and budget < 0):
            break
        chosen.append(i)
    return chosen
