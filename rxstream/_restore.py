"""Putting a snapshot in the place of a memory's value, in turn with its queries."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ._promise import Pending
from .errors import ClosedError, VersionConflict
from .events import MemoryUpdated

if TYPE_CHECKING:
    from ._memorize import Memorizer
    from .snapshot import Snapshot


@dataclass(kw_only=True, eq=False)
class _Restore:
    ticket: float
    state: bytes | None
    value: Any
    pending: Pending[int]


class Restorer:
    """The queued restores of one memory. Guarded by its machine's lock unless said otherwise.

    A restore waits for the queries asked before it and goes before those asked after it. It is
    committed to the store before it shows, whatever the durability: a redo of the log would
    otherwise start from the wrong value.
    """

    def __init__(self, memorizer: Memorizer) -> None:
        self._memorizer, self._machine = memorizer, memorizer.machine
        self._engine = memorizer.engine
        self._queue: deque[_Restore] = deque()
        self.running = False

    @property
    def next(self) -> float:
        """Ticket of the first one; infinity when there is none."""
        return self._queue[0].ticket if self._queue else math.inf

    def ask(self, snapshot: Snapshot) -> Pending[int]:
        """Takes the lock. Queue a restore; the result is the new version."""
        machine = self._machine
        pending: Pending[int] = Pending(self._engine.may_wait)
        with machine:
            if machine.closing:
                raise ClosedError(f"memory {machine.name!r} is closed")
            self._queue.append(
                _Restore(
                    ticket=next(machine.tickets), state=snapshot.state, value=None, pending=pending
                )
            )
            machine.dispatch()
        return pending

    def put_back(self) -> None:
        """Commit the current value over a version that the store should not have."""
        self._queue.appendleft(
            _Restore(
                ticket=0,
                state=None,
                value=self._memorizer.value,
                pending=Pending(self._engine.may_wait),
            )
        )
        self._machine.dispatch()

    def refuse(self, error: Exception) -> None:
        """Drop what was queued by users."""
        for restore in list(self._queue):
            if restore.state is not None:
                self._queue.remove(restore)
                self._machine.settle(partial(restore.pending.reject, error))

    def start(self) -> None:
        """Run the first one. The lease must be free."""
        self.running = True
        restore = self._queue.popleft()
        self._machine.after(partial(self._engine.on_memory, partial(self._load, restore)))

    def _load(self, restore: _Restore) -> None:
        """On the memory lane."""
        memorizer, model = self._memorizer, self._engine.model
        try:
            state = restore.state
            if state is None:
                state = model.dump(restore.value)
            else:
                restore.value = model.load(state)
            newest = max(memorizer.version, memorizer.persister.stored or 0)
            snapshot = memorizer.snapshot_of(
                state,
                version=newest + 1,
                log_seq=memorizer.log_seq,
                keys=tuple(memorizer.keys),
                kind="restore",
            )
        except Exception as exc:
            self._end(restore, exc)
            return
        self._engine.on_io(partial(self._store, restore, snapshot))

    def _store(self, restore: _Restore, snapshot: Snapshot) -> None:
        """On the io lane."""
        memorizer, machine = self._memorizer, self._machine
        try:
            memorizer.persister.commit(snapshot)
        except VersionConflict as exc:
            if memorizer.on_conflict == "rebase":
                self._later(restore)
            else:
                self._end(restore, exc)
            return
        except Exception as exc:
            self._end(restore, exc)
            return
        with machine:
            memorizer.persister.note_stored(snapshot)
            first = memorizer.version + 1
            memorizer.value, memorizer.version = restore.value, snapshot.version
            memorizer.digest = snapshot.digest
            memorizer.persister.note_changed()
            if machine.log is not None:
                # One event for each number: the store may have had a version that memory had not.
                for version in range(first, snapshot.version + 1):
                    event = MemoryUpdated(
                        conversation="",
                        interaction="",
                        seq=machine.next_seq(),
                        at=self._engine.time_ns(),
                        version=version,
                        digest=snapshot.digest if version == snapshot.version else "",
                        durable=True,
                        cause="restore",
                    )
                    machine.push(machine.log, event)
            self.running = False
            machine.settle(partial(restore.pending.resolve, snapshot.version))
            machine.dispatch()
            machine.check_idle()

    def _later(self, restore: _Restore) -> None:
        """Again, once we know what another process has written."""
        with self._machine:
            self.running = False
            if restore.state is not None:  # else the rebase does what was to be put back
                self._queue.appendleft(restore)
            self._memorizer.rebaser.want()

    def _end(self, restore: _Restore, error: Exception) -> None:
        with self._machine:
            self.running = False
            self._machine.settle(partial(restore.pending.reject, error))
            self._machine.dispatch()
            self._machine.check_idle()
