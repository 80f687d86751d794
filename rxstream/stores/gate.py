"""Counting the calls that are under way, so that closing waits for them and refuses others."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .._forks import renew_in_child
from ..errors import ClosedError

if TYPE_CHECKING:
    from types import TracebackType


class Gate:
    """``with gate:`` around every call. Raises ``ClosedError`` once it was closed."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._changed = threading.Condition(threading.Lock())
        self._calls = 0
        self._closed = False
        renew_in_child(self, Gate._after_fork)

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise ClosedError(f"{self._what} is closed; open it again")
            self._calls += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._changed:
            self._calls -= 1
            self._changed.notify_all()

    def close(self) -> bool:
        """Refuse calls, and wait for those under way. False when it was closed before."""
        with self._changed:
            was, self._closed = self._closed, True
            self._changed.wait_for(lambda: self._calls == 0)
        return not was

    def _after_fork(self) -> None:
        # In the child, where the calls of other threads do not exist, and never end.
        self._changed = threading.Condition(threading.Lock())
        self._calls = 0
