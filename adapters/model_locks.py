"""Locks around a model that several runtimes share."""

from __future__ import annotations

import os
import threading
import weakref


class ModelLocks:
    """A runtime makes one call of a kind at a time, but does not know of another one's calls.

    ``decoding`` is for ``start``, ``step`` and ``finish``, ``updating`` for ``encode`` and
    ``attend``: another one only if these may run beside the others. A forked child has fresh ones.
    """

    def __init__(self, *, apart: bool) -> None:
        self._apart = apart
        self._renew()
        _all.add(self)

    def _renew(self) -> None:
        self.decoding = threading.Lock()
        self.updating = threading.Lock() if self._apart else self.decoding


_all: weakref.WeakSet[ModelLocks] = weakref.WeakSet()


def _after_fork() -> None:
    # Whoever held a lock is a thread of the parent.
    for locks in _all:
        locks._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
