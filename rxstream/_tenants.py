"""Admission: how many queries wait, of whom, and what was refused."""

from __future__ import annotations

import threading
from collections import Counter

from .errors import QueryRejected


class Tenant:
    """Whose memories these are: its queue, and what was done for it."""

    __slots__ = (
        *("name", "memories", "queued", "decoding", "rejected"),
        *("tokens", "prefilled", "updated"),
    )

    def __init__(self, name: str) -> None:
        self.name = name
        # Under the lock of Tenants
        self.memories = self.queued = self.rejected = 0
        # Written by the decode lane alone, the last one by the lane of the memory updates
        self.decoding = self.tokens = self.prefilled = 0
        self.updated = 0


class Tenants:
    """All tenants with an open memory, and the queue limits. From any thread."""

    def __init__(self, max_queued: int, max_queued_per_tenant: int | None) -> None:
        if max_queued < 1:
            raise ValueError(f"max_queued must be >= 1, not {max_queued}")
        if max_queued_per_tenant is not None and max_queued_per_tenant < 1:
            raise ValueError(f"max_queued_per_tenant must be >= 1, not {max_queued_per_tenant}")
        self.max_queued = max_queued
        self.max_each = max_queued_per_tenant or max(1, max_queued // 4)
        self.queued = 0
        self._rejected: Counter[str] = Counter()
        self._known: dict[str, Tenant] = {}
        self._lock = threading.Lock()

    def join(self, name: str) -> Tenant:
        """One more memory of that tenant."""
        with self._lock:
            tenant = self._known.setdefault(name, Tenant(name))
            tenant.memories += 1
            return tenant

    def leave(self, tenant: Tenant) -> None:
        """One memory less."""
        with self._lock:
            tenant.memories -= 1
            if not tenant.memories:
                del self._known[tenant.name]

    def reserve(self, tenant: Tenant) -> QueryRejected | None:
        """Count one more queued query of ``tenant``, unless there are too many: then says so."""
        with self._lock:
            if self.queued >= self.max_queued:
                return QueryRejected(
                    "queue_full",
                    f"{self.queued} queries are waiting in all memories, and max_queued is "
                    f"{self.max_queued}; try again later",
                )
            if tenant.queued >= self.max_each:
                return QueryRejected(
                    "tenant_full",
                    f"tenant {tenant.name!r} has {tenant.queued} queries waiting, and "
                    f"max_queued_per_tenant is {self.max_each}; wait for some of the answers",
                )
            self.queued += 1
            tenant.queued += 1
        return None

    def unreserve(self, tenant: Tenant) -> None:
        """One of its queries waits no longer."""
        with self._lock:
            self.queued -= 1
            tenant.queued -= 1

    def count_rejected(self, tenant: Tenant, reason: str) -> None:
        with self._lock:
            self._rejected[reason] += 1
            tenant.rejected += 1

    def rejected(self) -> dict[str, int]:
        """How many queries were refused, for each reason."""
        with self._lock:
            return dict(self._rejected)

    def all(self) -> list[Tenant]:
        with self._lock:
            return list(self._known.values())
