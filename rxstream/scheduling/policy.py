"""Policies: from what is waiting to what one iteration of the lane does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Work(Protocol):
    """A query to prefill, or a memory update to compute."""

    @property
    def since(self) -> float:
        """When it became ready, on the lane's clock."""
        ...

    @property
    def size(self) -> int:
        """A measure of its cost: characters of the query, or of query and answer."""
        ...

    @property
    def inherited(self) -> bool:
        """Whether another query waits for this update."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is waiting at the start of an iteration. All running decodings step in any case."""

    now: float
    running: int
    free: int
    """Decodings that the model can still open."""
    prefills: Sequence[Work]
    updates: Sequence[Work]
    """At most one of each memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the iteration does after the decode step: indices into the load's sequences."""

    prefills: Sequence[int]
    updates: Sequence[int]


class Policy(Protocol):
    """Chooses. Called on the decode lane; must be quick and must not keep the load."""

    def plan(self, load: Load) -> Plan:
        """The next iteration. Whatever it leaves out is shown again."""
        ...


class Greedy:
    """Every pending update at once, and as many prefills as fit: batching without waiting.

    Updates never wait for idle time: that starves the next turn of whoever answers quickly.
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
    ``update_size`` (the first of each always fits). Updates that somebody waits for come first; an
    update older than ``max_lag`` seconds is taken regardless. When nothing decodes, all are taken.
    """

    def __init__(
        self, *, prefill_size: int = 2048, update_size: int = 2048, max_lag: float = 0.25
    ) -> None:
        self.prefill_size, self.update_size, self.max_lag = prefill_size, update_size, max_lag

    def plan(self, load: Load) -> Plan:
        prefills = range(min(load.free, len(load.prefills)))
        if not load.running:
            return Plan(prefills=prefills, updates=range(len(load.updates)))
        order = sorted(
            range(len(load.updates)),
            key=lambda i: (not load.updates[i].inherited, load.updates[i].since, i),
        )
        updates = _within(load.updates, order, self.update_size)
        taken = set(updates)
        updates += [
            i for i in order if i not in taken and load.now - load.updates[i].since >= self.max_lag
        ]
        return Plan(prefills=_within(load.prefills, prefills, self.prefill_size), updates=updates)


def _within(work: Sequence[Work], order: Sequence[int], budget: int) -> list[int]:
    chosen: list[int] = []
    for i in order:
        budget -= work[i].size
        if chosen and budget < 0:
            break
        chosen.append(i)
    return chosen
