"""Stores behind a connection: trying again, and getting to know what became of a lost call."""

from __future__ import annotations

import random
import secrets
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, TypeVar

from ..errors import StoreUnavailable
from ..store import REQUESTS_KEPT
from .base import BaseStore
from .gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from .rows import Meta, Rows

T = TypeVar("T")
_FIRST_DELAY = 0.02
_UNKNOWN = "It is not known whether the call took effect: look, then repeat it"


class Lost(Exception):
    """The connection broke, or the service was not there. Says why, and what to do."""

    def __init__(self, message: str, *, in_doubt: bool = False) -> None:
        super().__init__(message)
        self.in_doubt = in_doubt
        """Whether what was being stored may have been."""


class Outrun(Exception):
    """Somebody else wrote to the memory meanwhile; nothing was stored."""


class RemoteStore(BaseStore):
    """``BaseStore`` for services: implement ``_read_once``, ``_write_once`` and the rest.

    A call whose connection breaks is tried again for ``patience`` seconds from then on. Commits and
    appends get a request id of their own, so that one that was stored just before the connection
    broke is not stored twice; when so many were made since then that a memory may have forgotten
    it, that is said instead of guessed. ``place`` names the service in messages.
    """

    def __init__(self, place: str, patience: float) -> None:
        super().__init__()
        self._place, self._patience = place, patience
        self._gate = Gate(f"the store {place}")

    @abstractmethod
    def _read_once(self, key: str, work: Callable[[Rows], T]) -> T:
        """``_read``, but raises ``Lost`` and ``Outrun``."""

    @abstractmethod
    def _write_once(self, key: str, work: Callable[[Rows], T]) -> T:
        """``_write``, but raises ``Lost`` and ``Outrun``."""

    def _read(self, key: str, work: Callable[[Rows], T]) -> T:
        return self._persist(lambda: self._read_once(key, work))

    def _write(self, key: str, work: Callable[[Rows], T], *, repeatable: bool = False) -> T:
        read: Meta | None = None  # by the attempt that was made last
        doubted: Meta | None = None  # by the one of which nobody knows what became

        def checked(rows: Rows) -> T:
            nonlocal read, doubted
            read = rows.meta()
            if doubted is not None and not _remembers(read, doubted):
                raise StoreUnavailable(f"{self._place}: the connection broke. {_UNKNOWN}")
            doubted = None
            return work(rows)

        def once() -> T:
            nonlocal doubted
            try:
                return self._write_once(key, checked)
            except Lost as exc:
                if exc.in_doubt:
                    doubted = read
                raise

        return self._persist(once, repeatable)

    def _request(self) -> str:
        return secrets.token_hex(8)

    def _persist(self, call: Callable[[], T], repeatable: bool = False) -> T:
        """Call until it succeeds or patience ends. Raises ``StoreUnavailable``."""
        ends: float | None = None  # nothing broke yet
        delay, outrun = _FIRST_DELAY, 0
        while True:
            try:
                with self._gate:
                    return call()
            except Outrun:
                outrun += 1
                # The service answers: what breaks after a long race is as young as after a short.
                ends, delay = None, _FIRST_DELAY
                # Writers that begin anew at the same time would get in each other's way again.
                time.sleep(random.random() * min(0.002 * outrun, 0.1))
            except Lost as exc:
                if exc.in_doubt and not repeatable:
                    raise StoreUnavailable(f"{self._place}: {exc} {_UNKNOWN}") from exc
                if ends is None:  # not since the call began: a server may break after long work
                    ends = time.monotonic() + self._patience
                if time.monotonic() + delay > ends:
                    raise StoreUnavailable(f"{self._place}: {exc}") from exc
                time.sleep(delay)
                delay = min(2 * delay, 1.0)


def _remembers(now: Meta, then: Meta) -> bool:
    """Whether a memory still remembers all requests that were made since it was ``then``."""
    if not then.requests:
        return len(now.requests) < REQUESTS_KEPT
    return next(reversed(then.requests)) in now.requests
