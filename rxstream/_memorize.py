"""From a complete answer to the next version of a memory.

The order that makes a crash harmless: the interaction is appended to the store's log, durably;
encoder and memory attention compute the next value beside it; when both are there the version
counts up. Whatever fails before leaves value and version as they were.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ._commit import Committer
from ._persist import Persister
from ._rebase import Rebaser
from ._recorder import Recorder
from ._replay import KEYS_KEPT, note_key
from ._restore import Restorer
from ._turn import Phase, Turn
from .errors import MemoryUpdateError, SnapshotError, VersionConflict
from .events import (
    ErrorInfo,
    MemoryFailed,
    MemoryUpdated,
    MemoryUpdating,
)
from .snapshot import Kind, Snapshot

if TYPE_CHECKING:
    from ._machine import Machine

Durability = Literal["sync", "async", "close"]
OnConflict = Literal["fail", "rebase"]

_UNSET: Any = object()
_STALE = (
    "another process writes to this memory; release and open it again, or open it with "
    "on_conflict='rebase'"
)


@dataclass(kw_only=True)
class Start:
    """What a memory begins with."""

    value: Any
    version: int = 0
    stored: int | None = None
    """Newest version in the store."""
    digest: str = ""
    log_seq: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    """Idempotency key -> version in which it was applied, oldest first."""
    durability: Durability = "async"
    on_conflict: OnConflict = "fail"


class Memorizer:
    """Value, version and updates of one memory. Guarded by its machine's lock."""

    def __init__(self, machine: Machine, start: Start) -> None:
        self.machine = machine
        self.engine = machine.engine
        self.value, self.version, self.digest = start.value, start.version, start.digest
        self.log_seq, self.keys = start.log_seq, start.keys
        self.durability: Durability = start.durability
        self.on_conflict: OnConflict = start.on_conflict
        self.stale = False
        """Whether another process has written to the log or the store meanwhile."""
        self.updating: Turn | None = None
        self.queue: deque[Turn] = deque()
        self.persister, self.committer = Persister(self, start.stored), Committer(self)
        self.restorer, self.rebaser = Restorer(self), Rebaser(self)
        self.recorder = Recorder(self, start.log_seq)

    # Updates, lock held unless said otherwise

    def snapshot_of(
        self,
        state: bytes,
        *,
        version: int,
        log_seq: int,
        keys: tuple[str, ...],
        kind: Kind = "update",
    ) -> Snapshot:
        """A version as it goes to the store."""
        return Snapshot(
            memory_id=self.machine.name,
            version=version,
            fingerprint=self.engine.model.fingerprint,
            state=state,
            log_seq=log_seq,
            parent_digest=self.persister.digest,
            applied_keys=keys[-KEYS_KEPT:],
            kind=kind,
        )

    def record_only(self, turn: Turn) -> None:
        """The answer goes on record, but not into memory."""
        if turn.answer is not None and turn.answer.says_something:
            append = partial(self.recorder.append, turn, remembered=False)
            self.machine.after(partial(self.engine.on_io, append))
        else:
            self.answer(turn)

    def answer(self, turn: Turn) -> None:
        """Whoever waits for the answer gets it."""
        assert turn.answer is not None
        self.machine.settle(partial(turn.promise.resolve, turn.answer))

    def enqueue(self, turn: Turn) -> None:
        """The answer is complete: append it to the log, and compute the update in its turn."""
        turn.value = _UNSET
        # Last: the thread that appends would take the interpreter from the one that wakes readers.
        append = partial(self.recorder.append, turn, remembered=True)
        self.machine.settle(partial(self.engine.on_io, append))
        if self.updating is None:
            self._start(turn)
        else:
            self.queue.append(turn)

    def _start(self, turn: Turn) -> None:
        machine = self.machine
        self.updating = turn
        turn.phase, turn.base_version = Phase.UPDATING, self.version
        turn.since = turn.answered_at
        machine.emit(turn, MemoryUpdating(**machine.head(turn), base_version=self.version))
        machine.after(partial(self.engine.update, turn))

    def computed(self, turn: Turn, value: Any) -> None:
        """Takes the lock. The model is done; too late when the update has ended already."""
        with self.machine:
            if turn.phase is Phase.UPDATING:
                turn.value = value
                self.try_commit(turn)

    def compute_failed(self, turn: Turn, error: Exception) -> None:
        """Takes the lock. Updates are pure, so one retry; never for what cannot turn out well."""
        with self.machine:
            if turn.phase is not Phase.UPDATING:
                return
            turn.tries += 1
            if turn.tries > 1 or isinstance(error, (ArithmeticError, SnapshotError)):
                self.failed(turn, error, "update")
            else:
                self.machine.after(partial(self.engine.update, turn))

    def try_commit(self, turn: Turn) -> None:
        """Lock held. Once record and value are there, unless somebody else has written."""
        if turn.log_error is not None:
            self.failed(turn, turn.log_error, "store")
        elif turn.seq is None or turn.committing or self.rebaser.running:
            return
        elif self.stale:
            self.conflict(turn, VersionConflict(self.machine.name, self.version, None, _STALE))
        elif turn.value is _UNSET:
            return
        elif self.durability == "sync":
            self.committer.start(turn)
        else:
            self.commit(turn, "", durable=False)
            if self.durability == "async":
                self.persister.save()

    def conflict(self, turn: Turn, error: VersionConflict) -> None:
        """Somebody else has written meanwhile."""
        turn.committing, self.stale = False, True
        if self.on_conflict == "rebase":
            self.rebaser.want()
        else:
            self.failed(turn, error, "conflict")

    def release(self) -> None:
        """No commit of an update is under way any more."""
        self.restorer.running = False
        self.machine.dispatch()
        self.machine.check_idle()

    def commit(self, turn: Turn, digest: str, *, durable: bool) -> None:
        """The next version is the memory now."""
        assert turn.seq is not None
        self.value, self.version, self.digest = turn.value, turn.base_version + 1, digest
        self.log_seq = turn.seq
        note_key(self.keys, turn.key, self.version)
        self.updated(turn, self.version, durable=durable)
        self.persister.note_changed()

    def updated(
        self,
        turn: Turn,
        version: int,
        *,
        durable: bool = True,
        cause: Literal["interaction", "rebase"] = "interaction",
    ) -> None:
        """``version``, which is current or about to be, has it."""
        machine = self.machine
        if turn.phase is Phase.ANSWERED:  # written by a rebase before its turn came
            updating = MemoryUpdating(**machine.head(turn), base_version=version - 1)
            machine.emit(turn, updating)
        event = MemoryUpdated(
            **machine.head(turn),
            version=version,
            digest=self.digest if version == self.version else "",
            durable=durable,
            seconds=self.engine.now() - turn.answered_at,
            cause=cause,
        )
        machine.emit(turn, event)
        self._over(turn, None)

    # Of the rebaser

    def go_on(self) -> None:
        """There is another value now."""
        turn = self.updating
        if turn is not None:
            turn.base_version = self.version
            if turn.value is not _UNSET:
                turn.value = _UNSET
                self.machine.after(partial(self.engine.update, turn))
        elif self.queue:
            self._start(self.queue.popleft())
        self.machine.dispatch()
        self.machine.check_idle()

    def abort(self) -> bool:
        """Takes the lock. Ends the running update; False when there is none."""
        with self.machine:
            if self.updating is None:
                return False
            self.failed(self.updating, MemoryUpdateError("aborted"), "aborted")
            return True

    def failed(self, turn: Turn, error: Exception, reason: str) -> None:
        """The update ends without effect. Does nothing when it has ended already."""
        machine = self.machine
        if turn.phase is Phase.ANSWERED:  # still waits for another update
            if turn in self.queue:
                self.queue.remove(turn)
            event = MemoryUpdating(**machine.head(turn), base_version=self.version)
            machine.emit(turn, event)
            turn.base_version = self.version
        elif turn.phase is not Phase.UPDATING:
            return
        failed = MemoryFailed(
            **machine.head(turn),
            base_version=turn.base_version,
            error=ErrorInfo.of(error),
            reason=reason,
        )
        machine.emit(turn, failed)
        wrapped = machine.explain(turn, failed, f"memory update ({reason})")
        self.recorder.forget(turn)
        turn.value = _UNSET
        if turn.committing:  # what the store holds is not known until that call returns
            self.restorer.running = True
        if machine.on_memory_failure == "halt":
            machine.halted = True
        self.answer(turn)
        self._over(turn, wrapped)

    def _over(self, turn: Turn, error: Exception | None) -> None:
        if self.updating is turn:
            self.updating = None
            if self.queue:
                self._start(self.queue.popleft())
        turn.value = None
        self.machine.finish(turn, error)
