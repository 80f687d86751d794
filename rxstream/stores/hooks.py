"""What a store that keeps rows has to do; the rest of the contract is built on it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store import Capability
    from .rows import Rows
    from .watching import Watchers

T = TypeVar("T")


class Hooks(ABC):
    """``_read``, ``_write``, ``_names`` and ``_close`` are the store's own."""

    capabilities: frozenset[Capability] = frozenset()

    _hashes_beside = False
    """Whether a large version is hashed on a thread while it is written: rows have ``begin``."""

    _keeps_body = False
    """Whether the body of a version is kept as it is given, uncopied: rows have ``begin``."""

    _watchers: Watchers

    def __init__(self) -> None:
        self._skew = 0.0
        """Seconds by which tests set the store's clock forward."""

    def _now(self) -> float:
        """Of the store's clock, if it has none of its own: seconds since the Unix epoch."""
        return time.time() + self._skew

    @abstractmethod
    def _read(self, key: str, work: Callable[[Rows], T]) -> T:
        """Run ``work`` on one state of a memory. It may be run again, on a newer one."""

    @abstractmethod
    def _write(self, key: str, work: Callable[[Rows], T], *, repeatable: bool = False) -> T:
        """Run ``work``; what it wrote is stored when it returns, and undone when it raises.

        Nobody else may write to the memory in between; a store that cannot see to that runs
        ``work`` again when somebody did. With ``repeatable`` it may also be run again when nobody
        knows whether it was stored: it looks for its own request first.
        """

    def _request(self) -> str | None:
        """A request id for a call without one, where a call may be in doubt."""
        return None

    @abstractmethod
    def _names(self, prefix: str, after: str, limit: int | None) -> list[str]:
        """Names of live memories; see ``Store.list``. ``limit`` is None or positive."""

    @abstractmethod
    def _close(self) -> None:
        """See ``Store.close``."""

    def _expired(self) -> list[str]:
        """Names of memories that have expired, but were not deleted yet, or may have."""
        return []

    def _clean(self) -> None:  # noqa: B027 - there may be nothing to do
        """Free what killed writers left behind."""
