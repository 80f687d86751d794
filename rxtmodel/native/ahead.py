"""Steps of a ``NativeDecoder``, and the update after them, computed before they are asked for."""

# Shape suffixes: L layers, T tokens, S slots, D width.

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING, Any

import torch

from . import library
from .room import Room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from . import structs
    from .decoder import NativeDecoder
    from .encoder import NativeDeltaWrite, NativeEncoder


class RunAhead:
    """A thread that goes on with the most probable tokens, up to two steps before its reader.

    So whatever is done with a token in Python takes no time from the next one. Nor does what is
    done with the last one of an answer: meanwhile the thread encodes the interaction, if it was the
    only row, and folds it into the memory that the row had read.

    The thread sleeps when it may not go on, touches no Python object, and ends with this object. In
    a forked child it is not there: a run is over then, and the next one begins another thread.

    Args:
        ends: tokens after which a row, and with it the run, goes on no further.
        encoder: encodes interactions that end; None: nothing is encoded.
        write: folds them into memories; None: nothing is folded.
        eos: the token with which they end, drawn or not.
    """

    def __init__(
        self,
        decoder: NativeDecoder,
        ends: Sequence[int],
        encoder: NativeEncoder | None = None,
        write: NativeDeltaWrite | None = None,
        eos: int = -1,
    ) -> None:
        self._decoder, self._ends = decoder, tuple(ends)
        self._encoder, self._write, self._eos = encoder, write, eos
        self._room: Room | None = None
        self._encoded: Tensor | None = None
        """What was given out of the last run."""
        self._library = library.load()
        self._run = self._library.rxt_ahead_new()
        if not self._run:
            raise MemoryError("no memory for a thread's state")
        # The thread computes in tensors of these: they stay until it has ended.
        self._used: list[Any] = [decoder]
        # At the end of the process others may still be in a call: what they look at stays.
        weakref.finalize(self, _free, self._library, self._run, self._used).atexit = False
        weakref.finalize(self, self._library.rxt_ahead_end, self._run)
        self._count = 0
        self._best = (ctypes.c_int32 * 0)()

    def begin(
        self,
        ids: Sequence[int],
        positions: Sequence[int],
        most: int,
        said: Sequence[int] | None = None,
        memory_LSD: Tensor | None = None,
    ) -> bool:
        """Begin ``most`` steps of the first rows, whose next tokens are ``ids``. False: there is no
        run, since the thread is still busy with the last interaction, or could not be started.
        Until ``halt`` the decoder may do nothing else.

        ``said``: all of the interaction so far; None where it is not to be encoded. ``memory``:
        what it will be folded into, which must not change; None where that is not known.
        """
        if not self._library.rxt_ahead_forget(self._run):
            return False
        if len(ids) != self._count:
            self._count, self._best = len(ids), (ctypes.c_int32 * len(ids))()
        self._encoded = None
        whole = None if said is None else self._interaction(said, most, memory_LSD)
        return self._decoder.begin(self._run, ids, positions, most, self._ends, whole)

    def _interaction(
        self, said: Sequence[int], most: int, memory_LSD: Tensor | None
    ) -> structs.Interaction | None:
        encoder = self._encoder
        if encoder is None or len(said) > encoder.longest:
            return None
        tokens = min(len(said) + most + 1, encoder.longest)
        if self._room is None or self._room.longest < tokens:
            longest = min(1 << tokens.bit_length(), encoder.longest)
            self._room = Room(encoder, self._write, longest)
            self._used[1:] = [self._room]
        return self._room.interaction(said, self._eos, memory_LSD)

    def take(self) -> list[int] | None:
        """Wait for the tokens of the next step. None: the run has no further step."""
        if not self._library.rxt_ahead_take(self._run, self._best):
            return None
        return self._best[:]

    def halt(self) -> None:
        """Begin no further step, and wait for the one under way. Those that were made can still be
        taken."""
        self._library.rxt_ahead_halt(self._run)

    def encoded(self, ids: Sequence[int]) -> Tensor | None:
        """The interaction of the last run, encoded, [L, 1, T, D]: once. None: it was not ``ids``
        that it ended as."""
        if self._encoder is None or self._room is None or len(ids) > self._room.longest:
            return None
        if self._encoded is not None:
            return None
        out_L1TD = torch.empty(self._encoder.shape(len(ids)))
        there = self._library.rxt_ahead_encoded(
            self._run, (ctypes.c_int32 * len(ids))(*ids), len(ids), out_L1TD.data_ptr()
        )
        if there:
            self._encoded = out_L1TD
        return self._encoded

    def folded(self, memory_LSD: Tensor, encoded_L1TD: Tensor) -> Tensor | None:
        """What ``encoded`` gave, folded into the memory of the run: once. None: not these."""
        room = self._room
        if room is None or self._encoded is not encoded_L1TD or room.memory_LSD is not memory_LSD:
            return None
        room.memory_LSD = None
        out_LSD = torch.empty_like(memory_LSD)
        there = self._library.rxt_ahead_folded(self._run, out_LSD.data_ptr())
        return out_LSD if there else None


def _free(loaded: ctypes.CDLL, run: int, used: list[Any]) -> None:
    loaded.rxt_ahead_free(run)
    used.clear()
