"""The runtime: a model, a store, and the lanes on which they work."""

from __future__ import annotations

import os
import secrets
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, get_args

import anyio
import anyio.to_thread

from ._checks import check_type
from ._core import Core, OnLaneError, cores, dropped
from ._engine import Engine
from ._machine import Isolation, Machine, OnMemoryFailure
from ._memorize import Durability, OnConflict
from ._open import open_memory
from ._promise import Pending
from ._tenants import Tenants
from .errors import ClosedError, VersionConflict
from .lanes import Lanes, call, refuse_to_wait
from .memory import ShortTermMemory
from .scheduling import Fair, Policy
from .snapshot import Snapshot, read_file
from .stats import RuntimeStats, collect
from .stores import open_store
from .stores.memory import MemoryStore
from .stores.rules import check_key

if TYPE_CHECKING:
    from types import TracebackType

    from .model import ReactiveModel
    from .snapshot import Kind
    from .store import Store

M = TypeVar("M")


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
        (left open); None keeps memories only while the runtime lives.

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
        _check_parts(model, store, policy)
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be >= 0 seconds or None, not {grace}")
        if model.max_batch < 1:
            raise ValueError(f"the model's max_batch must be >= 1, not {model.max_batch}")
        tenants = Tenants(max_queued, max_queued_per_tenant)
        owns = store is None or isinstance(store, str)
        opened = MemoryStore() if store is None else open_store(store)
        on_error = OnLaneError()
        if lanes is None:
            lanes = Lanes.threads(thread_safe=model.thread_safe, on_error=on_error)
        engine = Engine(model, opened, lanes, policy, tenants)
        self._durability: Durability = durability
        self._grace = grace
        self._core = core = Core(engine, owns)
        self._memories: dict[str, ShortTermMemory[M]] = {}
        self._opening: dict[str, Pending[None]] = {}
        on_error.core = weakref.ref(core)
        cores.add(core)
        weakref.finalize(self, dropped, core).atexit = False

    def __repr__(self) -> str:
        state = "closed" if self._core.closing else "open"
        return f"<Runtime {self._core.engine.model.fingerprint!r} {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a runtime cannot be pickled; send memory.snapshot() instead")

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
        engine = self._core.engine
        engine.check()
        check_key(name)
        if tenant is not None:
            check_key(tenant)
        asked = {
            "tenant": tenant,
            "durability": durability,
            "isolation": isolation,
            "on_memory_failure": on_memory_failure,
            "on_conflict": on_conflict,
        }
        for option, kinds in _OPTIONS.items():
            if asked[option] is not None and asked[option] not in kinds:
                raise ValueError(
                    f"{option} must be one of {', '.join(kinds)}, not {asked[option]!r}"
                )
        found = self._claim(name)
        if found is not None:
            return _same(found, asked)
        try:
            engine.may_open()
            if isinstance(snapshot, (str, os.PathLike)):
                snapshot = read_file(snapshot)
            elif snapshot is not None:
                check_type(snapshot, Snapshot, "the snapshot of a memory")
            return self._open(name, snapshot, "import", asked)
        finally:
            self._unclaim(name)

    def _claim(self, name: str) -> ShortTermMemory[M] | None:
        """The memory that is open, or None: then nobody else opens it until ``_unclaim``."""
        while True:
            with self._core.lock:
                if self._core.closing:
                    raise ClosedError("the runtime is closed")
                found, other = self._memories.get(name), self._opening.get(name)
                if found is None and other is None:
                    self._opening[name] = Pending()
                    return None
            if found is not None:
                return found
            assert other is not None
            self._core.engine.may_open()
            done = threading.Event()
            other.when_done(done.set)
            done.wait()  # then look again: it is open now, or it is for us to try

    def _unclaim(self, name: str) -> None:
        with self._core.lock:
            mine = self._opening.pop(name)
        mine.resolve(None)

    async def amemory(self, name: str, **options: Any) -> ShortTermMemory[M]:
        """``memory(...)`` without holding up the event loop."""
        return await anyio.to_thread.run_sync(lambda: self.memory(name, **options))

    def _open(
        self, name: str, snapshot: Snapshot | None, kind: Kind, asked: dict[str, Any]
    ) -> ShortTermMemory[M]:
        core = self._core
        start = open_memory(
            core.engine,
            name,
            snapshot=snapshot,
            kind=kind,
            durability=asked["durability"] or self._durability,
            on_conflict=asked["on_conflict"] or "fail",
        )
        tenants = core.engine.tenants
        machine = Machine(
            name,
            core.engine,
            start,
            tenant=tenants.join(asked["tenant"] or name),
            isolation=asked["isolation"] or "serial",
            on_memory_failure=asked["on_memory_failure"] or "continue",
            run_id=secrets.token_hex(6),
        )
        memory = ShortTermMemory(self, machine)
        with core.lock:
            if core.closing:
                tenants.leave(machine.tenant)
                raise ClosedError("the runtime is closed")
            core.machines[name] = machine
            self._memories[name] = memory
        if start.durability != "close":
            with machine:
                # What was redone just now need not be redone again.
                machine.memorizer.persister.save_if_newer()
        return memory

    def _fork(self, memory: ShortTermMemory[M], name: str) -> ShortTermMemory[M]:
        engine = self._core.engine
        check_key(name)
        engine.may_open()
        machine = memory._machine
        asked = _made(machine)
        if machine.tenant.name == machine.name:
            asked["tenant"] = None  # a tenant by itself, as the new one will be
        if (found := self._claim(name)) is not None:
            raise _taken(name, found.version)
        try:
            known = call(engine.lanes.io, lambda: engine.store.head(name))
            if known is not None:
                raise _taken(name, known)
            return self._open(name, memory.snapshot(), "fork", asked)
        finally:
            self._unclaim(name)

    def release(self, name: str, *, grace: float | None = None, drain: bool = True) -> bool:
        """Close one memory, as ``close`` does all: for programs that open very many.

        ``runtime.memory(name)`` opens it again from the store, so use this with a store that is
        kept. Nothing happens when it is not open. Raises BackpressureDeadlock on a lane.
        """
        core = self._core
        core.engine.check()
        core.engine.may_open()
        with core.lock:
            memory = self._memories.get(name)
            if memory is None or core.closing:
                return True
            del self._memories[name]
            self._opening[name] = Pending()
        try:
            grace = self._grace if grace is None else grace
            ends = None if grace is None else time.monotonic() + grace
            return core.end([memory._machine], ends, drain)
        finally:
            with core.lock:
                core.machines.pop(name, None)
            core.engine.tenants.leave(memory._machine.tenant)
            self._unclaim(name)

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


