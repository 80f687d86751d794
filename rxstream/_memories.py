"""The memories of a runtime: those that are open, and those that somebody opens just now."""

from __future__ import annotations

import os
import secrets
import threading
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar, get_args

from ._checks import check_type
from ._machine import Isolation, Machine, OnMemoryFailure
from ._memorize import Durability, OnConflict
from ._open import open_memory
from ._promise import Pending
from .errors import ClosedError, VersionConflict
from .lanes import call
from .memory import ShortTermMemory
from .snapshot import Snapshot, read_file
from .stores.rules import check_key

if TYPE_CHECKING:
    from ._core import Core
    from .runtime import Runtime
    from .snapshot import Kind

M = TypeVar("M")


class Asked(TypedDict):
    """What a memory shall be like; None: the default, or as it was made."""

    tenant: str | None
    durability: Durability | None
    isolation: Isolation | None
    on_memory_failure: OnMemoryFailure | None
    on_conflict: OnConflict | None


class MemoryOptions(TypedDict, total=False):
    """The keywords of ``Runtime.memory``."""

    snapshot: Snapshot | str | os.PathLike[str] | None
    tenant: str | None
    durability: Durability | None
    isolation: Isolation | None
    on_memory_failure: OnMemoryFailure | None
    on_conflict: OnConflict | None


_KINDS: dict[str, tuple[str, ...]] = {
    "durability": get_args(Durability),
    "isolation": get_args(Isolation),
    "on_memory_failure": get_args(OnMemoryFailure),
    "on_conflict": get_args(OnConflict),
}


class Memories(Generic[M]):
    """By name. One thread at a time opens or closes a name; others that want it wait."""

    def __init__(self, core: Core, durability: Durability) -> None:
        self._core: Core = core
        self._durability: Durability = durability
        self._open: dict[str, ShortTermMemory[M]] = {}
        self._claimed: dict[str, Pending[None]] = {}

    def get(
        self,
        runtime: Runtime[M],
        name: str,
        snapshot: Snapshot | str | os.PathLike[str] | None,
        asked: Asked,
    ) -> ShortTermMemory[M]:
        """See ``Runtime.memory``."""
        check_key(name)
        if asked["tenant"] is not None:
            check_key(asked["tenant"])
        options: dict[str, Any] = {**asked}
        for option, kinds in _KINDS.items():
            if options[option] is not None and options[option] not in kinds:
                raise ValueError(
                    f"{option} must be one of {', '.join(kinds)}, not {options[option]!r}"
                )
        found = self._claim(name)
        if found is not None:
            return _same(found, options)
        try:
            self._core.engine.may_open()
            if isinstance(snapshot, (str, os.PathLike)):
                snapshot = read_file(snapshot)
            elif snapshot is not None:
                check_type(snapshot, Snapshot, "the snapshot of a memory")
            return self._make(runtime, name, snapshot, "import", asked)
        finally:
            self._unclaim(name)

    def fork(
        self, runtime: Runtime[M], memory: ShortTermMemory[M], name: str
    ) -> ShortTermMemory[M]:
        """See ``ShortTermMemory.fork``."""
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
            return self._make(runtime, name, memory.snapshot(), "fork", asked)
        finally:
            self._unclaim(name)

    def release(self, name: str, ends: float | None, drain: bool) -> bool:
        """See ``Runtime.release``; ``ends`` on the monotonic clock."""
        core = self._core
        with core.lock:
            memory = self._open.get(name)
            if memory is None or core.closing:
                return True
            del self._open[name]
            self._claimed[name] = Pending()
        try:
            return core.end([memory._machine], ends, drain)
        finally:
            with core.lock:
                core.machines.pop(name, None)
            core.engine.tenants.leave(memory._machine.tenant)
            self._unclaim(name)

    def _claim(self, name: str) -> ShortTermMemory[M] | None:
        """The memory that is open, or None: then nobody else opens it until ``_unclaim``."""
        while True:
            with self._core.lock:
                if self._core.closing:
                    raise ClosedError("the runtime is closed")
                found, other = self._open.get(name), self._claimed.get(name)
                if found is None and other is None:
                    self._claimed[name] = Pending()
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
            mine = self._claimed.pop(name)
        mine.resolve(None)

    def _make(
        self,
        runtime: Runtime[M],
        name: str,
        snapshot: Snapshot | None,
        kind: Kind,
        asked: Asked,
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
        memory = ShortTermMemory(runtime, machine)
        with core.lock:
            if core.closing:
                tenants.leave(machine.tenant)
                raise ClosedError("the runtime is closed")
            core.machines[name] = machine
            self._open[name] = memory
        if start.durability != "close":
            with machine:
                # What was redone just now need not be redone again.
                machine.memorizer.persister.save_if_newer()
        return memory


def _taken(name: str, version: int) -> VersionConflict:
    told = f"exists already, at version {version}; fork to another name"
    return VersionConflict(name, None, version, told)


def _made(machine: Machine) -> Asked:
    return {
        "tenant": machine.tenant.name,
        "durability": machine.memorizer.durability,
        "isolation": machine.isolation,
        "on_memory_failure": machine.on_memory_failure,
        "on_conflict": machine.memorizer.on_conflict,
    }


def _same(memory: ShortTermMemory[M], asked: dict[str, Any]) -> ShortTermMemory[M]:
    made: dict[str, Any] = {**_made(memory._machine)}
    for option, value in asked.items():
        if value is not None and value != made[option]:
            raise ValueError(
                f"memory {memory.name!r} is open with {option}={made[option]!r}, not {value!r}"
            )
    return memory
