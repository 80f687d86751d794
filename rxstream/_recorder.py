"""Interactions on their way to the store's log, and out of it again when they had no effect."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from ._turn import Phase, Turn
from .store import LogRecord

if TYPE_CHECKING:
    from ._memorize import Memorizer


class Recorder:
    """Appends for one memory. Guarded by its machine's lock where nothing else is said."""

    def __init__(self, memorizer: Memorizer, last_seq: int) -> None:
        self._memorizer, self._machine = memorizer, memorizer.machine
        self._engine = memorizer.engine
        self.last_seq = last_seq
        """The last log record that we know of; of the io lane."""
        self.forgotten: set[int] = set()
        """Log records of updates that ended without effect; a rebase leaves them out."""

    def append(self, turn: Turn, *, remembered: bool) -> None:
        """On the io lane, without the lock."""
        assert turn.completed is not None and turn.answer is not None
        record = LogRecord(
            seq=0,
            interaction=turn.id,
            conversation=turn.channel.name,
            completed=turn.completed,
            key=turn.key,
            remembered=remembered,
            created_at=time.time(),
        )
        memorizer = self._memorizer
        error, seq, stale = None, None, memorizer.stale
        try:
            seq = turn.context.run(self._engine.store.append, self._machine.name, record).seq
            stale = self._is_stale(seq)
        except Exception as exc:
            error = exc
        with self._machine:
            turn.seq, turn.log_error, memorizer.stale = seq, error, stale
            if remembered and turn.phase is Phase.OVER:
                self.forget(turn)  # it failed while the record was on its way
            elif turn.phase is Phase.UPDATING:
                memorizer.try_commit(turn)
            elif stale and memorizer.on_conflict == "rebase":
                memorizer.rebaser.want()
            memorizer.answer(turn)

    def _is_stale(self, seq: int) -> bool:
        """Whether the log has what somebody else remembers, and our value does not. On the io
        lane, without the lock."""
        last, self.last_seq = self.last_seq, seq
        if seq == last + 1 and not self._memorizer.stale:
            return False
        return any(
            record.remembered and not self._machine.is_ours(record.interaction)
            for record in self._engine.store.log(self._machine.name, after=self._memorizer.log_seq)
        )

    def forget(self, turn: Turn) -> None:
        """Its update ended without effect: the record is no part of the memory."""
        if turn.seq is not None:
            name, seq, store = self._machine.name, turn.seq, self._engine.store
            turn.seq = None
            if self._memorizer.on_conflict == "rebase":
                self.forgotten.add(seq)
            self._machine.after(partial(self._engine.on_io, partial(store.forget, name, seq)))