_OPTIONS: dict[str, tuple[str, ...]] = {
    "durability": get_args(Durability),
    "isolation": get_args(Isolation),
    "on_memory_failure": get_args(OnMemoryFailure),
    "on_conflict": get_args(OnConflict),
}


def _taken(name: str, version: int) -> VersionConflict:
    told = f"exists already, at version {version}; fork to another name"
    return VersionConflict(name, None, version, told)


def _check_parts(model: object, store: object, policy: object) -> None:
    """Raise TypeError for what is no model, store or policy, before a thread needs it."""
    needed: list[tuple[object, str, tuple[str, ...]]] = [
        (model, "a model", ("fingerprint", "max_batch", "thread_safe", "start", "step", "finish")),
        (policy, "a policy", ("plan",)),
    ]
    if store is not None and not isinstance(store, str):
        needed.append((store, "a store", ("append", "commit", "head", "load", "log")))
    for part, kind, names in needed:
        if missing := [name for name in names if not hasattr(part, name)]:
            raise TypeError(f"{type(part).__name__} is not {kind}: it has no {', '.join(missing)}")


def _made(machine: Machine) -> dict[str, Any]:
    return {
        "tenant": machine.tenant.name,
        "durability": machine.memorizer.durability,
        "isolation": machine.isolation,
        "on_memory_failure": machine.on_memory_failure,
        "on_conflict": machine.memorizer.on_conflict,
    }


def _same(memory: ShortTermMemory[M], asked: dict[str, Any]) -> ShortTermMemory[M]:
    made = _made(memory._machine)
    for option, value in asked.items():
        if value is not None and value != made[option]:
            raise ValueError(
                f"memory {memory.name!r} is open with {option}={made[option]!r}, not {value!r}"
            )
    return memory
