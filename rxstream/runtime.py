"""The runtime: a model, a store, and the lanes on which they work."""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, get_args

import anyio
import anyio.to_thread

from ._engine import Engine
from ._machine import Isolation, Machine, OnMemoryFailure
from ._memorize import Durability
from ._open import open_memory
from ._promise import Pending
from ._wake import elsewhere
from .errors import ClosedError, VersionConflict
from .hooks import report
from .lanes import Lanes, call, refuse_to_wait
from .memory import ShortTermMemory
from .scheduling import Greedy, Policy
from .snapshot import Snapshot, read_file
from .stores import open_store
from .stores.memory import MemoryStore
from .stores.rules import check_key

if TYPE_CHECKING:
    from types import TracebackType

    from .model import ReactiveModel
    from .snapshot import Kind
    from .store import Store

M = TypeVar("M")
logger = logging.getLogger("rxstream")


class _Core:
    """What must be shut down. It does not refer to the Runtime: a dropped one is noticed."""

    def __init__(self, engine: Engine, owns_store: bool) -> None:
        self.engine, self.owns_store = engine, owns_store
        self.lock = threading.Lock()
        self.machines: dict[str, Machine] = {}
        self.closing = False
        self.closed: Pending[bool] = Pending()

    def close(self, grace: float | None, drain: bool) -> bool:
        with self.lock:
            first, self.closing = not self.closing, True
            machines = list(self.machines.values())
        if not first:
            return self.closed.result(grace)
        engine, whole = self.engine, True
        try:
            ends = None if grace is None else time.monotonic() + grace
            for machine in machines:
                machine.close(drain=drain)
            for machine in machines:
                idle: Pending[None] = Pending()
                machine.when_idle(lambda idle=idle: idle.resolve(None))  # type: ignore[misc]
                if not self._wait(idle, ends):
                    whole = False
                    logger.warning("memory %r was still busy when the grace ended", machine.name)
                    machine.abandon(ClosedError("the runtime was closed"))
            for machine in machines:
                try:
                    if not self._wait(machine.memorizer.persister.flush(), ends):
                        whole = False
                        logger.warning("memory %r was not stored in time", machine.name)
                except Exception as error:
                    whole = False
                    logger.warning(
                        "version %d of memory %r could not be stored (%s); its interaction log has "
                        "what the next start needs",
                        machine.memorizer.version,
                        machine.name,
                        error,
                    )
            for machine in machines:
                machine.shut()
            if self.owns_store:
                engine.on_io(engine.store.close)
            engine.lanes.run()
            late = engine.lanes.close(_left(ends))
            if late:
                whole = False
                logger.warning("lanes still busy at the end: %s", ", ".join(late))
        finally:
            self.closed.resolve(whole)
        return whole

    def _wait(self, pending: Pending[Any], ends: float | None) -> bool:
        self.engine.lanes.run()
        done = threading.Event()
        pending.when_done(done.set)
        if not done.wait(0.0 if self.engine.lanes.inline else _left(ends)):
            return False
        pending.result()
        return True


def _left(ends: float | None) -> float | None:
    return None if ends is None else max(0.0, ends - time.monotonic())


_cores: weakref.WeakSet[_Core] = weakref.WeakSet()


def _after_fork() -> None:
    for core in list(_cores):
        core.engine.forked = True


def _at_exit() -> None:
    for core in list(_cores):
        if not core.engine.forked and not core.closing:
            core.close(5.0, False)


def _dropped(core: _Core) -> None:
    # A finaliser may interrupt any thread anywhere: no locks here, so closing happens elsewhere.
    if not core.closing and not core.engine.forked:
        warnings.warn(
            "a Runtime was dropped without being closed; use 'with Runtime(...)'",
            ResourceWarning,
            stacklevel=2,
        )
        elsewhere(lambda: core.close(30.0, False))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


