"""What a runtime is doing: one look, frozen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._batches import Batches
    from ._engine import Engine
    from ._machine import Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStats:
    """Calls of the model of one kind, since the runtime was made."""

    calls: int
    items: int
    """Interactions in all these calls."""
    largest: int
    """Most interactions in one call."""

    @property
    def mean(self) -> float:
        """Interactions a call; 0 before the first."""
        return self.items / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantStats:
    """One tenant with an open memory."""

    memories: int
    queued: int
    """Queries that wait for their turn."""
    decoding: int
    """Answers being generated."""
    tokens: int
    """Generated; those of an answer under way are counted now and then, and at its end."""
    rejected: int
    """Queries refused, for whatever reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStats:
    """One open memory."""

    tenant: str
    version: int
    stored: int | None
    """Newest version in the store; None for none."""
    lag: int
    """Complete answers that are not part of the memory yet."""
    lag_seconds: float
    """How long the oldest of them has been complete; 0 when there is none."""
    reader_lag: int
    """Events that its slowest reader is behind: of the memory, its conversations or answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStats:
    """What ``runtime.stats()`` returns. Counters only go up; they are read one after another while
    the lanes go on, so that a sum may be off by what happened meanwhile."""

    iterations: int
    """Rounds of the decode lane."""
    steps: BatchStats
    """Decode steps: an item is a token."""
    prefills: BatchStats
    updates: BatchStats
    """Memory updates."""
    queued: int
    """Queries that wait for their turn."""
    decoding: int
    """Answers being generated."""
    lag: int
    """Complete answers that are not part of their memory yet."""
    lag_seconds: float
    """How long the oldest of them has been complete; 0 when there is none."""
    rejected: Mapping[str, int]
    """Queries refused, by reason; see ``QueryRejected``."""
    busy_seconds: Mapping[str, float]
    """Seconds that each lane has worked, by name; empty for lanes without threads."""
    tenants: Mapping[str, TenantStats]
    """By name."""
    memories: Mapping[str, MemoryStats]
    """Open ones, by name."""

    @property
    def tokens(self) -> int:
        """Tokens generated."""
        return self.steps.items


def collect(engine: Engine, machines: Iterable[Machine]) -> RuntimeStats:
    """Look at everything once."""
    memories = {machine.name: _memory(machine) for machine in machines}
    tenants = {
        tenant.name: TenantStats(
            memories=tenant.memories,
            queued=tenant.queued,
            decoding=tenant.decoding,
            tokens=tenant.tokens,
            rejected=tenant.rejected,
        )
        for tenant in engine.tenants.all()
    }
    return RuntimeStats(
        iterations=engine.loop.iterations,
        steps=_batches(engine.loop.steps),
        prefills=_batches(engine.loop.prefills),
        updates=_batches(engine.updates),
        queued=engine.tenants.queued,
        decoding=engine.loop.decoding,
        lag=sum(memory.lag for memory in memories.values()),
        lag_seconds=max((memory.lag_seconds for memory in memories.values()), default=0.0),
        rejected=engine.tenants.rejected(),
        busy_seconds=engine.lanes.busy(),
        tenants=tenants,
        memories=memories,
    )


def _memory(machine: Machine) -> MemoryStats:
    memorizer = machine.memorizer
    with machine:
        logs = [
            machine.log,
            *(channel.log for channel in machine.channels.values()),
            *(turn.log for turn in machine.active),
        ]
        return MemoryStats(
            tenant=machine.tenant.name,
            version=memorizer.version,
            stored=memorizer.persister.stored,
            lag=machine.owed,
            lag_seconds=machine.lag,
            reader_lag=max((log.lag for log in logs if log is not None), default=0),
        )


def _batches(batches: Batches) -> BatchStats:
    return BatchStats(calls=batches.calls, items=batches.items, largest=batches.largest)
