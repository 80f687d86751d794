"""The runtime: a model, a store, and the lanes on which they work."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar, Unpack, get_args

import anyio
import anyio.to_thread

from ._checks import check_parts
from ._core import Core, OnLaneError, cores, dropped
from ._engine import Engine
from ._memories import Asked, Memories, MemoryOptions
from ._memorize import Durability, OnConflict
from ._tenants import Tenants
from .lanes import Lanes, refuse_to_wait
from .scheduling import Fair, Policy
from .stats import RuntimeStats, collect
from .stores import open_store
from .stores.memory import MemoryStore

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from ._machine import Isolation, OnMemoryFailure
    from .memory import ShortTermMemory
    from .model import ReactiveModel
    from .snapshot import Snapshot
    from .store import Store

M = TypeVar("M")

KEPT = 8
"""Versions of a memory that a runtime without a store keeps: each may be as large as a picture, and
there is one more with every answer."""


class Runtime(Generic[M]):
    """Runs a model: opens memories, answers queries, updates and stores memory in the background.

    ::

        with Runtime(model, store="sqlite:///memories.db") as runtime:
            chat = runtime.memory("user-42").conversation()
            print(chat.ask("Hello").result().text)

    ``async with`` works on asyncio and trio. Any thread may use a runtime. It does not survive
    ``os.fork``: in the child every call raises ForkedRuntimeError.
    """

    def __init__(
        self,
        model: ReactiveModel[M],
        store: str | Store | None = None,
        *,
        durability: Durability = "async",
        policy: Policy | None = None,
        max_queued: int = 1024,
        max_queued_per_tenant: int | None = None,
        grace: float | None = 30.0,
        lanes: Lanes | None = None,
    ) -> None:
        """``store`` is an address such as ``sqlite:///path`` (closed with the runtime), or a store
        (left open); None keeps memories only while the runtime lives, of each the newest 8
        versions, those with a label, and those without which its log would tell another story.

        ``durability`` says when a version is stored; the interaction log is always written first,
        so that no setting loses what was acknowledged. ``sync``: before ``MemoryUpdated``.
        ``async``: in the background, only the newest. ``close``: on ``flush`` and at the end.
        ``policy`` orders the work (default: ``rxstream.scheduling.Fair()``). ``max_queued`` bounds
        the queries waiting in all memories, ``max_queued_per_tenant`` (a quarter of that) those of
        one tenant; beyond, queries are rejected as ``queue_full`` and ``tenant_full``. ``grace``
        bounds closing. ``lanes`` are for tests (see ``rxstream.testing.Lab``).

        Raises StoreUnavailable, ValueError, and TypeError for what is no model, store or policy.
        """
        if durability not in get_args(Durability):
            known = ", ".join(get_args(Durability))
            raise ValueError(f"durability must be one of {known}, not {durability!r}")
        policy = policy or Fair()
        check_parts(model, store, policy)
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be >= 0 seconds or None, not {grace}")
        if model.max_batch < 1:
            raise ValueError(f"the model's max_batch must be >= 1, not {model.max_batch}")
        tenants = Tenants(max_queued, max_queued_per_tenant)
        owns = store is None or isinstance(store, str)
        opened = MemoryStore(keep=KEPT) if store is None else open_store(store)
        on_error = OnLaneError()
        if lanes is None:
            lanes = Lanes.threads(thread_safe=model.thread_safe, on_error=on_error)
        engine = Engine(model, opened, lanes, policy, tenants)
        self._grace = grace
        self._core = core = Core(engine, owns)
        self._memories: Memories[M] = Memories(core, durability)
        on_error.core = weakref.ref(core)
        cores.add(core)
        weakref.finalize(self, dropped, core).atexit = False

    def __repr__(self) -> str:
        state = "closed" if self._core.closing else "open"
        return f"<Runtime {self._core.engine.model.fingerprint!r} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a runtime cannot be pickled; send memory.snapshot() instead")

    @property
    def store(self) -> Store:
        """Where its memories are kept."""
        return self._core.engine.store

    # Memories

    def memory(
        self,
        name: str,
        *,
        snapshot: Snapshot | str | os.PathLike[str] | None = None,
        tenant: str | None = None,
        durability: Durability | None = None,
        isolation: Isolation | None = None,
        on_memory_failure: OnMemoryFailure | None = None,
        on_conflict: OnConflict | None = None,
    ) -> ShortTermMemory[M]:
        """The memory of that name: the one open already, or from the store, or a new one.

        What the log has beyond the stored version is folded in first. ``snapshot`` (a file or a
        Snapshot) is what a memory begins with that the store does not know: a system prompt.
        ``tenant`` is whose it is: tenants share the model fairly and have queue limits of their
        own. By default a memory is a tenant by itself, of the same name.
        ``isolation="serial"`` (default) lets one interaction run at a time; with ``"snapshot"``
        conversations are answered beside each other, and their updates follow one another.
        ``on_memory_failure="halt"`` refuses queries after a failed update until ``resume()``.
        ``on_conflict`` says what an update does that finds another process writing to the same
        memory: ``fail`` (default), or ``rebase``: reload it and fold in again, nothing is lost.

        Waits for store and model; on an event loop use ``amemory``. Raises StoreUnavailable,
        StoreCorrupt, SnapshotCorrupt, SnapshotIncompatible, MemoryUpdateError: then nothing changed
        in the store. BackpressureDeadlock on a lane, ClosedError, ValueError, TypeError.
        """
        self._core.engine.check()
        asked: Asked = {
            "tenant": tenant,
            "durability": durability,
            "isolation": isolation,
            "on_memory_failure": on_memory_failure,
            "on_conflict": on_conflict,
        }
        return self._memories.get(self, name, snapshot, asked)

    async def amemory(self, name: str, **options: Unpack[MemoryOptions]) -> ShortTermMemory[M]:
        """``memory(...)`` without holding up the event loop."""
        return await anyio.to_thread.run_sync(lambda: self.memory(name, **options))

    def release(self, name: str, *, grace: float | None = None, drain: bool = True) -> bool:
        """Close one memory, as ``close`` does all: for programs that open very many.

        ``runtime.memory(name)`` opens it again from the store, so use this with a store that is
        kept. Nothing happens when it is not open. Raises BackpressureDeadlock on a lane.
        """
        core = self._core
        core.engine.check()
        core.engine.may_open()
        grace = self._grace if grace is None else grace
        return self._memories.release(
            name, None if grace is None else time.monotonic() + grace, drain
        )

    # Watching and closing

    def stats(self) -> RuntimeStats:
        """What the runtime is doing: counters, queues, lags. From any thread, also a lane's.

        Takes each memory's lock for a moment, a few microseconds for each open memory.
        """
        core = self._core
        core.engine.check()
        with core.lock:
            machines = list(core.machines.values())
        return collect(core.engine, machines)

    def close(self, *, grace: float | None = None, drain: bool = False) -> bool:
        """Refuse queries, end what runs, store what is unstored, stop the lanes. Idempotent.

        Queued queries are cancelled (``shutdown``); so are those being generated, unless ``drain``.
        Memory updates under way are finished. Waits for at most ``grace`` seconds (default: as the
        runtime was made); returns False, and logs what is left, when that was not enough. Nothing
        acknowledged is lost then either: the next start redoes it from the log.

        Raises BackpressureDeadlock on a lane of this runtime.
        """
        core = self._core
        core.engine.check()
        if not core.engine.lanes.inline:
            refuse_to_wait(*core.engine.lanes.all(), what="close()")
        return core.close(self._grace if grace is None else grace, drain)

    async def aclose(self, *, grace: float | None = None, drain: bool = False) -> bool:
        """``close()`` for asyncio and trio. Cancelling it does not interrupt the closing."""
        whole = False
        with anyio.CancelScope(shield=True):
            whole = await anyio.to_thread.run_sync(
                lambda: self.close(grace=grace, drain=drain), limiter=anyio.CapacityLimiter(1)
            )
        return whole

    def __enter__(self) -> Runtime[M]:
        self._core.engine.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Runtime[M]:
        self._core.engine.check()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
