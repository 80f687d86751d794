"""The whole store contract over ``Rows``: a store that extends it only has to keep rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import StoreCorrupt
from ..snapshot import MAX_NUMBER
from . import branching, rules
from .finding import alive, meta_of, remove_all
from .logs import Logs
from .versions import Versions
from .watching import Watchers

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator

    from ..store import VersionInfo
    from .rows import Rows


class BaseStore(Versions, Logs):
    """``Store``, for whoever implements ``_read``, ``_write``, ``_names`` and ``_close``.

    ``docs/store-authors.md`` shows how. What is public here is documented at ``Store``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watchers = Watchers(self)

    def fork(self, source: str, target: str, *, version: int | None = None) -> VersionInfo:
        return branching.fork(self, source, target, version)

    def rollback(self, key: str, version: int) -> VersionInfo:
        return branching.rollback(self, key, version)

    def sweep(self) -> int:
        def work(rows: Rows) -> bool:
            expired = rows.meta().live and not meta_of(rows).live
            alive(rows)
            return expired

        swept, damage = 0, None
        for key in self._expired():
            try:
                swept += self._write(key, work)
            except StoreCorrupt as exc:  # is told when all others were swept
                damage = damage or exc
        self._clean()
        if damage is not None:
            raise damage
        return swept

    def list(
        self, prefix: str = "", *, after: str = "", limit: int | None = None
    ) -> builtins.list[str]:
        rules.check_limit(limit)
        if limit == 0:
            return []
        return self._names(prefix, after, None if limit is None else min(limit, MAX_NUMBER))

    def watch(
        self, key: str, *, after: int | None = None, timeout: float | None = None
    ) -> Iterator[VersionInfo]:
        return self._watchers.watch(rules.check_key(key), after, timeout)

    def delete(self, key: str) -> None:
        def work(rows: Rows) -> None:
            meta = alive(rows)
            if meta.live:
                remove_all(rows, meta.after_delete())

        self._write(rules.check_key(key), work)

    def close(self) -> None:
        self._close()
        self._watchers.notify()
