"""The short-term memory: a versioned value that conversations read and interactions update."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar, cast, get_args

from reactivex import abc

from ._checks import check_text, check_type
from ._line import Busy, Channel
from ._persist import MemoryInfo, MemoryPersisted, PersistFailed
from ._replay import check_fingerprint
from .conversation import CAPACITY, Conversation
from .errors import ClosedError
from .lanes import call
from .snapshot import Snapshot
from .stream import EventStream

if TYPE_CHECKING:
    from ._cursor import Cursor, InlineCursor, Overflow
    from ._machine import Machine
    from ._promise import Pending
    from .events import Event
    from .runtime import Runtime

__all__ = ["MemoryInfo", "MemoryPersisted", "PersistFailed", "ShortTermMemory"]

M = TypeVar("M")


class ShortTermMemory(EventStream[MemoryInfo], abc.ObserverBase["Snapshot"], Generic[M]):
    """One memory; made by ``runtime.memory(name)``. Any thread may use it.

    It is a subject. As an observable it gives the current version on subscription and every later
    one; as an observer, ``on_next(snapshot)`` queues a restore. The value is immutable: an update
    makes a new one, and a failed, cancelled or crashed update leaves the old one in place.
    """

    def __init__(self, runtime: Runtime[M], machine: Machine) -> None:
        super().__init__(machine.memorizer.persister.changes)
        self._runtime, self._machine = runtime, machine
        self._conversations: dict[str, Conversation] = {}
        self._guard = threading.Lock()
        self._events: EventStream[Event] | None = None
        self._persisted = EventStream(machine.memorizer.persister.outcomes)

    def __repr__(self) -> str:
        return f"<ShortTermMemory {self.name!r} version {self.version}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a memory cannot be pickled; send memory.snapshot() instead")

    @property
    def name(self) -> str:
        """Its name, in the runtime and in the store."""
        return self._machine.name

    @property
    def tenant(self) -> str:
        """Whose it is, for fair shares and limits."""
        return self._machine.tenant.name

    @property
    def value(self) -> M:
        """The current value. It never changes; the next version is another value."""
        return cast("M", self._machine.memorizer.value)

    @property
    def version(self) -> int:
        """Counts up with every update and restore; 0 for a memory in which nothing was said."""
        return self._machine.memorizer.version

    @property
    def changes(self) -> EventStream[MemoryInfo]:
        """The current version, then every new one: what subscribing to the memory gives."""
        return self

    @property
    def events(self) -> EventStream[Event]:
        """All events of all its conversations, in one order, from the subscription on.

        It never ends with an error; it completes when the memory is closed. Kept are the newest
        4096 events since the first use of this property.
        """
        with self._machine:
            if self._machine.log is None:
                self._machine.log = self._machine.engine.log(CAPACITY)
                if self._machine.closed:
                    self._machine.end(self._machine.log)
            if self._events is None:
                self._events = EventStream(self._machine.log)
        return self._events

    @property
    def persisted(self) -> EventStream[MemoryPersisted | PersistFailed]:
        """What became of the versions in the store."""
        return self._persisted

    def info(self) -> MemoryInfo:
        """The current version, without its value."""
        with self._machine:
            return self._machine.memorizer.persister.info()

    def conversation(
        self,
        name: str = "main",
        *,
        busy: Busy | None = None,
        max_pending: int | None = None,
        read_only: bool | None = None,
        label: str | None = None,
    ) -> Conversation:
        """The conversation of that name. What is None is the default, or as it was made.

        ``busy`` says what a query does that comes while another runs: ``enqueue`` (default) waits,
        ``reject`` is refused, ``switch`` cancels the others of this conversation, ``parallel`` runs
        beside them and needs ``runtime.memory(..., isolation="snapshot")``. ``max_pending`` (16)
        bounds the queue. ``read_only`` answers without remembering. ``label`` is put before every
        query, so that conversations on one memory can be told apart. Raises ValueError.
        """
        if busy is not None and busy not in get_args(Busy):
            raise ValueError(f"busy must be one of {', '.join(get_args(Busy))}, not {busy!r}")
        if busy == "parallel" and self._machine.isolation != "snapshot":
            raise ValueError(
                "busy='parallel' needs a memory opened with isolation='snapshot'; with 'serial' "
                "there are enqueue, reject and switch"
            )
        if max_pending is not None and max_pending < 1:
            raise ValueError(f"max_pending must be >= 1, not {max_pending}")
        check_text(name, "the name of a conversation")
        if label is not None:
            check_text(label, "a label", shortest=0)
        self._machine.engine.check()
        asked = {"busy": busy, "max_pending": max_pending, "read_only": read_only, "label": label}
        with self._guard:
            found = self._conversations.get(name)
            if found is None:
                found = self._conversations[name] = self._make(name, asked)
            for option, value in asked.items():
                made = getattr(found._channel, option)
                if value is not None and value != made:
                    raise ValueError(
                        f"conversation {name!r} exists with {option}={made!r}, not {value!r}"
                    )
        return found

    def _make(self, name: str, asked: dict[str, Any]) -> Conversation:
        options = {"busy": "enqueue", "max_pending": 16, "read_only": False, "label": ""}
        options.update((k, v) for k, v in asked.items() if v is not None)
        channel = Channel(name, **options)  # type: ignore[arg-type]
        with self._machine:
            self._machine.channels[name] = channel
        return Conversation(self, self._machine, channel)

    def snapshot(self) -> Snapshot:
        """The current version at rest. Waits for at most a call of the model, never for an answer.

        To write it to a file: ``rxstream.snapshot.write_file(path, memory.snapshot())``.
        """
        machine = self._machine
        machine.engine.check()
        memorizer = machine.memorizer
        with machine:
            value, version = memorizer.value, memorizer.version
            log_seq, keys = memorizer.log_seq, tuple(memorizer.keys)
        try:
            state = call(machine.engine.lanes.memory, partial(machine.engine.model.dump, value))
        except ClosedError:
            raise ClosedError("the runtime is closed; the store has the version it had") from None
        return memorizer.snapshot_of(state, version=version, log_seq=log_seq, keys=keys)

    def restore(self, snapshot: Snapshot) -> Pending[int]:
        """Queue the replacement of the value; the result is the new version.

        It waits for interactions that were asked before, and is committed to the store before it
        shows. Raises SnapshotIncompatible for another model's snapshot, ClosedError.
        """
        check_type(snapshot, Snapshot, "what is restored")
        self._machine.engine.check()
        check_fingerprint(self._machine.engine, snapshot)
        return self._machine.memorizer.restorer.ask(snapshot)

    def fork(self, name: str) -> ShortTermMemory[M]:
        """A new memory that begins with this one's current value; neither sees the other's future.

        Waits for the store. Raises VersionConflict when the store knows that name already.
        """
        return self._runtime._memories.fork(self._runtime, self, name)

    def flush(self) -> Pending[int | None]:
        """Bring the current version to the store; the result is the version that it then holds.

        Starts at once; wait with ``.result()`` or ``await``. Raises there what the store raised.
        """
        self._machine.engine.check()
        return self._machine.memorizer.persister.flush()

    def abort_update(self) -> bool:
        """End the running memory update; memory keeps its version. False when there is none."""
        self._machine.engine.check()
        return self._machine.memorizer.abort()

    def resume(self) -> None:
        """Go on after a failed update halted this memory (``on_memory_failure="halt"``)."""
        self._machine.engine.check()
        self._machine.resume()

    # A state stream: every reader begins with the current version

    def _subscriber(self, *handlers: Any) -> InlineCursor[MemoryInfo]:
        return self._log.subscribe(*handlers, replay=1)

    def _reader(
        self,
        overflow: Overflow | None,
        start: int | None,
        replay: int | None,
        block_timeout: float | None,
    ) -> Cursor[MemoryInfo]:
        if start is None and replay is None:
            replay = 1
        return super()._reader(overflow, start, replay, block_timeout)

    # As an observer of snapshots

    def on_next(self, value: Snapshot) -> None:
        """Queue a restore. Its outcome shows in ``events``."""
        self.restore(value)

    def on_error(self, error: Exception) -> None:
        """The source of snapshots failed: nothing happens to the memory."""

    def on_completed(self) -> None:
        """The source of snapshots ended: nothing happens to the memory."""
