"""Locks that know who holds them, and a probe that asks wherever the library calls out."""

from __future__ import annotations

import sys
import threading
from collections import Counter

SIGNALS = {
    ("rxstream._cursor", "__init__"),  # the baton: tried, never waited for
    ("rxstream._readers", "_wait"),
    ("rxstream.log", "wait_ready"),
}
"""Where ``threading.Lock`` is made that excludes nobody: it is a token or a signal."""
_Lock = threading.Lock


class Watched:
    """A lock that knows its holder."""

    def __init__(self, where: str) -> None:
        self._lock, self._where = _Lock(), where

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        got = self._lock.acquire(blocking, timeout)
        if got:
            held.setdefault(threading.get_ident(), []).append(self._where)
        return got

    def release(self) -> None:
        held[threading.get_ident()].remove(self._where)
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


held: dict[int, list[str]] = {}


def make_lock():
    """In place of ``threading.Lock``: one of the library's is watched."""
    frame = sys._getframe(1)
    module, function = frame.f_globals["__name__"], frame.f_code.co_name
    ours = module.startswith("rxstream") and not module.startswith("rxstream.testing")
    if not ours or (module, function) in SIGNALS:
        return _Lock()
    return Watched(f"{module}:{function}:{frame.f_lineno}")


class Probe:
    """Notes, for each place where user code runs, how often it ran and under which locks."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.under: list[tuple[str, list[str]]] = []

    def __call__(self, place: str) -> None:
        self.calls[place] += 1
        if mine := held.get(threading.get_ident()):
            self.under.append((place, list(mine)))

    def around(self, target, *methods):
        for name in methods:
            setattr(target, name, self._probed(getattr(target, name), name))

    def _probed(self, method, name):
        def probed(*args, **options):
            self(name)
            return method(*args, **options)

        return probed

    def subscribe(self, place, stream):
        return stream.subscribe(
            lambda item: self(f"{place}.on_next"),
            lambda error: self(f"{place}.on_error"),
            lambda: self(f"{place}.on_completed"),
        )
