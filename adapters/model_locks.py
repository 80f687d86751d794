"""Locks around a model that several runtimes share."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rxstream._forks import renew_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator


class ModelLocks:
    """A runtime makes one call of a kind at a time, but does not know of another one's calls.

    ``decoding`` is for ``start``, ``step`` and ``finish``, ``updating`` for ``encode`` and
    ``attend``: another one only if these may run beside the others. A forked child has fresh ones.
    """

    def __init__(self, *, apart: bool) -> None:
        self._apart = apart
        self._renew()
        renew_in_child(self, ModelLocks._renew)

    def _renew(self) -> None:
        self.decoding = threading.Lock()
        self.updating = threading.Lock() if self._apart else self.decoding

    @contextmanager
    def all(self) -> Iterator[None]:
        """Nobody calls anything."""
        with self.decoding:
            if not self._apart:
                yield
                return
            with self.updating:
                yield