class _OnLaneError:
    """What a lane does with an error that nobody handled: report it, and go on."""

    def __init__(self) -> None:
        self.core: weakref.ref[_Core] | None = None

    def __call__(self, error: BaseException) -> None:
        report(error)
        core = self.core() if self.core is not None else None
        if core is not None and not isinstance(error, Exception):
            # Somebody wants the program to end, which a lane cannot do: it ends the runtime.
            elsewhere(lambda: core.close(30.0, False))


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
        grace: float | None = 30.0,
        lanes: Lanes | None = None,
    ) -> None:
        """``store`` is an address such as ``sqlite:///path`` (closed with the runtime), or a store
        (left open); None keeps memories only while the runtime lives.

        ``durability`` says when a version is stored; the interaction log is always written
        first, so no setting loses an interaction that was acknowledged. ``sync``: before ``MemoryUpdated``.
        ``async``: in the background, only the newest. ``close``: on ``flush`` and at the end.
        ``policy`` orders the work, ``max_queued`` bounds the queries waiting in all memories,
        ``grace`` bounds closing. ``lanes`` are for tests (see ``rxstream.testing.Lab``).

        Raises StoreUnavailable, ValueError.
        """
        if durability not in get_args(Durability):
            known = ", ".join(get_args(Durability))
            raise ValueError(f"durability must be one of {known}, not {durability!r}")
        if model.max_batch < 1:
            raise ValueError(f"the model's max_batch must be >= 1, not {model.max_batch}")
        owns = store is None or isinstance(store, str)
        opened = MemoryStore() if store is None else open_store(store)
        on_error = _OnLaneError()
        if lanes is None:
            lanes = Lanes.threads(thread_safe=model.thread_safe, on_error=on_error)
        engine = Engine(model, opened, lanes, policy or Greedy(), max_queued=max_queued)
        self._durability, self._grace = durability, grace
        self._core = core = _Core(engine, owns)
        self._memories: dict[str, ShortTermMemory[M]] = {}
        self._opening: dict[str, Pending[None]] = {}
        self._run_id = secrets.token_hex(6)
        on_error.core = weakref.ref(core)
        _cores.add(core)
        weakref.finalize(self, _dropped, core).atexit = False

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
        durability: Durability | None = None,
        isolation: Isolation | None = None,
        on_memory_failure: OnMemoryFailure | None = None,
    ) -> ShortTermMemory[M]:
        """The memory of that name: the one open already, or from the store, or a new one.

        What the log has beyond the stored version is folded in first. ``snapshot`` (a file or a
        Snapshot) is what a memory begins with that the store does not know: a system prompt.
        ``isolation="serial"`` (default) lets one interaction run at a time; with ``"snapshot"``
        conversations are answered beside each other, and their updates follow one another.
        ``on_memory_failure="halt"`` refuses queries after a failed update until ``resume()``.

        Waits for store and model; on an event loop use ``amemory``. Raises StoreUnavailable,
        StoreCorrupt, SnapshotCorrupt, SnapshotIncompatible, MemoryUpdateError: then nothing changed
        in the store. BackpressureDeadlock on a lane, ClosedError, ValueError.
        """
        engine = self._core.engine
        engine.check()
        check_key(name)
        asked = {
            "durability": durability,
            "isolation": isolation,
            "on_memory_failure": on_memory_failure,
        }
        for option, kinds in _OPTIONS.items():
            if asked[option] is not None and asked[option] not in kinds:
                raise ValueError(
                    f"{option} must be one of {', '.join(kinds)}, not {asked[option]!r}"
                )
        while True:
            with self._core.lock:
                if self._core.closing:
                    raise ClosedError("the runtime is closed")
                found, other = self._memories.get(name), self._opening.get(name)
                if found is None and other is None:
                    self._opening[name] = mine = Pending[None]()
                    break
            if found is not None:
                return _same(found, asked)
            assert other is not None
            engine.may_open()
            done = threading.Event()
            other.when_done(done.set)
            done.wait()  # then look again: it is open now, or it is for us to try
        try:
            engine.may_open()
            if isinstance(snapshot, (str, os.PathLike)):
                snapshot = read_file(snapshot)
            return self._open(name, snapshot, "import", asked)
        finally:
            with self._core.lock:
                del self._opening[name]
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
        )
        machine = Machine(
            name,
            core.engine,
            start,
            isolation=asked["isolation"] or "serial",
            on_memory_failure=asked["on_memory_failure"] or "continue",
            run_id=self._run_id,
        )
        memory = ShortTermMemory(self, machine)
        with core.lock:
            if core.closing:
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
        if name in self._memories or call(engine.lanes.io, lambda: engine.store.head(name)):
            raise VersionConflict(
                name, None, call(engine.lanes.io, lambda: engine.store.head(name))
            )
        machine = memory._machine
        asked = {
            "durability": machine.memorizer.durability,
            "isolation": machine.isolation,
            "on_memory_failure": machine.on_memory_failure,
        }
        return self._open(name, memory.snapshot(), "fork", asked)

    # Watching and closing

    def stats(self) -> dict[str, Any]:
        """Counters for people who look what it is doing; not an interface for programs."""
        core = self._core
        with core.lock:
            machines = dict(core.machines)
        return {
            "iterations": core.engine.iterations,
            "steps": core.engine.steps,
            "tokens": core.engine.tokens,
            "prefills": core.engine.prefills,
            "updates": core.engine.updates,
            "queued": core.engine.queued,
            "decoding": core.engine.decoding,
            "memories": {
                name: {"version": m.memorizer.version, "stored": m.memorizer.persister.stored}
                for name, m in machines.items()
            },
        }

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
}


def _same(memory: ShortTermMemory[M], asked: dict[str, Any]) -> ShortTermMemory[M]:
    machine = memory._machine
    made = {
        "durability": machine.memorizer.durability,
        "isolation": machine.isolation,
        "on_memory_failure": machine.on_memory_failure,
    }
    for option, value in asked.items():
        if value is not None and value != made[option]:
            raise ValueError(
                f"memory {memory.name!r} is open with {option}={made[option]!r}, not {value!r}"
            )
    return memory
