"""Fair shares between tenants."""

from __future__ import annotations

import heapq
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

    A generated token counts 1, a character that is read ``per_character``, for prefill and memory
    update alike. Who is not in ``weights`` has weight 1; a tenant of weight 2 gets twice as much.
    """

    def __init__(
        self,
        *,
        weights: Mapping[str, float] | None = None,
        per_character: float = 0.1,
        credit: float = 1024.0,
        prefill_size: int = 2048,
        update_size: int = 2048,
        max_lag: float = 0.25,
    ) -> None:
        """Raises ValueError for a weight that is not positive."""
        super().__init__(prefill_size=prefill_size, update_size=update_size, max_lag=max_lag)
        self.weights = dict(weights or {})
        for name, weight in self.weights.items():
            if not weight > 0:
                raise ValueError(f"the weight of tenant {name!r} must be positive, not {weight}")
        self.per_character, self.credit = per_character, credit
        self._counters: dict[str, float] = {}
        """What each tenant got, divided by its weight, and raised when it came back."""
        self._seen: dict[str, float] = {}
        """How much of what was done for it is counted already."""
        self._waiting: set[str] = set()
        self._floor = 0.0

    def _prefills(self, load: Load) -> list[int]:
        if load.lag >= self.max_lag or not load.free:
            return []
        queues: dict[str, deque[int]] = {}
        for i, work in enumerate(load.prefills):
            if work.lag < self.max_lag:
                queues.setdefault(work.tenant.name, deque()).append(i)
        self._count([load.prefills[queue[0]].tenant for queue in queues.values()])
        chosen = self._begin(load, self._in_turn(load, queues))
        taken = set(chosen)
        self._waiting = {work.tenant.name for i, work in enumerate(load.prefills) if i not in taken}
        if chosen and not self._waiting:
            last = load.prefills[chosen[-1]].tenant.name  # nobody had to wait for anybody
            self._floor = max(self._floor, self._counters[last])
        if len(self._counters) > _KEPT:
            self._forget()
        return chosen

    def _count(self, tenants: Sequence[Tenant]) -> None:
        """Bring the counters of those that wait up to date."""
        new = []
        for tenant in tenants:
            name = tenant.name
            done = tenant.tokens + self.per_character * (tenant.prefilled + tenant.updated)
            if name in self._counters:
                more = max(0.0, done - self._seen[name])  # a reopened tenant starts from 0 again
                self._counters[name] += more / self.weights.get(name, 1.0)
            else:
                self._counters[name] = self._floor
            self._seen[name] = done
            if name not in self._waiting:
                new.append(name)
        still = [self._counters[t.name] for t in tenants if t.name in self._waiting]
        self._floor = max(self._floor, min(still, default=self._floor))
        for name in new:
            self._counters[name] = max(self._counters[name], self._floor - self.credit)
        lowest = min((self._counters[t.name] for t in tenants), default=self._floor)
        self._floor = max(self._floor, lowest)

    def _in_turn(self, load: Load, queues: Mapping[str, deque[int]]) -> Iterator[int]:
        """The oldest query of whoever got least, and so on. Each is charged once it is taken."""
        heap = [(self._counters[name], queue[0], name) for name, queue in queues.items()]
        heapq.heapify(heap)
        while heap:
            _, i, name = heap[0]
            yield i
            cost = self.per_character * load.prefills[i].size
            self._counters[name] += cost / self.weights.get(name, 1.0)
            self._seen[name] += cost  # so that it is not counted again
            queue = queues[name]
            queue.popleft()
            if queue:
                heapq.heapreplace(heap, (self._counters[name], queue[0], name))
            else:
                heapq.heappop(heap)

    def _forget(self) -> None:
        """Drop whoever would come back at the floor anyway."""
        gone = [
            name
            for name, counter in self._counters.items()
            if counter <= self._floor and name not in self._waiting
        ]
        for name in gone:
            del self._counters[name], self._seen[name]
