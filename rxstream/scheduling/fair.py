"""Fair shares between tenants."""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TYPE_CHECKING

from .policy import Budgeted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .policy import Load, Tenant

_KEPT = 4096
"""Counters above this number are tidied up, for programs with very many tenants."""


class Fair(Budgeted):
    """``Budgeted``, and whoever got least so far begins next.

    Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", OSDI 2024):
    each tenant has a counter of what was done for it, divided by its weight; a free slot goes to
    the waiting tenant with the lowest. So while two tenants wait, what they get differs by no more
    than the model's slots hold, whatever each of them asks; no slot is left empty for fairness. An
    answer that runs is never interrupted.

    Who comes for the first time starts level with the lowest of those that wait; who comes back
    after a pause is at most ``credit`` tokens ahead of that: nobody saves up more.

    A generated token counts 1; a prefill or memory update counts ``per_character`` for each unit of
    its size (the default is what the bundled model takes on a CPU, in full batches). Who is not in
    ``weights`` has weight 1; a tenant of weight 2 gets twice as much.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        per_character: float = 0.08,
        credit: float = 1024.0,
        budget: float = 0.03,
        max_lag: float = 0.25,
    ) -> None:
        """Raises ValueError for a weight that is not positive."""
        super().__init__(budget=budget, max_lag=max_lag)
        self.weights = dict(weights or {})
        for name, weight in self.weights.items():
            if not weight > 0:
                raise ValueError(f"the weight of tenant {name!r} must be positive, not {weight}")
        self.per_character, self.credit = per_character, credit
        self._counters: dict[str, float] = {}
        """What each tenant got, divided by its weight, and raised when it came back."""
        self._seen: dict[str, float] = {}
        """How much of what was done for it is counted already."""
        self._floor = 0.0
        """The lowest counter of those that waited last. Only ever goes up."""

    def _prefills(self, load: Load, budget: float) -> list[int]:
        queues: dict[str, deque[int]] = {}
        for i, work in enumerate(load.prefills):
            if work.lag < self.max_lag:
                queues.setdefault(work.tenant.name, deque()).append(i)
        if not queues:
            return []
        self._count([load.prefills[queue[0]].tenant for queue in queues.values()])
        chosen = self._begin(load, self._in_turn(load, queues), budget)
        if len(chosen) == len(load.prefills):
            # Nobody has to wait for anybody, so nobody is owed anything by the last one.
            self._floor = max(self._floor, self._counters[load.prefills[chosen[-1]].tenant.name])
        if len(self._counters) > _KEPT:
            self._forget()
        return chosen

    def _count(self, tenants: Sequence[Tenant]) -> None:
        """Bring the counters of those that wait up to date."""
        lowest = math.inf
        for tenant in tenants:
            name = tenant.name
            done = tenant.tokens + self.per_character * (tenant.prefilled + tenant.updated)
            counter = self._floor
            if name in self._counters:
                more = max(0.0, done - self._seen[name])  # a reopened tenant starts from 0 again
                counter = self._counters[name] + more / self.weights.get(name, 1.0)
            # Who goes on waiting is never so low: the floor is the lowest of them.
            counter = max(counter, self._floor - self.credit)
            self._counters[name], self._seen[name] = counter, done
            lowest = min(lowest, counter)
        self._floor = max(self._floor, lowest)

    def _in_turn(self, load: Load, queues: Mapping[str, deque[int]]) -> Iterator[int]:
        """The oldest query of whoever got least, and so on. Each is charged once it is taken."""
        heap = [(self._counters[name], queue[0], name) for name, queue in queues.items()]
        heapq.heapify(heap)
        weights = sum(self.weights.get(name, 1.0) for name in queues)
        while heap:
            _, i, name = heap[0]
            yield i
            cost = self.per_character * load.prefills[i].size
            self._counters[name] += cost / self.weights.get(name, 1.0)
            self._seen[name] += cost  # so that it is not counted again
            # What each of them would have got by now were all served at once: newcomers start
            # higher and higher, or a stream of them would starve whoever got more before.
            self._floor += cost / weights
            queue = queues[name]
            queue.popleft()
            if queue:
                heapq.heapreplace(heap, (self._counters[name], queue[0], name))
            else:
                heapq.heappop(heap)

    def _forget(self) -> None:
        """Drop whoever has been away so long that nothing is lost but credit."""
        gone = [
            name for name, counter in self._counters.items() if counter <= self._floor - self.credit
        ]
        for name in gone:
            del self._counters[name], self._seen[name]
