"""Steps of a ``NativeDecoder`` that are computed before they are asked for."""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING

from . import library

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .decoder import NativeDecoder


class RunAhead:
    """A thread that goes on with the most probable tokens, up to two steps before its reader.

    So whatever is done with a token in Python takes no time from the next one. The thread sleeps
    when it may not go on, touches no Python object, and ends with this object. In a forked child it
    is not there: a run is over then, and the next one begins another thread.

    Args:
        ends: tokens after which a row, and with it the run, goes on no further.
    """

    def __init__(self, decoder: NativeDecoder, ends: Sequence[int]) -> None:
        self._decoder, self._ends = decoder, tuple(ends)
        self._library = library.load()
        self._run = self._library.rxt_ahead_new()
        if not self._run:
            raise MemoryError("no memory for a thread's state")
        # The thread computes in the decoder's tensors: those stay until it has ended.
        weakref.finalize(self, _free, self._library, self._run, decoder)
        self._count = 0
        self._best = (ctypes.c_int32 * 0)()

    def begin(self, ids: Sequence[int], positions: Sequence[int], most: int) -> bool:
        """Begin ``most`` steps of the first rows, whose next tokens are ``ids``. False: no thread
        could be started, and there is no run. Until ``halt`` the decoder may do nothing else."""
        if len(ids) != self._count:
            self._count, self._best = len(ids), (ctypes.c_int32 * len(ids))()
        return self._decoder.begin(self._run, ids, positions, most, self._ends)

    def take(self) -> list[int] | None:
        """Wait for the tokens of the next step. None: the run has no further step."""
        if not self._library.rxt_ahead_take(self._run, self._best):
            return None
        return self._best[:]

    def halt(self) -> None:
        """Begin no further step, and wait for the one under way. Those that were made can still be
        taken."""
        self._library.rxt_ahead_halt(self._run)


def _free(loaded: ctypes.CDLL, run: int, decoder: NativeDecoder) -> None:
    loaded.rxt_ahead_free(run)
    del decoder
