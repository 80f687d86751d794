"""Catching up with another process that writes to the same memory (``on_conflict="rebase"``).

The log decides the order: whoever finds a record of somebody else before its own, or a version that
it does not know, takes the newest stored version and folds in, in order, all that the log has
beyond it. So a stored version holds every remembered record up to its ``log_seq``, whoever wrote
it, and no interaction on record is lost between two writers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ._replay import Stored, check_fingerprint, fold, note_key, read, to_fold
from .errors import QueryRejected, VersionConflict
from .events import MemoryUpdated

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._memorize import Memorizer
    from ._turn import Turn
    from .snapshot import Snapshot
    from .store import LogRecord


@dataclass(frozen=True, slots=True)
class _Rebased:
    """The memory as it must become."""

    stored: Stored
    folded: list[LogRecord]
    value: Any
    keys: dict[str, int]
    snapshot: Snapshot | None
    """None when the store holds nothing, and there is nothing to fold."""

    @property
    def version(self) -> int:
        return self.snapshot.version if self.snapshot is not None else 0


class Rebaser:
    """Guarded by its machine's lock unless said otherwise."""

    def __init__(self, memorizer: Memorizer) -> None:
        self._memorizer, self._machine = memorizer, memorizer.machine
        self._engine = memorizer.engine
        self.wanted = self.running = False

    def want(self) -> None:
        """Catch up as soon as no restore is under way; no query begins meanwhile."""
        if not self.running:
            self.wanted = True
            self._machine.dispatch()

    def start(self) -> None:
        """The restorer must be at rest."""
        self.wanted, self.running = False, True
        self._machine.after(partial(self._engine.on_io, self._read))

    def _guarded(self, step: Callable[[], object]) -> None:
        try:
            step()
        except Exception as exc:
            self._failed(exc)

    def _read(self) -> None:
        """On the io lane."""
        self._guarded(lambda: self._fold_later(read(self._engine.store, self._machine.name)))

    def _fold_later(self, stored: Stored, *, repair: bool = False) -> None:
        self._engine.on_memory(partial(self._guarded, partial(self._fold, stored, repair=repair)))

    def _fold(self, stored: Stored, *, repair: bool) -> None:
        """On the memory lane."""
        memorizer, model = self._memorizer, self._engine.model
        base, head = stored.snapshot, stored.head or 0
        if base is None and head:  # deleted: who still holds it must not bring it back
            raise VersionConflict(self._machine.name, memorizer.persister.stored, stored.head)
        if base is None:
            value, keys = model.initial_memory(), {}
        else:
            check_fingerprint(self._engine, base)
            value = model.load(base.state)
            keys = dict.fromkeys(base.applied_keys, base.version)
        folded = to_fold(stored.records, keys)
        value = fold(model, value, folded)
        for version, record in enumerate(folded, head + 1):
            note_key(keys, record.key, version)
        if not folded and not repair:
            self._adopt(_Rebased(stored, folded, value, keys, base))
            return
        snapshot = memorizer.snapshot_of(
            model.dump(value),
            version=head + max(1, len(folded)),
            log_seq=stored.log_seq,
            keys=tuple(keys),
        )
        snapshot = replace(snapshot, parent_digest=base.digest if base is not None else "")
        rebased = _Rebased(stored, folded, value, keys, snapshot)
        self._engine.on_io(partial(self._guarded, partial(self._commit, rebased)))

    def _commit(self, rebased: _Rebased) -> None:
        """On the io lane."""
        assert rebased.snapshot is not None
        try:
            self._engine.store.commit(rebased.snapshot, expect=rebased.stored.head)
        except VersionConflict:
            self._read()  # somebody else was quicker, so there is progress
            return
        _ = rebased.snapshot.digest  # hashes all tensors: here, not under the lock
        # Adopted on the memory lane: no update is computed from the old value at that moment.
        self._engine.on_memory(partial(self._guarded, partial(self._adopt, rebased)))

    def _repair(self, rebased: _Rebased) -> None:
        """On the io lane. An update ended without effect while it was being committed."""
        base = rebased.stored.snapshot
        after = base.log_seq if base is not None else 0
        records = list(self._engine.store.log(self._machine.name, after=after))
        self._fold_later(Stored(rebased.version, base, records), repair=True)

    def _adopt(self, rebased: _Rebased) -> None:
        """On the memory lane."""
        memorizer, log_seq = self._memorizer, rebased.stored.log_seq
        recorder = memorizer.recorder
        with self._machine:
            if any(record.seq in recorder.forgotten for record in rebased.folded):
                repair = partial(self._guarded, partial(self._repair, rebased))
                self._machine.after(partial(self._engine.on_io, repair))
                return
            recorder.forgotten = {seq for seq in recorder.forgotten if seq > log_seq}
            first, self.running = memorizer.version + 1, False
            # An append that came after the log was read has said whether there is more.
            memorizer.stale = memorizer.stale and recorder.last_seq > log_seq
            memorizer.value, memorizer.version = rebased.value, rebased.version
            memorizer.keys, memorizer.log_seq = rebased.keys, log_seq
            if rebased.snapshot is not None:
                memorizer.persister.note_stored(rebased.snapshot)
            if rebased.version >= first:
                memorizer.persister.note_changed()
            turns = self._take_logged(log_seq)
            written = self._versions(rebased, turns)
            for version in range(first, rebased.version + 1):
                if (turn := written.get(version)) is None:
                    self._announce(version)
                else:
                    turns.remove(turn)
                    memorizer.updated(turn, version, cause="rebase")
            for turn in turns:
                told = QueryRejected(
                    "duplicate", f"key {turn.key!r} was applied by another process"
                )
                turn.base_version = memorizer.version
                memorizer.failed(turn, told, "duplicate")
            memorizer.go_on()

    def _take_logged(self, log_seq: int) -> list[Turn]:
        """Those whose records were read, in the order of the log; no longer under way."""
        memorizer = self._memorizer
        turns = [turn for turn in (memorizer.updating, *memorizer.queue) if turn is not None]
        taken = [turn for turn in turns if turn.seq is not None and turn.seq <= log_seq]
        if memorizer.updating in taken:
            memorizer.updating = None
        if any(turn.committing for turn in taken):  # no restore until that call has returned
            memorizer.restorer.running = True
        memorizer.queue = deque(turn for turn in memorizer.queue if turn not in taken)
        return sorted(taken, key=lambda turn: turn.seq or 0)

    def _versions(self, rebased: _Rebased, turns: list[Turn]) -> dict[int, Turn]:
        """In which version each of our interactions went into memory."""
        head = rebased.stored.head or 0
        places = {record.seq: head + n for n, record in enumerate(rebased.folded, 1)}
        base = rebased.stored.snapshot
        known = base.log_seq if base is not None else 0
        others = [turn for turn in turns if turn.seq is not None and turn.seq <= known]
        # Written by the other process: in log order, and nothing of ours came after them.
        found = {head - n: turn for n, turn in enumerate(reversed(others))}
        ours = {places[turn.seq]: turn for turn in turns if turn.seq in places}
        return found | ours

    def _announce(self, version: int) -> None:
        machine, memorizer = self._machine, self._memorizer
        if machine.log is not None:
            event = MemoryUpdated(
                conversation="",
                interaction="",
                seq=machine.next_seq(),
                at=self._engine.time_ns(),
                version=version,
                digest=memorizer.digest if version == memorizer.version else "",
                durable=True,
                cause="rebase",
            )
            machine.push(machine.log, event)

    def _failed(self, error: Exception) -> None:
        with self._machine:
            self.running = False
            self._blame(error)
            self._machine.dispatch()
            self._machine.check_idle()

    def _blame(self, error: Exception) -> None:
        """Memory stays: the interaction that needed more fails, versions are stored later."""
        memorizer = self._memorizer
        turn = memorizer.updating
        if turn is not None and turn.seq is not None:
            if memorizer.stale:
                reason = "conflict" if isinstance(error, VersionConflict) else "store"
                memorizer.failed(turn, error, reason)
            else:
                memorizer.try_commit(turn)
        memorizer.persister.not_stored(error)
