"""Bringing versions to the store in the background: only the newest, again after a failure."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from ._promise import Pending
from .errors import ClosedError, StoreUnavailable, VersionConflict
from .events import ErrorInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._memorize import Memorizer
    from .lanes import Timer
    from .log import EventLog
    from .snapshot import Snapshot

_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPersisted:
    """The store holds this version."""

    kind: Literal["memory_persisted"] = "memory_persisted"
    version: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersistFailed:
    """This version could not be stored. Nothing is lost: the interaction log has what it needs."""

    kind: Literal["persist_failed"] = "persist_failed"
    version: int
    error: ErrorInfo
    retry_in: float | None
    """Seconds until the next try; None when trying again would not help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryInfo:
    """One version of a memory, without its value."""

    memory: str
    version: int
    digest: str
    """Of its snapshot; "" when none was made yet."""
    stored: int | None
    """Newest version that the store held then; None for none."""


class Persister:
    """What the store has of one memory. Guarded by its machine's lock unless said otherwise."""

    def __init__(self, memorizer: Memorizer, stored: int | None) -> None:
        self._memorizer, self._machine = memorizer, memorizer.machine
        self._engine = memorizer.engine
        self.stored, self.digest = stored, memorizer.digest
        self.outcomes: EventLog[MemoryPersisted | PersistFailed] = self._engine.log(64)
        self.changes: EventLog[MemoryInfo] = self._engine.log(64)
        self._saving = False
        self._tries = 0
        self._timer: Timer | None = None
        """Of the next try."""
        self._rest: Timer | None = None
        self._waiting: list[tuple[int, Pending[int]]] = []
        self._in_doubt: Snapshot | None = None
        self.changes.append(self.info())

    def info(self) -> MemoryInfo:
        memorizer = self._memorizer
        return MemoryInfo(
            memory=self._machine.name,
            version=memorizer.version,
            digest=memorizer.digest,
            stored=self.stored,
        )

    def note_changed(self) -> None:
        """There is a new version."""
        self._machine.push(self.changes, self.info())

    def note_stored(self, snapshot: Snapshot) -> None:
        """The store holds ``snapshot`` now."""
        self.stored, self.digest, self._tries = snapshot.version, snapshot.digest, 0
        if self._memorizer.version == snapshot.version:
            self._memorizer.digest = snapshot.digest
        event = MemoryPersisted(version=snapshot.version, digest=snapshot.digest)
        self._machine.push(self.outcomes, event)
        waiting, self._waiting = self._waiting, []
        for version, pending in waiting:
            if version <= snapshot.version:
                self._machine.settle(partial(pending.resolve, snapshot.version))
            else:
                self._waiting.append((version, pending))

    def commit(self, snapshot: Snapshot) -> None:
        """On the io lane, without the lock. May raise what the store raises."""
        self._engine.store.commit(snapshot, expect=self.stored)
        # Hashes all tensors, unless the store did: here, since later would be under the lock, for
        # which the decode lane waits at every token.
        _ = snapshot.digest

    def _commit_once(self, snapshot: Snapshot) -> Snapshot:
        """``commit``; returns what the store holds then.

        A store that was lost after it had stored a version, before it said so, has a version of
        ours that we do not know of. That is no conflict.
        """
        try:
            self.commit(snapshot)
        except StoreUnavailable:
            self._in_doubt = snapshot
            raise
        except VersionConflict as conflict:
            ours = self._in_doubt
            if ours is None or conflict.found != ours.version:
                raise
            store = self._engine.store
            if store.info(ours.memory_id, ours.version).digest != ours.digest:
                raise
            if ours.version >= snapshot.version:
                return ours
            store.commit(snapshot, expect=ours.version)
        self._in_doubt = None
        return snapshot

    def flush(self) -> Pending[int | None]:
        """Takes the lock. Done when the store holds the version that is current now."""
        pending: Pending[int | None] = Pending(self._engine.may_wait)
        with self._machine:
            version = self._memorizer.version
            if version <= (self.stored or 0):
                pending.resolve(self.stored)
            else:
                self._waiting.append((version, pending))  # type: ignore[arg-type]
                for timer in (self._timer, self._rest):
                    if timer is not None:
                        timer.cancel()
                self._timer = self._rest = None
                self._begin()
        return pending

    def save_if_newer(self) -> None:
        """Save unless the store is up to date, or that is under way."""
        if self._memorizer.version > (self.stored or 0) and self._timer is None:
            self._begin()

    def save(self) -> None:
        """Bring the newest version to the store soon, unless that is under way.

        After a rest: a new version is when the next query comes, and what stores it would take
        from its prefill. Of versions that follow closely only the last is worth it.
        """
        if self._saving or self._timer is not None or self._rest is not None:
            return
        if self._engine.lanes.rest and not self._waiting:
            # Last: readers learn of the new version before the clock is woken.
            self._machine.settle(self._begin_rest)
        else:
            self._begin()

    def _begin_rest(self) -> None:
        with self._machine:
            if self._saving or self._timer is not None or self._rest is not None:
                return
            if not self._waiting:
                with suppress(ClosedError):
                    rest, clock = self._engine.lanes.rest, self._engine.lanes.clock
                    self._rest = clock.submit_later(rest, self._rested)
                    return
            self.save_if_newer()

    def _rested(self) -> None:
        with self._machine:
            if self._rest is not None:  # else somebody waits, and it has begun
                self._rest = None
                self.save_if_newer()

    def _begin(self) -> None:
        if not self._saving:
            self._saving = True
            # Last: readers learn of the new version before threads that store it take their core.
            self._machine.settle(partial(self._engine.save, self._dump))

    def _dump(self) -> None:
        """On the lane for dumps; the rest is done on the io lane."""
        memorizer, model = self._memorizer, self._engine.model
        with self._machine:
            value, version = memorizer.value, memorizer.version
            log_seq, keys = memorizer.log_seq, tuple(memorizer.keys)
            if version <= (self.stored or 0):  # a restore has come before
                self._saved()
                return
        try:
            state = model.dump(value)
        except Exception as exc:
            self._failed(exc)
            return
        make = partial(memorizer.snapshot_of, state, version=version, log_seq=log_seq, keys=keys)
        self._engine.on_io(partial(self._store, make))

    def _store(self, make: Callable[[], Snapshot]) -> None:
        """On the io lane."""
        try:
            snapshot = make()
            snapshot = self._commit_once(snapshot)
        except Exception as exc:
            self._failed(exc)
            return
        with self._machine:
            self._saved()
            self.note_stored(snapshot)
            if self._memorizer.version > snapshot.version and (
                self._memorizer.durability == "async" or self._waiting
            ):
                self.save()

    def _saved(self) -> None:
        self._saving = False
        self._machine.after(self._engine.saved)

    def _failed(self, error: Exception) -> None:
        memorizer = self._memorizer
        with self._machine:
            self._saved()
            if isinstance(error, VersionConflict) and memorizer.on_conflict == "rebase":
                memorizer.rebaser.want()
            else:
                self.not_stored(error)

    def not_stored(self, error: Exception) -> None:
        """The current version could not be brought to the store; perhaps later."""
        version = self._memorizer.version
        if version <= (self.stored or 0):  # a rebase has come before
            return
        delay: float | None = None
        if not isinstance(error, VersionConflict) and not self._machine.closing:
            delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2**self._tries)
            self._tries += 1
            with suppress(ClosedError):
                self._timer = self._engine.lanes.clock.submit_later(delay, self._again)
        event = PersistFailed(version=version, error=ErrorInfo.of(error), retry_in=delay)
        self._machine.push(self.outcomes, event)
        waiting, self._waiting = self._waiting, []
        for _, pending in waiting:
            self._machine.settle(partial(pending.reject, error))

    def _again(self) -> None:
        with self._machine:
            self._timer = None
            self.save_if_newer()
