"""Storing a version before it is told (``durability="sync"``)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ._turn import Phase, Turn
from .errors import VersionConflict

if TYPE_CHECKING:
    from ._memorize import Memorizer
    from .snapshot import Snapshot


class Committer:
    """From a computed update to the version in the store. An update may fail at any moment."""

    def __init__(self, memorizer: Memorizer) -> None:
        self._memorizer, self._machine = memorizer, memorizer.machine
        self._engine = memorizer.engine

    def start(self, turn: Turn) -> None:
        """Lock held. Its value is computed, and its record on the log."""
        turn.committing = True
        self._machine.after(partial(self._engine.on_dump, partial(self._dump, turn)))

    def _dump(self, turn: Turn) -> None:
        """On the lane for dumps: the next version as it will stand in the store."""
        if self._ended(turn):
            return
        try:
            state = self._engine.model.dump(turn.value)
            assert turn.seq is not None
            snapshot = self._memorizer.snapshot_of(
                state,
                version=turn.base_version + 1,
                log_seq=turn.seq,
                keys=(*self._memorizer.keys, *((turn.key,) if turn.key is not None else ())),
            )
        except Exception as exc:
            self._failed_late(turn, exc, "dump")
            return
        self._engine.on_io(partial(self._store, turn, snapshot))

    def _store(self, turn: Turn, snapshot: Snapshot) -> None:
        """On the io lane."""
        if self._ended(turn):
            return
        try:
            self._memorizer.persister.commit(snapshot)
        except VersionConflict as conflict:
            with self._machine:
                if turn.phase is Phase.UPDATING:
                    self._memorizer.conflict(turn, conflict)
                else:
                    self._memorizer.release()
            return
        except Exception as exc:
            self._failed_late(turn, exc, "store")
            return
        with self._machine:
            self._memorizer.persister.note_stored(snapshot)
            if turn.phase is Phase.UPDATING:
                self._memorizer.commit(turn, snapshot.digest, durable=True)
            else:
                # It failed meanwhile (timeout, abort), but stands in the store: put the old back.
                self._memorizer.restorer.running = False
                self._memorizer.restorer.put_back()

    def _ended(self, turn: Turn) -> bool:
        """Whether it failed before it reached the store. Then those that wait may go on."""
        with self._machine:
            if turn.phase is Phase.UPDATING:
                return False
            self._memorizer.release()
            return True

    def _failed_late(self, turn: Turn, error: Exception, reason: str) -> None:
        with self._machine:
            if turn.phase is Phase.UPDATING:
                turn.committing = False
                self._memorizer.failed(turn, error, reason)
            else:
                self._memorizer.release()
